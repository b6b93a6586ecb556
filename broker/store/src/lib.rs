//! What lasts in the wasmqtt broker: who may log in, with which roles, under which rules; and the
//! threads that verify passwords.
//! What must not live here: sockets, plugins, and any decision about a packet.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail that way"))]

mod authenticator;
mod database;
mod directory;
mod error;
mod hash_pool;
pub mod limits;
mod names;
mod password;
mod verdicts;

pub use authenticator::{Authenticator, LoginError, Verified};
pub use directory::{
    CredentialRow, Directory, NewPlugin, NewRule, NewUser, PluginRow, PrincipalKind, RemovedUser,
    RoleRow, RuleRow, TenantRow, UnknownKind, UserRecord, UserRow,
};
pub use error::StoreError;
pub use hash_pool::{HashPool, HashPoolError};
pub use names::{NameError, check_label, check_name};
pub use password::{BadHash, PasswordHash, generate_password};
