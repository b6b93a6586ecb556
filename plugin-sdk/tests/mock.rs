//! The mock broker keeps the contract that authors test against; no plugin's behaviour is tested.

use wasmqtt_plugin::{
    Authenticate, Connection, Decision, Grant, Message, OnPublish, Plugin, QoS, Startup, Verdict,
    clock, kv, log, mock,
};

/// Writes to everything a hook can write to.
struct Scribe {
    config: String,
}

impl Plugin for Scribe {
    fn init(startup: &Startup<'_>) -> Result<Self, String> {
        match startup.config().as_str() {
            "bad" => Err(format!("{}: bad", startup.tenant())),
            config => Ok(Scribe { config: config.to_owned() }),
        }
    }
}

impl Authenticate for Scribe {
    fn authenticate(
        &mut self,
        connection: &Connection<'_>,
        password: Option<&[u8]>,
        grant: &Grant<'_>,
    ) -> Decision {
        grant.set_principal(&connection.client_id());
        for role in connection.roles() {
            grant.add_role(&role);
        }
        grant.set_attribute("color", &connection.attribute("color").unwrap_or_default());
        grant.set_expires_at(clock::now_unix_ms() / 1000 + 1);
        if password.is_some() { Decision::Allow } else { Decision::bad_credentials("no password") }
    }
}

impl OnPublish for Scribe {
    fn on_publish(&mut self, _: &Connection<'_>, message: &Message<'_>) -> Verdict {
        let before = (message.topic(), message.payload(), message.qos(), message.retain());
        message.set_topic(&self.config);
        message.set_payload(message.user_property("payload").unwrap_or_default().as_bytes());
        message.set_qos(QoS::ExactlyOnce);
        message.set_retain(true);
        let after = (message.topic(), message.payload(), message.qos(), message.retain());
        if before == after { Verdict::Pass } else { Verdict::discard() }
    }
}

#[test]
fn init_answers_the_plugin_or_its_error() {
    assert!(mock::start::<Scribe>("{}").is_ok());
    assert_eq!(mock::start::<Scribe>("bad").err().as_deref(), Some("default: bad"));
}

#[test]
fn what_authenticate_grants_is_seen() {
    let mut plugin: Scribe = mock::start("{}").unwrap();
    let mut connection = mock::Connection::new("c");
    connection.roles = vec!["a".to_owned(), "b".to_owned()];
    connection.attributes.insert("color".to_owned(), "red".to_owned());
    let answer = mock::authenticate(&mut plugin, &connection, Some(b"x"));
    assert_eq!(answer.decision, Decision::Allow);
    assert_eq!(answer.grant.principal.as_deref(), Some("c"));
    assert_eq!(answer.grant.roles, ["a", "b"]);
    assert_eq!(answer.grant.attributes["color"], "red");
    assert_eq!(answer.grant.expires_at, Some(mock::START_UNIX_MS / 1000 + 1));
    let answer = mock::authenticate(&mut plugin, &connection, None);
    assert_eq!(answer.decision, Decision::bad_credentials("no password"));
}

#[test]
fn a_message_reads_as_it_came_in_also_after_a_change() {
    let mut plugin: Scribe = mock::start("new/topic").unwrap();
    let mut message = mock::Message::new("a/b", "old");
    message.user_properties = vec![("payload".to_owned(), "new".to_owned())];
    let published = mock::on_publish(&mut plugin, &mock::Connection::new("c"), &message);
    assert_eq!(published.verdict, Verdict::Pass);
    let mut changed = mock::Message::new("new/topic", "new");
    changed.qos = QoS::ExactlyOnce;
    changed.retain = true;
    changed.user_properties = message.user_properties;
    assert_eq!(published.message, changed);
}

#[test]
fn a_stored_value_lives_until_its_time_is_over() {
    assert_eq!(kv::get("k"), None);
    assert_eq!(kv::set("k", b"short", Some(1000)), Ok(()));
    mock::advance_clock_ms(999);
    assert_eq!(kv::get("k").as_deref(), Some(&b"short"[..]));
    mock::advance_clock_ms(1);
    assert_eq!(kv::get("k"), None);

    assert_eq!(kv::set("k", b"long", None), Ok(()));
    mock::fail_kv(Some(kv::Error::QuotaExceeded));
    assert_eq!(kv::set("k", b"other", None), Err(kv::Error::QuotaExceeded));
    assert_eq!(kv::get("k").as_deref(), Some(&b"long"[..]));
    kv::remove("k");
    assert_eq!(kv::get("k"), None);
    mock::fail_kv(None);
    assert_eq!(kv::set("k", &vec![0; 1 << 20], None), Err(kv::Error::TooLarge));
}

#[test]
fn logged_lines_are_taken_once() {
    log::warn("one");
    log::info("two");
    let lines = [(log::Level::Warn, "one".to_owned()), (log::Level::Info, "two".to_owned())];
    assert_eq!(mock::take_logs(), lines);
    assert_eq!(mock::take_logs(), []);
}
