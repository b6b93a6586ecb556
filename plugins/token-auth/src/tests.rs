//! What `token-auth` answers, as data; no broker. The tokens were made with
//! `printf %s 'dev-1.1700000060' | openssl dgst -sha256 -hmac 0123456789abcdef` and the like.

use wasmqtt_plugin::{Decision, mock, reason_code};

use super::TokenAuth;

const CONFIG: &str = r#"{"key": "0123456789abcdef"}"#;
/// Expires 60 s after the mock's clock starts.
const TOKEN: &str =
    "dev-1.1700000060.67137ff2d1ee0374eb0881bdf66fff054bd976119ac122663fde3a3a6308d32f";
const DOTTED: &str =
    "a.b.1.1700000060.8cdef04522a9a95bee40b13be4bb9b8444e225c51706929b9d49dff8206ca084";
const EXPIRED: &str =
    "dev-1.1700000000.6ae4a707c1865cc9565df7423085ebac0741d9b6415ff593b7b1ef8f6b6476df";
const TOO_LARGE: &str =
    "dev-1.99999999999999999999.a7ab2fe90d360ea7b48f83f3b0189a2d0eb346388b81816beb972a221be15c0b";

#[track_caller]
fn authenticate(client_id: &str, password: Option<&[u8]>) -> mock::Authenticated {
    let mut plugin: TokenAuth = mock::start(CONFIG).expect("the configuration is good");
    mock::authenticate(&mut plugin, &mock::Connection::new(client_id), password)
}

#[track_caller]
fn check_denied(client_id: &str, password: &str, reason: &str) {
    let answer = authenticate(client_id, Some(password.as_bytes()));
    let Decision::Deny(denial) = answer.decision else { panic!("{:?}", answer.decision) };
    assert_eq!(denial.code, reason_code::BAD_USER_NAME_OR_PASSWORD);
    let told = denial.reason.expect("a reason");
    assert!(told.contains(reason), "{told}");
    assert_eq!(answer.grant, mock::Granted::default());
}

#[test]
fn a_good_token_makes_the_client_the_principal_until_it_expires() {
    for (client_id, token) in [("dev-1", TOKEN), ("a.b.1", DOTTED)] {
        let answer = authenticate(client_id, Some(token.as_bytes()));
        assert_eq!(answer.decision, Decision::Allow);
        assert_eq!(answer.grant.principal.as_deref(), Some(client_id));
        assert_eq!(answer.grant.expires_at, Some(1_700_000_060));
    }
}

#[test]
fn a_token_of_another_client_is_denied() {
    check_denied("dev-2", TOKEN, "another client");
    check_denied("1", DOTTED, "another client");
}

#[test]
fn a_forged_token_is_denied() {
    check_denied("dev-1", &TOKEN.replace("1700000060", "1800000060"), "signature");
    check_denied("dev-2", &TOKEN.replace("dev-1", "dev-2"), "signature");
    check_denied("dev-1", &TOKEN[..TOKEN.len() - 1], "signature");
    check_denied("dev-1", &format!("{TOKEN}0"), "signature");
    check_denied("dev-1", &format!("{}x", &TOKEN[..TOKEN.len() - 1]), "signature");
    check_denied("dev-1", "dev-1.1700000060.00", "signature");
    check_denied("dev-1", &TOKEN.replace("dev-1.", "dev-1.0"), "signature");
}

#[test]
fn an_expired_token_is_denied() {
    check_denied("dev-1", EXPIRED, "expired");

    let mut plugin: TokenAuth = mock::start(CONFIG).expect("the configuration is good");
    let connection = mock::Connection::new("dev-1");
    mock::advance_clock_ms(59_999);
    let last = mock::authenticate(&mut plugin, &connection, Some(TOKEN.as_bytes()));
    assert_eq!(last.decision, Decision::Allow);
    mock::advance_clock_ms(1);
    check_denied("dev-1", TOKEN, "expired");
}

#[test]
fn an_expiry_of_more_than_64_bits_is_denied() {
    check_denied("dev-1", TOO_LARGE, "too large");
}

#[test]
fn what_is_no_token_is_left_to_others() {
    for password in
        ["", "secret", "..", "dev-1.soon.abc", "dev-1.1700000060.", "dev-1.1700000060", "1.2.a b"]
    {
        let answer = authenticate("dev-1", Some(password.as_bytes()));
        assert_eq!(answer.decision, Decision::Next, "{password}");
    }
    assert_eq!(authenticate("dev-1", None).decision, Decision::Next);
    assert_eq!(authenticate("dev-1", Some(b"\xff.1.00")).decision, Decision::Next);
}

#[test]
fn a_bad_configuration_is_told_and_the_key_is_not() {
    for (config, word) in [
        ("{}", "key"),
        (r#"{"key": "0123456789abcde"}"#, "16 bytes"),
        (r#"{"key": "0123456789abcdef", "other": 1}"#, "other"),
    ] {
        let error = mock::start::<TokenAuth>(config).err().expect(config);
        assert!(error.contains(word), "{error}");
        assert!(!error.contains("0123456789"), "{error}");
    }
}
