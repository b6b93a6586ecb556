//! The directory: who may log in, with which roles, under which rules, in which tenant.
//! What must not live here: what the broker does with that, and how the file is opened.

mod plugins;
mod rules;
mod tenants;
mod users;

use std::path::Path;
use std::sync::Arc;

use wasmqtt_core::ids::TenantId;

use crate::database::Database;
use crate::error::StoreError;

pub use plugins::{NewPlugin, PluginRow};
pub use rules::{NewRule, RuleRow};
pub use tenants::TenantRow;
pub use users::{
    CredentialRow, NewUser, PrincipalKind, RemovedUser, RoleRow, UnknownKind, UserRecord, UserRow,
};

/// An open `directory.db`. Cheap to clone; clones share the connections. Needs a tokio runtime.
///
/// Each change is one transaction, durable (fsync) when its call returns, and counted by
/// [`Directory::generation`]. Several processes may have the file open.
#[derive(Clone)]
pub struct Directory {
    database: Arc<Database>,
}

impl Directory {
    /// Makes a new file (mode 0600) with the default tenant and nobody in it.
    ///
    /// # Errors
    /// `AlreadyExists` and what the system refuses; no half-made file remains.
    pub async fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Arc::new(Database::create(path).await?) })
    }

    /// Opens a file, checks it (`PRAGMA quick_check`), and migrates it when an older version wrote
    /// it.
    ///
    /// # Errors
    /// `Missing`, `Permission`, `Foreign`, `Newer`, `Damaged`, `Locked`; a file that is refused is
    /// not changed.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Arc::new(Database::open(path).await?) })
    }

    /// Closes all connections, of all clones, and waits for that.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// A number that is greater after each committed change, also one of another process. A reader
    /// that remembers it knows when to look again.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn generation(&self) -> Result<i64, StoreError> {
        self.database.generation().await
    }

    fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged { path: self.path().to_path_buf(), detail }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The error for a tenant that a statement did not find.
fn no_such_tenant(tenant: TenantId) -> StoreError {
    StoreError::NoSuchTenant { tenant: tenant.0.to_string() }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_foreign_key_violation())
}
