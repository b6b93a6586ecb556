//! What can go wrong in the store, in words for the operator: what, where, what to do.
//! What must not live here: the decision what a failure means for a client.

use std::io;
use std::path::{Path, PathBuf};

use crate::names::NameError;

/// A failed operation on the directory. The variant says who is at fault: the file, the machine, or
/// whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no file at that place.
    #[error(
        "no directory file at {}: create one with `wasmqtt create`, or correct the path", path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// `create` found something at that place.
    #[error("{} exists already: open it, or choose another place; nothing was changed", path.display())]
    AlreadyExists {
        /// Where it was to be created.
        path: PathBuf,
    },
    /// The operating system does not let this process at the file.
    #[error(
        "no permission to {action} {}: run as the user that owns it, or give that user the file \
         and its folder (mode 0600, folder 0700)",
        path.display()
    )]
    Permission {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// A file of something else.
    #[error(
        "{} is not a wasmqtt directory ({detail}): correct the path, or restore a \
         backup if it was one and its beginning is damaged; nothing was changed", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What shows it.
        detail: String,
    },
    /// A file that a newer version has written.
    #[error(
        "{} has schema version {found}, this program knows up to {known}: run the wasmqtt version \
         that wrote it, or restore a backup made before the upgrade; nothing was changed",
        path.display()
    )]
    Newer {
        /// The file's schema version.
        found: i64,
        /// The newest schema version of this program.
        known: i64,
        /// The file.
        path: PathBuf,
    },
    /// The file was ours and is broken.
    #[error(
        "{} is damaged ({detail}): stop the broker, keep a copy of the file and restore it from a \
         backup, or save what can be read with `sqlite3 FILE .recover`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Others kept the file locked, or all connections to it busy, for too long.
    #[error(
        "{} was locked or overloaded for {seconds} s: try again; if it stays so, look who else has \
         it open (`fuser FILE`)",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long was waited, seconds.
        seconds: u64,
    },
    /// No space left for the file.
    #[error("no space left to write {}: free some on that file system and try again", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// Any other failure of the operating system or the database.
    #[error("cannot {action} {}: {detail}; check the disk and the system log", path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause in the words of the system.
        detail: String,
    },
    /// The system gives no random numbers.
    #[error(
        "the operating system gives no random numbers ({detail}): check that getrandom or /dev/urandom works here"
    )]
    Random {
        /// The cause in the words of the system.
        detail: String,
    },
    /// A name that cannot be used.
    #[error("the {what}'s name {name:?} cannot be used: {reason}; choose another name")]
    BadName {
        /// Of what.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// Why.
        reason: NameError,
    },
    /// The principal exists.
    #[error(
        "user {name:?} exists already in this tenant: choose another name, or change that user"
    )]
    UserExists {
        /// Its name.
        name: String,
    },
    /// No such principal.
    #[error("no user {name:?} in this tenant: check the spelling against `wasmqtt user list`")]
    NoSuchUser {
        /// The name asked for.
        name: String,
    },
    /// The tenant exists.
    #[error("tenant {name:?} exists already: choose another name")]
    TenantExists {
        /// Its name.
        name: String,
    },
    /// No such tenant.
    #[error("no tenant {tenant}: check it against the list of tenants")]
    NoSuchTenant {
        /// The name or number asked for.
        tenant: String,
    },
    /// More roles than a principal may have.
    #[error("{count} roles for one user, at most {max} are possible: join some into one role")]
    TooManyRoles {
        /// How many were given.
        count: usize,
        /// How many are possible.
        max: usize,
    },
    /// A rule that cannot be stored.
    #[error("the rule for {pattern:?} cannot be used: {reason}")]
    BadRule {
        /// Its pattern, shortened.
        pattern: String,
        /// Why, and what is possible instead.
        reason: String,
    },
    /// No such rule.
    #[error("no rule {id} in this tenant: take the number from `wasmqtt acl list`")]
    NoSuchRule {
        /// The number asked for.
        id: i64,
    },
    /// No such plugin.
    #[error("no plugin {name:?} in this tenant: check the spelling against `wasmqtt plugin list`")]
    NoSuchPlugin {
        /// The name asked for.
        name: String,
    },
    /// A plugin's record that cannot be stored.
    #[error("the plugin {name:?} cannot be recorded: {reason}")]
    BadPlugin {
        /// Its name.
        name: String,
        /// Why, and what is possible instead.
        reason: String,
    },
}

impl StoreError {
    /// The failure of `action` on `path` as the operating system told it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "dozens of kinds, more with each Rust")]
    pub(crate) fn from_io(error: &io::Error, action: &'static str, path: &Path) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::AlreadyExists => Self::AlreadyExists { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permission { action, path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Failed { action, path, detail: error.to_string() },
        }
    }

    /// The failure of `action` on `path` as the database told it.
    pub(crate) fn from_sqlx(error: &sqlx::Error, action: &'static str, path: &Path) -> Self {
        let path = path.to_path_buf();
        let detail = error.to_string();
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::Locked { path, seconds: crate::limits::DATABASE_WAIT_SECONDS };
        }
        match primary_code(error) {
            Some(SQLITE_PERM | SQLITE_READONLY | SQLITE_AUTH) => Self::Permission { action, path },
            Some(SQLITE_BUSY | SQLITE_LOCKED) => {
                Self::Locked { path, seconds: crate::limits::DATABASE_WAIT_SECONDS }
            }
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Damaged { path, detail },
            Some(SQLITE_FULL) => Self::DiskFull { path },
            _ => Self::Failed { action, path, detail },
        }
    }
}

// Primary result codes of SQLite, https://www.sqlite.org/rescode.html
const SQLITE_PERM: i32 = 3;
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_AUTH: i32 = 23;
const SQLITE_NOTADB: i32 = 26;

/// SQLite's primary result code: the lower eight bits of the extended one that sqlx reports.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
