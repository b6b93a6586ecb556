//! Access rules as they are stored.
//! What must not live here: what a rule means, see `wasmqtt_core::access`.

use std::fmt::Display;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use wasmqtt_core::access::{Actions, Effect, Pattern, Rule, RuleId, RuleSet, Subject};
use wasmqtt_core::ids::TenantId;

use crate::directory::{Directory, is_foreign_key_violation, no_such_tenant, users};
use crate::error::StoreError;
use crate::names::{bad_name, check_name, shortened};

/// A rule to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Allow or deny.
    pub effect: Effect,
    /// What it is about; at least one action.
    pub actions: Actions,
    /// A Topic Filter, `${username}` and `${clientid}` as whole levels.
    pub pattern: String,
    /// Whom it is for. The user need not exist; a role is made unless it exists.
    pub subject: Subject,
}

/// A rule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRow {
    /// Its number, never given to another rule.
    pub id: RuleId,
    /// Allow or deny.
    pub effect: Effect,
    /// What it is about.
    pub actions: Actions,
    /// A Topic Filter, maybe with variables.
    pub pattern: String,
    /// Whom it is for.
    pub subject: Subject,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

impl Directory {
    /// Adds a rule. One that is there already, the same in every part, is found instead.
    ///
    /// # Errors
    /// `BadRule` (pattern, actions), `BadName` (subject), `NoSuchTenant`.
    pub async fn rule_add(&self, tenant: TenantId, rule: NewRule) -> Result<RuleId, StoreError> {
        let bad = |reason: &dyn Display| StoreError::BadRule {
            pattern: shortened(&rule.pattern),
            reason: reason.to_string(),
        };
        Pattern::parse(&rule.pattern).map_err(|error| bad(&error))?;
        if rule.actions.bits() == 0 {
            return Err(bad(&"it has no action: publish, subscribe, or both are possible"));
        }
        let (subject_kind, subject) = columns_of(&rule.subject);
        if let Subject::User(name) | Subject::Role(name) = &rule.subject {
            check_name(name).map_err(|reason| bad_name(subject_kind, name, reason))?;
        }
        let failed = |error: sqlx::Error| match is_foreign_key_violation(&error) {
            true => no_such_tenant(tenant),
            false => self.database.failed("write")(error),
        };
        let mut change = self.database.change().await?;
        if let Subject::Role(name) = &rule.subject {
            users::make_role(change.connection(), tenant, name).await.map_err(failed)?;
        }
        let insert = "INSERT INTO rules (tenant_id, effect, actions, pattern, subject_kind, subject) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING RETURNING id";
        let same = "SELECT id FROM rules WHERE tenant_id = ?1 AND effect = ?2 AND actions = ?3 \
                    AND pattern = ?4 AND subject_kind = ?5 AND subject = ?6";
        let bound = |sql| {
            sqlx::query(sql)
                .bind(tenant.0)
                .bind(text_of(rule.effect))
                .bind(rule.actions.bits())
                .bind(&rule.pattern)
                .bind(subject_kind)
                .bind(subject)
        };
        let id_of = |row: SqliteRow| row.try_get("id").map(RuleId).map_err(failed);
        if let Some(row) =
            bound(insert).fetch_optional(change.connection()).await.map_err(failed)?
        {
            let id = id_of(row)?;
            change.commit().await?;
            return Ok(id);
        }
        id_of(bound(same).fetch_one(change.connection()).await.map_err(failed)?)
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// `NoSuchRule`, also when it is another tenant's.
    pub async fn rule_remove(&self, tenant: TenantId, id: RuleId) -> Result<(), StoreError> {
        let mut change = self.database.change().await?;
        let done = sqlx::query("DELETE FROM rules WHERE tenant_id = ?1 AND id = ?2")
            .bind(tenant.0)
            .bind(id.0)
            .execute(change.connection())
            .await
            .map_err(self.database.failed("write"))?;
        match done.rows_affected() {
            0 => Err(StoreError::NoSuchRule { id: id.0 }),
            _ => change.commit().await,
        }
    }

    /// All rules of a tenant, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn rule_list(&self, tenant: TenantId) -> Result<Vec<RuleRow>, StoreError> {
        let sql = "SELECT id, effect, actions, pattern, subject_kind, subject, created_at \
                   FROM rules WHERE tenant_id = ?1 ORDER BY id";
        let mut connection = self.database.read().await?;
        let rows = sqlx::query(sql)
            .bind(tenant.0)
            .try_map(|row: SqliteRow| rule_row(&row))
            .fetch_all(&mut *connection)
            .await
            .map_err(self.database.failed("read"))?;
        rows.into_iter().map(|row| row.map_err(|detail| self.damaged(detail))).collect()
    }

    /// All rules of a tenant, compiled. An unreadable rule fails the whole set: a missing deny rule
    /// would allow what was meant to be denied.
    ///
    /// # Errors
    /// When the file cannot be read; `Damaged` when it has a rule that nobody can have added.
    pub async fn rule_set(&self, tenant: TenantId) -> Result<RuleSet, StoreError> {
        let rows = self.rule_list(tenant).await?;
        // Parsing and indexing a million rules takes a while: not on a thread that serves others.
        let compiled = tokio::task::spawn_blocking(move || {
            let rules = rows.into_iter().map(rule_of).collect::<Result<Vec<_>, _>>()?;
            Ok(RuleSet::compile(rules))
        });
        match compiled.await {
            Ok(Ok(set)) => Ok(set),
            Ok(Err(detail)) => Err(self.damaged(detail)),
            Err(error) => Err(StoreError::Failed {
                action: "compile the rules of",
                path: self.path().to_path_buf(),
                detail: error.to_string(),
            }),
        }
    }
}

fn rule_of(row: RuleRow) -> Result<Rule, String> {
    let pattern = Pattern::parse(&row.pattern)
        .map_err(|error| format!("rule {}, pattern {:?}: {error}", row.id.0, row.pattern))?;
    let RuleRow { id, effect, actions, subject, .. } = row;
    Ok(Rule { id, effect, actions, pattern, subject })
}

const fn text_of(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn columns_of(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::User(name) => ("user", name),
        Subject::Role(name) => ("role", name),
        Subject::All => ("all", ""),
    }
}

/// A row, or what is wrong with it.
fn rule_row(row: &SqliteRow) -> Result<Result<RuleRow, String>, sqlx::Error> {
    let id: i64 = row.try_get("id")?;
    let effect = match row.try_get("effect")? {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        other => return Ok(Err(format!("rule {id}, effect {other:?}"))),
    };
    let bits: u8 = row.try_get("actions")?;
    let Some(actions) = Actions::from_bits(bits) else {
        return Ok(Err(format!("rule {id}, actions {bits:#04x}")));
    };
    let subject: &str = row.try_get("subject")?;
    let subject = match row.try_get("subject_kind")? {
        "user" => Subject::User(Arc::from(subject)),
        "role" => Subject::Role(Arc::from(subject)),
        "all" => Subject::All,
        other => return Ok(Err(format!("rule {id}, subject kind {other:?}"))),
    };
    Ok(Ok(RuleRow {
        id: RuleId(id),
        effect,
        actions,
        pattern: row.try_get("pattern")?,
        subject,
        created_at: row.try_get("created_at")?,
    }))
}
