//! Whether a user name and a password are right, answered fast, in bounded memory, and without
//! telling a stranger who exists.
//! What must not live here: SQL, Argon2, and what the broker answers to the client.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::OnceCell;
use wasmqtt_core::ids::TenantId;

use crate::directory::{Directory, PrincipalKind};
use crate::error::StoreError;
use crate::hash_pool::{HashPool, HashPoolError};
use crate::limits::{FAILURES_REMEMBERED_MAX, LOGINS_REMEMBERED_MAX};
use crate::password::{PasswordHash, fill_random};
use crate::verdicts::{Key, Remembered};

/// A principal whose password was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its name in its tenant.
    pub name: Arc<str>,
    /// What it is.
    pub kind: PrincipalKind,
    /// Its roles, sorted.
    pub roles: Arc<[Arc<str>]>,
}

/// Why a login was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Unknown user, no password set, wrong password, disabled: on purpose one answer.
    #[error("bad user name or password")]
    WrongCredential,
    /// Too many logins at once; the client may try again later.
    #[error("too many logins at this moment")]
    Busy,
    /// The directory cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of the hash pool.
    #[error("cannot verify passwords: {0}")]
    Fault(String),
}

/// Verifies passwords against a [`Directory`].
///
/// The directory is read at each login, so a change of credential, role or `enabled` holds from the
/// next one. What is remembered is only whether a password fits a stored hash, under a key that is
/// made of both: the answer can never become wrong, hence nothing expires and a changed password is
/// forgotten by itself.
pub struct Authenticator {
    directory: Directory,
    pool: Arc<HashPool>,
    /// Keyed with random bytes of this process: the digests are worthless elsewhere, and nobody
    /// can choose a password that collides.
    digest: Hmac<Sha256>,
    /// Verified instead of a stored hash when there is none, so that it takes as long.
    dummy: PasswordHash,
    state: Mutex<State>,
}

struct State {
    right: Remembered,
    wrong: Remembered,
    flights: HashMap<Key, Flight>,
}

/// One verification that is under way, and those who wait for it.
type Flight = Arc<OnceCell<Result<bool, HashPoolError>>>;

impl Authenticator {
    /// An authenticator with an empty memory.
    ///
    /// # Errors
    /// [`StoreError::Random`].
    pub fn new(directory: Directory, pool: Arc<HashPool>) -> Result<Self, StoreError> {
        let mut key = [0; 32];
        fill_random(&mut key)?;
        Ok(Self {
            directory,
            pool,
            digest: Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"),
            dummy: PasswordHash::dummy()?,
            state: Mutex::new(State {
                right: Remembered::new(LOGINS_REMEMBERED_MAX),
                wrong: Remembered::new(FAILURES_REMEMBERED_MAX),
                flights: HashMap::new(),
            }),
        })
    }

    /// Whether `password` is that of the principal `username` of `tenant`, and who that is.
    ///
    /// # Errors
    /// `WrongCredential` for everything that is the client's; `Busy`; `Store` and `Fault`.
    pub async fn verify(
        &self,
        tenant: TenantId,
        username: &str,
        password: &[u8],
    ) -> Result<Verified, LoginError> {
        let login = match self.directory.login(tenant, username).await {
            // Nobody can hold a reader off for long: too many logins wait for a connection.
            Err(StoreError::Locked { .. }) => return Err(LoginError::Busy),
            other => other?,
        };
        let stored: &[String] = login.as_ref().map_or(&[], |login| &login.passwords);
        let right = self.fits_any(tenant, username, stored, password).await?;
        // Only here, after the hash was paid for: not to be told apart by time.
        let refused = match login {
            None => "no such user",
            Some(login) if login.passwords.is_empty() => "no password set",
            Some(_) if !right => "wrong password",
            Some(login) if !login.enabled => "disabled",
            Some(login) => {
                let (kind, roles) = (login.kind, login.roles);
                return Ok(Verified { name: Arc::from(username), kind, roles });
            }
        };
        tracing::debug!(tenant = tenant.0, user = ?username, reason = refused, "login refused");
        Err(LoginError::WrongCredential)
    }

    /// Whether the password fits one of the stored hashes. Without any usable one it costs a hash
    /// all the same, and fits none.
    async fn fits_any(
        &self,
        tenant: TenantId,
        username: &str,
        stored: &[String],
        password: &[u8],
    ) -> Result<bool, LoginError> {
        let mut usable = false;
        for phc in stored {
            match self.fits(tenant, username, phc, password).await {
                Ok(true) => return Ok(true),
                Ok(false) => usable = true,
                Err(HashPoolError::BadHash(reason)) => {
                    tracing::warn!(
                        tenant = tenant.0, user = ?username, %reason,
                        "stored password hash cannot be used: set a new password"
                    );
                }
                Err(error) => return refusal_of(error),
            }
        }
        if !usable {
            let dummy = self.fits(tenant, username, self.dummy.as_str(), password).await;
            dummy.map(drop).or_else(|error| refusal_of(error).map(drop))?;
        }
        Ok(false)
    }

    /// Whether the password fits this hash: from memory, from a verification that is under way, or
    /// by one of its own.
    async fn fits(
        &self,
        tenant: TenantId,
        username: &str,
        phc: &str,
        password: &[u8],
    ) -> Result<bool, HashPoolError> {
        let key = self.key(tenant, username, phc, password);
        let seat = match self.recall_or_board(key) {
            Ok(verdict) => return Ok(verdict),
            Err(seat) => seat,
        };
        // Should the one who verifies be cancelled (its client went away), another one goes on.
        let verdict = seat
            .flight
            .get_or_init(|| async {
                let verdict = self.pool.verify(phc, password).await;
                if let Ok(right) = verdict {
                    let mut state = self.lock();
                    if right {
                        state.right.insert(key);
                    } else {
                        state.wrong.insert(key);
                    }
                }
                verdict
            })
            .await;
        verdict.clone()
    }

    /// The remembered verdict, or else a seat in the verification of that key. Both under one lock:
    /// a verification that ends in between is not repeated.
    fn recall_or_board(&self, key: Key) -> Result<bool, Seat<'_>> {
        let mut state = self.lock();
        if state.right.contains(&key) {
            return Ok(true);
        }
        if state.wrong.contains(&key) {
            return Ok(false);
        }
        let flight = Arc::clone(state.flights.entry(key).or_default());
        Err(Seat { authenticator: self, key, flight })
    }

    /// A digest of everything that the verdict depends on. Each part is preceded by its length, so
    /// that no two different logins give the same bytes.
    fn key(&self, tenant: TenantId, username: &str, phc: &str, password: &[u8]) -> Key {
        let mut digest = self.digest.clone();
        for part in [&tenant.0.to_le_bytes(), username.as_bytes(), phc.as_bytes(), password] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into_bytes().into()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("directory", &self.directory)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// What a hash that did not happen means for the login.
fn refusal_of(error: HashPoolError) -> Result<bool, LoginError> {
    match error {
        HashPoolError::Busy | HashPoolError::Deadline => Err(LoginError::Busy),
        // No stored password is that long.
        HashPoolError::TooLong { .. } => Ok(false),
        HashPoolError::BadHash(_) | HashPoolError::Failed(_) => {
            Err(LoginError::Fault(error.to_string()))
        }
    }
}

/// A place in a flight. The last one to leave removes the flight.
struct Seat<'a> {
    authenticator: &'a Authenticator,
    key: Key,
    flight: Flight,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.authenticator.lock();
        // Two: this seat and the table. Seats are taken and left under the lock only.
        if Arc::strong_count(&self.flight) == 2 {
            state.flights.remove(&self.key);
        }
    }
}
