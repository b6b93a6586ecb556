//! `token-auth`: the password is `client_id.expiry.signature`, made by whoever has the key. The
//! token's format lives here, minting tokens does not.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use wasmqtt_plugin::{Authenticate, Connection, Decision, Grant, Plugin, Startup, clock, export};

/// Shorter keys can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// The largest expiry that fits 64 bits has so many digits.
const EXPIRY_DIGITS_MAX: usize = 20;

const SIGNATURE_BYTES: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    key: String,
}

/// The plugin.
pub struct TokenAuth {
    /// Keyed, and cloned for each token.
    hmac: Hmac<Sha256>,
}

impl Plugin for TokenAuth {
    fn init(startup: &Startup) -> Result<Self, String> {
        let config: Config =
            serde_json::from_str(&startup.config()).map_err(|error| format!("config: {error}"))?;
        if config.key.len() < KEY_BYTES_MIN {
            return Err(format!("config: key has fewer than {KEY_BYTES_MIN} bytes"));
        }
        let hmac = Hmac::new_from_slice(config.key.as_bytes())
            .map_err(|_| "config: key has a length that HMAC does not take")?;
        Ok(TokenAuth { hmac })
    }
}

impl Authenticate for TokenAuth {
    fn authenticate(
        &mut self,
        connection: &Connection,
        password: Option<&[u8]>,
        grant: &Grant,
    ) -> Decision {
        let password = password.and_then(|password| str::from_utf8(password).ok());
        let Some(token) = password.and_then(Token::split) else {
            return Decision::Next;
        };
        // The signature comes first: nothing else of a forged token is answered about.
        if !self.signed(&token) {
            return Decision::bad_credentials("the token's signature is wrong");
        }
        let client_id = connection.client_id();
        if token.client_id != client_id {
            return Decision::bad_credentials("the token is for another client identifier");
        }
        let Ok(expires_at) = token.expiry.parse() else {
            return Decision::bad_credentials("the token's expiry is too large");
        };
        if clock::now_unix_ms() / 1000 >= expires_at {
            return Decision::bad_credentials("the token has expired");
        }
        grant.set_principal(&client_id);
        grant.set_expires_at(expires_at);
        Decision::Allow
    }
}

impl TokenAuth {
    /// Compares in constant time, whatever the signature is.
    fn signed(&self, token: &Token<'_>) -> bool {
        let Some(signature) = from_hex(token.signature) else {
            return false;
        };
        let hmac = self.hmac.clone().chain_update(token.signed_text.as_bytes());
        hmac.verify_slice(&signature).is_ok()
    }
}

struct Token<'password> {
    /// `client_id.expiry`.
    signed_text: &'password str,
    client_id: &'password str,
    expiry: &'password str,
    signature: &'password str,
}

impl<'password> Token<'password> {
    /// Splits from the right, since a client identifier may contain dots; none for what does not
    /// look like a token.
    fn split(password: &'password str) -> Option<Self> {
        let (signed_text, signature) = password.rsplit_once('.')?;
        let (client_id, expiry) = signed_text.rsplit_once('.')?;
        let looks_like_a_token = (1..=EXPIRY_DIGITS_MAX).contains(&expiry.len())
            && expiry.bytes().all(|byte| byte.is_ascii_digit())
            && !signature.is_empty()
            && signature.bytes().all(|byte| byte.is_ascii_alphanumeric());
        looks_like_a_token.then_some(Token { signed_text, client_id, expiry, signature })
    }
}

fn from_hex(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * SIGNATURE_BYTES {
        return None;
    }
    let mut bytes = [0; SIGNATURE_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

export!(TokenAuth: Authenticate);

#[cfg(test)]
mod tests;
