//! Principals (users, devices, admins), their credentials and their roles.
//! What must not live here: verifying a password, see `authenticator`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wasmqtt_core::ids::TenantId;

use crate::database::Change;
use crate::directory::{Directory, is_foreign_key_violation, is_unique_violation, no_such_tenant};
use crate::error::StoreError;
use crate::limits::{CREDENTIALS_PER_PRINCIPAL_MAX, ROLES_PER_PRINCIPAL_MAX};
use crate::names::{bad_name, check_name, shortened};
use crate::password::PasswordHash;

// Parts of statements; macros, since sqlx wants texts that cannot depend on input.

/// The names of the roles of `p`, one a line: names have no control characters.
macro_rules! roles_of_p {
    () => {
        "(SELECT group_concat(r.name, char(10) ORDER BY r.name) FROM principal_roles pr \
          JOIN roles r ON r.id = pr.role_id WHERE pr.principal_id = p.id)"
    };
}

macro_rules! select_user {
    () => {
        concat!(
            "SELECT p.id, p.name, p.kind, p.enabled, p.created_at, ",
            roles_of_p!(),
            " AS roles ",
            "FROM principals p WHERE p.tenant_id = ?1"
        )
    };
}

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A person or program.
    User,
    /// A thing in the field.
    Device,
    /// Someone who may also use the admin interface.
    Admin,
}

