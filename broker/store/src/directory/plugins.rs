//! Plugins as they are recorded: which file, which configuration, what was granted.
//! What must not live here: the files, and what is in the JSON.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use wasmqtt_core::ids::TenantId;

use crate::directory::{Directory, is_foreign_key_violation, no_such_tenant};
use crate::error::StoreError;
use crate::limits::PLUGIN_JSON_BYTES_MAX;
use crate::names::{bad_name, check_label, shortened};

/// A plugin to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlugin {
    /// 1 to 63 of `a-z 0-9 . _ -`, a letter or digit first.
    pub name: String,
    /// SHA-256 of its file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its configuration, JSON.
    pub config: String,
    /// The hooks that it is called at, JSON.
    pub hooks: String,
    /// The capabilities that the operator gave it, JSON.
    pub grants: String,
}

/// A plugin as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRow {
    /// What was given.
    pub plugin: NewPlugin,
    /// Whether it is to be run.
    pub enabled: bool,
    /// When it was first recorded, Unix seconds.
    pub created_at: i64,
}

impl Directory {
    /// Records a plugin, or replaces all but `enabled` of the one of that name.
    ///
    /// # Errors
    /// `BadName`, `BadPlugin` (SHA-256, JSON), `NoSuchTenant`.
    pub async fn plugin_put(&self, tenant: TenantId, plugin: &NewPlugin) -> Result<(), StoreError> {
        check_label(&plugin.name).map_err(|reason| bad_name("plugin", &plugin.name, reason))?;
        let bad = |reason: String| StoreError::BadPlugin { name: plugin.name.clone(), reason };
        let is_digest = |text: &str| {
            text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_digest(&plugin.sha256) {
            return Err(bad("its SHA-256 has to be 64 lower-case hexadecimal digits".to_owned()));
        }
        let mut change = self.database.change().await?;
        for (what, json) in
            [("config", &plugin.config), ("hooks", &plugin.hooks), ("grants", &plugin.grants)]
        {
            let valid: bool = sqlx::query("SELECT json_valid(?1)")
                .bind(json)
                .fetch_one(change.connection())
                .await
                .and_then(|row| row.try_get(0))
                .map_err(self.database.failed("write"))?;
            if !valid || json.len() > PLUGIN_JSON_BYTES_MAX {
                let max = PLUGIN_JSON_BYTES_MAX;
                return Err(bad(format!("its {what} has to be JSON of at most {max} bytes")));
            }
        }
        let sql = "INSERT INTO plugins (tenant_id, name, sha256, config, hooks, grants) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                   ON CONFLICT (tenant_id, name) DO UPDATE SET sha256 = excluded.sha256, \
                   config = excluded.config, hooks = excluded.hooks, grants = excluded.grants";
        sqlx::query(sql)
            .bind(tenant.0)
            .bind(&plugin.name)
            .bind(&plugin.sha256)
            .bind(&plugin.config)
            .bind(&plugin.hooks)
            .bind(&plugin.grants)
            .execute(change.connection())
            .await
            .map_err(|error| match is_foreign_key_violation(&error) {
                true => no_such_tenant(tenant),
                false => self.database.failed("write")(error),
            })?;
        change.commit().await
    }

    /// Says whether a plugin is to be run.
    ///
    /// # Errors
    /// `NoSuchPlugin`.
    pub async fn plugin_set_enabled(
        &self,
        tenant: TenantId,
        name: &str,
        enabled: bool,
    ) -> Result<(), StoreError> {
        let mut change = self.database.change().await?;
        let done =
            sqlx::query("UPDATE plugins SET enabled = ?3 WHERE tenant_id = ?1 AND name = ?2")
                .bind(tenant.0)
                .bind(name)
                .bind(enabled)
                .execute(change.connection())
                .await
                .map_err(self.database.failed("write"))?;
        match done.rows_affected() {
            0 => Err(StoreError::NoSuchPlugin { name: shortened(name) }),
            _ => change.commit().await,
        }
    }

    /// Forgets a plugin. Its file is the caller's.
    ///
    /// # Errors
    /// `NoSuchPlugin`.
    pub async fn plugin_remove(&self, tenant: TenantId, name: &str) -> Result<(), StoreError> {
        let mut change = self.database.change().await?;
        let done = sqlx::query("DELETE FROM plugins WHERE tenant_id = ?1 AND name = ?2")
            .bind(tenant.0)
            .bind(name)
            .execute(change.connection())
            .await
            .map_err(self.database.failed("write"))?;
        match done.rows_affected() {
            0 => Err(StoreError::NoSuchPlugin { name: shortened(name) }),
            _ => change.commit().await,
        }
    }

    /// All plugins of a tenant, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn plugin_list(&self, tenant: TenantId) -> Result<Vec<PluginRow>, StoreError> {
        let sql = "SELECT name, sha256, config, hooks, grants, enabled, created_at \
                   FROM plugins WHERE tenant_id = ?1 ORDER BY name";
        let mut connection = self.database.read().await?;
        sqlx::query(sql)
            .bind(tenant.0)
            .try_map(|row: SqliteRow| {
                Ok(PluginRow {
                    plugin: NewPlugin {
                        name: row.try_get("name")?,
                        sha256: row.try_get("sha256")?,
                        config: row.try_get("config")?,
                        hooks: row.try_get("hooks")?,
                        grants: row.try_get("grants")?,
                    },
                    enabled: row.try_get("enabled")?,
                    created_at: row.try_get("created_at")?,
                })
            })
            .fetch_all(&mut *connection)
            .await
            .map_err(self.database.failed("read"))
    }
}
