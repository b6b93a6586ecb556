//! Tenants: their names and numbers.
//! What must not live here: which connection belongs to which tenant.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use wasmqtt_core::ids::TenantId;

use crate::directory::{Directory, is_unique_violation};
use crate::error::StoreError;
use crate::names::{bad_name, check_label, shortened};

/// A tenant as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its number, never given to another tenant.
    pub id: TenantId,
    /// Its name, unique.
    pub name: String,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

impl Directory {
    /// The tenant of that name. A new directory has one, `default`.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTenant`].
    pub async fn tenant_by_name(&self, name: &str) -> Result<TenantId, StoreError> {
        let mut connection = self.database.read().await?;
        let row = sqlx::query("SELECT id FROM tenants WHERE name = ?1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await
            .map_err(self.database.failed("read"))?
            .ok_or_else(|| StoreError::NoSuchTenant { tenant: format!("{:?}", shortened(name)) })?;
        row.try_get("id").map(TenantId).map_err(self.database.failed("read"))
    }

    /// Adds a tenant. Names: 1 to 63 of `a-z 0-9 . _ -`, a letter or digit first.
    ///
    /// # Errors
    /// `BadName`, `TenantExists`.
    pub async fn tenant_add(&self, name: &str) -> Result<TenantId, StoreError> {
        check_label(name).map_err(|reason| bad_name("tenant", name, reason))?;
        let mut change = self.database.change().await?;
        let id = sqlx::query("INSERT INTO tenants (name) VALUES (?1) RETURNING id")
            .bind(name)
            .fetch_one(change.connection())
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| match is_unique_violation(&error) {
                true => StoreError::TenantExists { name: name.to_owned() },
                false => self.database.failed("write")(error),
            })?;
        change.commit().await?;
        Ok(TenantId(id))
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn tenant_list(&self) -> Result<Vec<TenantRow>, StoreError> {
        let mut connection = self.database.read().await?;
        sqlx::query("SELECT id, name, created_at FROM tenants ORDER BY name")
            .try_map(|row: SqliteRow| {
                Ok(TenantRow {
                    id: TenantId(row.try_get("id")?),
                    name: row.try_get("name")?,
                    created_at: row.try_get("created_at")?,
                })
            })
            .fetch_all(&mut *connection)
            .await
            .map_err(self.database.failed("read"))
    }
}