impl PrincipalKind {
    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of `user`, `device`, `admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a principal is one of user, device, admin")]
pub struct UnknownKind;

impl FromStr for PrincipalKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        [Self::User, Self::Device, Self::Admin]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownKind)
    }
}

/// A principal to add.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// 1 to 256 bytes, no control characters, unique in the tenant.
    pub name: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// Names of roles; those that do not exist are made.
    pub roles: Vec<String>,
    /// From [`crate::HashPool::hash`]; without one it cannot log in by password.
    pub password: Option<PasswordHash>,
}

/// A principal as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// Whether it may log in.
    pub enabled: bool,
    /// Names of its roles, sorted.
    pub roles: Vec<Arc<str>>,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

/// One secret of a principal.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// How it is verified; `password` is Argon2id.
    pub kind: String,
    /// The PHC string.
    pub phc: String,
    /// When it ends, Unix seconds; `None`: never.
    pub expires_at: Option<i64>,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

impl fmt::Debug for CredentialRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialRow")
            .field("kind", &self.kind)
            .field("expires_at", &self.expires_at)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// A principal with its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The principal.
    pub user: UserRow,
    /// Its secrets, newest first, expired ones too.
    pub credentials: Vec<CredentialRow>,
}

/// What a removal leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedUser {
    /// Rules that still name the user. They would apply to a new user of that name.
    pub rules_left: u64,
}

/// A role as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRow {
    /// Its name.
    pub name: String,
    /// How many principals have it.
    pub principals: u64,
}

/// What a login needs to know of a principal.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) kind: PrincipalKind,
    pub(crate) enabled: bool,
    pub(crate) roles: Arc<[Arc<str>]>,
    /// PHC strings of the passwords that are valid at this moment, newest first.
    pub(crate) passwords: Vec<String>,
}

impl Directory {
    /// Adds a principal.
    ///
    /// # Errors
    /// `BadName` (of the user or a role), `TooManyRoles`, `UserExists`, `NoSuchTenant`.
    pub async fn user_add(&self, tenant: TenantId, user: NewUser) -> Result<(), StoreError> {
        check_name(&user.name).map_err(|reason| bad_name("user", &user.name, reason))?;
        check_roles(&user.roles)?;
        let mut change = self.database.change().await?;
        let sql = "INSERT INTO principals (tenant_id, kind, name) VALUES (?1, ?2, ?3) RETURNING id";
        let principal = sqlx::query(sql)
            .bind(tenant.0)
            .bind(user.kind.as_str())
            .bind(&user.name)
            .fetch_one(change.connection())
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| {
                if is_unique_violation(&error) {
                    StoreError::UserExists { name: shortened(&user.name) }
                } else if is_foreign_key_violation(&error) {
                    no_such_tenant(tenant)
                } else {
                    self.database.failed("write")(error)
                }
            })?;
        self.put_roles(&mut change, tenant, principal, &user.roles).await?;
        if let Some(password) = &user.password {
            self.put_password(&mut change, principal, password).await?;
        }
        change.commit().await
    }

    /// Removes a principal with its credentials and roles. Rules that name it remain.
    ///
    /// # Errors
    /// `NoSuchUser`.
    pub async fn user_remove(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<RemovedUser, StoreError> {
        let failed = self.database.failed("write");
        let mut change = self.database.change().await?;
        let principal = self.principal(&mut change, tenant, name).await?;
        sqlx::query("DELETE FROM principals WHERE id = ?1")
            .bind(principal)
            .execute(change.connection())
            .await
            .map_err(&failed)?;
        let sql = "SELECT count(*) FROM rules \
                   WHERE tenant_id = ?1 AND subject_kind = 'user' AND subject = ?2";
        let rules_left = sqlx::query(sql)
            .bind(tenant.0)
            .bind(name)
            .fetch_one(change.connection())
            .await
            .and_then(|row| row.try_get(0))
            .map_err(&failed)?;
        change.commit().await?;
        Ok(RemovedUser { rules_left })
    }

    /// Replaces all passwords of a principal by this one. The old ones are refused from this moment.
    ///
    /// # Errors
    /// `NoSuchUser`.
    pub async fn user_set_password(
        &self,
        tenant: TenantId,
        name: &str,
        password: &PasswordHash,
    ) -> Result<(), StoreError> {
        let mut change = self.database.change().await?;
        let principal = self.principal(&mut change, tenant, name).await?;
        sqlx::query("DELETE FROM credentials WHERE principal_id = ?1 AND kind = 'password'")
            .bind(principal)
            .execute(change.connection())
            .await
            .map_err(self.database.failed("write"))?;
        self.put_password(&mut change, principal, password).await?;
        change.commit().await
    }

    /// Lets a principal log in, or not, without losing anything of it.
    ///
    /// # Errors
    /// `NoSuchUser`.
    pub async fn user_set_enabled(
        &self,
        tenant: TenantId,
        name: &str,
        enabled: bool,
    ) -> Result<(), StoreError> {
        let mut change = self.database.change().await?;
        let principal = self.principal(&mut change, tenant, name).await?;
        sqlx::query("UPDATE principals SET enabled = ?2 WHERE id = ?1")
            .bind(principal)
            .bind(enabled)
            .execute(change.connection())
            .await
            .map_err(self.database.failed("write"))?;
        change.commit().await
    }

    /// Replaces the roles of a principal; those that do not exist are made.
    ///
    /// # Errors
    /// `NoSuchUser`, `BadName`, `TooManyRoles`.
    pub async fn user_set_roles(
        &self,
        tenant: TenantId,
        name: &str,
        roles: &[String],
    ) -> Result<(), StoreError> {
        check_roles(roles)?;
        let mut change = self.database.change().await?;
        let principal = self.principal(&mut change, tenant, name).await?;
        sqlx::query("DELETE FROM principal_roles WHERE principal_id = ?1")
            .bind(principal)
            .execute(change.connection())
            .await
            .map_err(self.database.failed("write"))?;
        self.put_roles(&mut change, tenant, principal, roles).await?;
        change.commit().await
    }

    /// All principals of a tenant, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn user_list(&self, tenant: TenantId) -> Result<Vec<UserRow>, StoreError> {
        let failed = self.database.failed("read");
        let mut connection = self.database.read().await?;
        let rows = sqlx::query(concat!(select_user!(), " ORDER BY p.name"))
            .bind(tenant.0)
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
        rows.iter().map(|row| user_row(row).map_err(&failed)).collect()
    }

    /// One principal with its secrets.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn user_find(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<UserRecord>, StoreError> {
        let failed = self.database.failed("read");
        let mut connection = self.database.read().await?;
        let row = sqlx::query(concat!(select_user!(), " AND p.name = ?2"))
            .bind(tenant.0)
            .bind(name)
            .fetch_optional(&mut *connection)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let user = user_row(&row).map_err(&failed)?;
        let sql = "SELECT kind, phc, expires_at, created_at FROM credentials \
                   WHERE principal_id = ?1 ORDER BY id DESC";
        let credentials = sqlx::query(sql)
            .bind(row.try_get::<i64, _>("id").map_err(&failed)?)
            .try_map(|row: SqliteRow| {
                Ok(CredentialRow {
                    kind: row.try_get("kind")?,
                    phc: row.try_get("phc")?,
                    expires_at: row.try_get("expires_at")?,
                    created_at: row.try_get("created_at")?,
                })
            })
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
        Ok(Some(UserRecord { user, credentials }))
    }

    /// All roles of a tenant, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn role_list(&self, tenant: TenantId) -> Result<Vec<RoleRow>, StoreError> {
        let sql = "SELECT name, \
                     (SELECT count(*) FROM principal_roles WHERE role_id = roles.id) AS principals \
                   FROM roles WHERE tenant_id = ?1 ORDER BY name";
        let mut connection = self.database.read().await?;
        sqlx::query(sql)
            .bind(tenant.0)
            .try_map(|row: SqliteRow| {
                Ok(RoleRow { name: row.try_get("name")?, principals: row.try_get("principals")? })
            })
            .fetch_all(&mut *connection)
            .await
            .map_err(self.database.failed("read"))
    }

    /// What a login needs, by one statement: it is on the path of every CONNECT.
    pub(crate) async fn login(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<Login>, StoreError> {
        let sql = concat!(
            "SELECT p.kind, p.enabled, ",
            roles_of_p!(),
            " AS roles, ",
            "(SELECT group_concat(c.phc, char(10) ORDER BY c.id DESC) FROM credentials c ",
            "  WHERE c.principal_id = p.id AND c.kind = 'password' ",
            "  AND (c.expires_at IS NULL OR c.expires_at > unixepoch())) AS passwords ",
            "FROM principals p WHERE p.tenant_id = ?1 AND p.name = ?2"
        );
        let mut connection = self.database.read().await?;
        sqlx::query(sql)
            .bind(tenant.0)
            .bind(name)
            .try_map(|row: SqliteRow| {
                let passwords: Option<&str> = row.try_get("passwords")?;
                Ok(Login {
                    kind: kind_of(&row)?,
                    enabled: row.try_get("enabled")?,
                    roles: roles_of(&row)?.into(),
                    passwords: passwords
                        .into_iter()
                        .flat_map(|joined| joined.split('\n'))
                        .take(CREDENTIALS_PER_PRINCIPAL_MAX)
                        .map(str::to_owned)
                        .collect(),
                })
            })
            .fetch_optional(&mut *connection)
            .await
            .map_err(self.database.failed("read"))
    }

    async fn principal(
        &self,
        change: &mut Change<'_>,
        tenant: TenantId,
        name: &str,
    ) -> Result<i64, StoreError> {
        sqlx::query("SELECT id FROM principals WHERE tenant_id = ?1 AND name = ?2")
            .bind(tenant.0)
            .bind(name)
            .fetch_optional(change.connection())
            .await
            .map_err(self.database.failed("read"))?
            .ok_or_else(|| StoreError::NoSuchUser { name: shortened(name) })?
            .try_get(0)
            .map_err(self.database.failed("read"))
    }

    async fn put_password(
        &self,
        change: &mut Change<'_>,
        principal: i64,
        password: &PasswordHash,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO credentials (principal_id, kind, phc) VALUES (?1, 'password', ?2)",
        )
        .bind(principal)
        .bind(password.as_str())
        .execute(change.connection())
        .await
        .map_err(self.database.failed("write"))?;
        Ok(())
    }

    async fn put_roles(
        &self,
        change: &mut Change<'_>,
        tenant: TenantId,
        principal: i64,
        roles: &[String],
    ) -> Result<(), StoreError> {
        for role in roles {
            make_role(change.connection(), tenant, role)
                .await
                .map_err(self.database.failed("write"))?;
            let sql = "INSERT INTO principal_roles (principal_id, role_id, tenant_id) \
                       SELECT ?1, id, tenant_id FROM roles WHERE tenant_id = ?2 AND name = ?3 \
                       ON CONFLICT DO NOTHING";
            sqlx::query(sql)
                .bind(principal)
                .bind(tenant.0)
                .bind(role)
                .execute(change.connection())
                .await
                .map_err(self.database.failed("write"))?;
        }
        Ok(())
    }
}

/// Makes a role unless it exists.
pub(super) async fn make_role(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    name: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO roles (tenant_id, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
        .bind(tenant.0)
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

fn check_roles(roles: &[String]) -> Result<(), StoreError> {
    if roles.len() > ROLES_PER_PRINCIPAL_MAX {
        let (count, max) = (roles.len(), ROLES_PER_PRINCIPAL_MAX);
        return Err(StoreError::TooManyRoles { count, max });
    }
    roles
        .iter()
        .try_for_each(|role| check_name(role).map_err(|reason| bad_name("role", role, reason)))
}

fn user_row(row: &SqliteRow) -> Result<UserRow, sqlx::Error> {
    Ok(UserRow {
        name: row.try_get("name")?,
        kind: kind_of(row)?,
        enabled: row.try_get("enabled")?,
        roles: roles_of(row)?,
        created_at: row.try_get("created_at")?,
    })
}

fn kind_of(row: &SqliteRow) -> Result<PrincipalKind, sqlx::Error> {
    row.try_get::<&str, _>("kind")?.parse().map_err(|error: UnknownKind| {
        sqlx::Error::ColumnDecode { index: "kind".to_owned(), source: error.into() }
    })
}

fn roles_of(row: &SqliteRow) -> Result<Vec<Arc<str>>, sqlx::Error> {
    let roles: Option<&str> = row.try_get("roles")?;
    Ok(roles.into_iter().flat_map(|joined| joined.split('\n')).map(Arc::from).collect())
}
