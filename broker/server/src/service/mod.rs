//! What an operator can ask of a broker and its directory; the admin interface of a running broker
//! and the commands that work on the files are both made of it.
//! What must not live here: HTTP, the command line, the look of an answer.

use std::sync::Arc;

use tokio::sync::Mutex;
use wasmqtt_core::access::{Actions, Effect, RuleId, RuleSet, Subject};
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{
    Directory, HashPool, HashPoolError, NewRule, NewUser, PasswordHash, StoreError, limits,
};

use crate::config::Config;
use crate::config::plan::PlannedPlugin;
use crate::plugins::Hooks;

pub(crate) mod check;
pub(crate) mod view;

use view::{
    AddedRule, CheckAnswer, CheckRequest, NewRuleRequest, NewUserRequest, PasswordRequest,
    PluginView, ReloadedView, RemovedUserView, RuleView, Status, UserView,
};

/// The running broker, told of what changed and asked what it does.
pub(crate) trait Live: Send + Sync {
    /// The rules of a tenant are these now.
    fn rules_changed(&self, tenant: TenantId, rules: Arc<RuleSet>);
    /// A principal got another password, or is gone.
    fn principal_changed(&self, tenant: TenantId, name: &str, is_gone: bool);
    /// What it does at this moment.
    fn status(&self) -> Status;
    /// Reads what listeners' TLS needs anew. One whose files can't be used keeps what it had.
    fn reload(&self) -> Vec<ReloadedView>;
}

/// Who is at fault, and so what an HTTP client and a script are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request itself.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// Something is there already.
    Conflict,
    /// Too much at once; again later.
    Busy,
    /// The broker or its machine.
    Failed,
}

/// A refused or failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct ServiceError {
    /// Who is at fault.
    pub fault: Fault,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ServiceError {
    pub(crate) fn new(fault: Fault, error: impl Into<String>) -> Self {
        Self { fault, error: error.into(), hint: None }
    }

    pub(crate) fn invalid(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { fault: Fault::Invalid, error: error.into(), hint: Some(hint.into()) }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let fault = match &error {
            E::BadName { .. }
            | E::TooManyRoles { .. }
            | E::BadRule { .. }
            | E::BadPlugin { .. } => Fault::Invalid,
            E::NoSuchUser { .. }
            | E::NoSuchTenant { .. }
            | E::NoSuchRule { .. }
            | E::NoSuchPlugin { .. } => Fault::NotFound,
            E::UserExists { .. } | E::TenantExists { .. } | E::AlreadyExists { .. } => {
                Fault::Conflict
            }
            E::Locked { .. } => Fault::Busy,
            E::Missing { .. }
            | E::Permission { .. }
            | E::Foreign { .. }
            | E::Newer { .. }
            | E::Damaged { .. }
            | E::DiskFull { .. }
            | E::Failed { .. }
            | E::Random { .. }
            | _ => Fault::Failed,
        };
        Self::new(fault, error.to_string())
    }
}

impl From<HashPoolError> for ServiceError {
    fn from(error: HashPoolError) -> Self {
        let fault = match error {
            HashPoolError::Busy | HashPoolError::Deadline => Fault::Busy,
            HashPoolError::TooLong { .. } => Fault::Invalid,
            HashPoolError::BadHash(_) | HashPoolError::Failed(_) | _ => Fault::Failed,
        };
        Self::new(fault, error.to_string())
    }
}

/// See the module. One for a directory and process.
pub(crate) struct Service {
    directory: Directory,
    hash_pool: Option<Arc<HashPool>>,
    config: Arc<Config>,
    plugins: Arc<[PlannedPlugin]>,
    live: Option<Arc<dyn Live>>,
    checker: Arc<check::Checker>,
    /// Held from a change of rules until the broker was told: it is told in the order of changes.
    change: Mutex<()>,
}

/// What a [`Service`] is made of.
pub(crate) struct Parts {
    /// Open.
    pub directory: Directory,
    /// For new passwords; None: made when one is needed.
    pub hash_pool: Option<Arc<HashPool>>,
    /// The broker's, or the one that it would have.
    pub config: Arc<Config>,
    /// Those in its orders.
    pub plugins: Arc<[PlannedPlugin]>,
    /// The plugins, active; None: `check` can't ask them.
    pub hooks: Option<Hooks>,
    /// None: no broker runs.
    pub live: Option<Arc<dyn Live>>,
}

impl Service {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { directory, hash_pool, config, plugins, hooks, live } = parts;
        let checker = Arc::new(check::Checker::new(Arc::clone(&config), hooks));
        Self { directory, hash_pool, config, plugins, live, checker, change: Mutex::new(()) }
    }

    /// The number of a tenant.
    pub(crate) async fn tenant(&self, name: &str) -> Result<TenantId, ServiceError> {
        Ok(self.directory.tenant_by_name(name).await?)
    }

    /// What the broker does. It asks its workers, which may take a moment.
    pub(crate) async fn status(&self) -> Result<Status, ServiceError> {
        let nobody = || ServiceError::new(Fault::NotFound, "no broker runs here");
        let live = self.live.as_ref().map(Arc::clone).ok_or_else(nobody)?;
        aside(move || Ok(live.status())).await
    }

    /// Reads files anew that may have changed: certificates.
    pub(crate) async fn reload(&self) -> Result<Vec<ReloadedView>, ServiceError> {
        let nobody = || ServiceError::new(Fault::NotFound, "no broker runs here");
        let live = self.live.as_ref().map(Arc::clone).ok_or_else(nobody)?;
        aside(move || Ok(live.reload())).await
    }

    /// Every user, by name.
    pub(crate) async fn user_list(&self, tenant: TenantId) -> Result<Vec<UserView>, ServiceError> {
        Ok(self.directory.user_list(tenant).await?.into_iter().map(UserView::from).collect())
    }

    /// Adds a user; without a password it can't log in by one.
    pub(crate) async fn user_add(
        &self,
        tenant: TenantId,
        request: NewUserRequest,
    ) -> Result<(), ServiceError> {
        let NewUserRequest { name, kind, roles, password } = request;
        let kind = kind.parse().map_err(|_| {
            ServiceError::invalid(format!("no kind \"{kind}\""), "kinds: user, device, admin")
        })?;
        if self.directory.user_find(tenant, &name).await?.is_some() {
            // Before the hash, which costs more than all the rest.
            return Err(StoreError::UserExists { name }.into());
        }
        let password = match &password {
            Some(password) => Some(self.hash(password).await?),
            None => None,
        };
        self.directory.user_add(tenant, NewUser { name, kind, roles, password }).await?;
        Ok(())
    }

    /// Removes a user.
    pub(crate) async fn user_remove(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<RemovedUserView, ServiceError> {
        let removed = self.directory.user_remove(tenant, name).await?;
        if let Some(live) = &self.live {
            live.principal_changed(tenant, name, true);
        }
        Ok(RemovedUserView { rules_left: removed.rules_left })
    }

    /// Gives a user another password; the old one is void.
    pub(crate) async fn user_set_password(
        &self,
        tenant: TenantId,
        name: &str,
        request: &PasswordRequest,
    ) -> Result<(), ServiceError> {
        if self.directory.user_find(tenant, name).await?.is_none() {
            return Err(StoreError::NoSuchUser { name: name.to_owned() }.into());
        }
        let hash = self.hash(&request.password).await?;
        self.directory.user_set_password(tenant, name, &hash).await?;
        if let Some(live) = &self.live {
            live.principal_changed(tenant, name, false);
        }
        Ok(())
    }

    async fn hash(&self, password: &str) -> Result<PasswordHash, ServiceError> {
        if password.is_empty() {
            return Err(ServiceError::invalid(
                "the password is empty",
                "give at least one character",
            ));
        }
        let pool = match &self.hash_pool {
            Some(pool) => Arc::clone(pool),
            None => HashPool::new(1, limits::HASH_QUEUE_MAX).map(Arc::new).map_err(|error| {
                ServiceError::new(Fault::Failed, format!("can't start a hashing thread: {error}"))
            })?,
        };
        Ok(pool.hash(password.as_bytes()).await?)
    }

    /// Every rule, oldest first.
    pub(crate) async fn rule_list(&self, tenant: TenantId) -> Result<Vec<RuleView>, ServiceError> {
        Ok(self.directory.rule_list(tenant).await?.into_iter().map(RuleView::from).collect())
    }

    /// Adds a rule, or finds the same one; it holds when this returns.
    pub(crate) async fn rule_add(
        &self,
        tenant: TenantId,
        request: NewRuleRequest,
    ) -> Result<AddedRule, ServiceError> {
        let rule = parse_rule(request)?;
        let _change = self.change.lock().await;
        let id = self.directory.rule_add(tenant, rule).await?;
        self.tell_rules(tenant).await?;
        Ok(AddedRule { id: id.0 })
    }

    /// Removes a rule; that holds when this returns.
    pub(crate) async fn rule_remove(&self, tenant: TenantId, id: i64) -> Result<(), ServiceError> {
        let _change = self.change.lock().await;
        self.directory.rule_remove(tenant, RuleId(id)).await?;
        self.tell_rules(tenant).await
    }

    async fn tell_rules(&self, tenant: TenantId) -> Result<(), ServiceError> {
        if let Some(live) = &self.live {
            live.rules_changed(tenant, Arc::new(self.directory.rule_set(tenant).await?));
        }
        Ok(())
    }

    /// Whether a client may do something, and who decides that.
    pub(crate) async fn check(
        &self,
        tenant: TenantId,
        request: CheckRequest,
    ) -> Result<CheckAnswer, ServiceError> {
        let record = match &request.user {
            Some(name) => self.directory.user_find(tenant, name).await?,
            None => None,
        };
        let rules = self.directory.rule_set(tenant).await?;
        let rows = self.directory.rule_list(tenant).await?;
        let checker = Arc::clone(&self.checker);
        aside(move || checker.check(&request, record, &rules, &rows)).await
    }

    /// Every plugin of the configuration, by name.
    pub(crate) fn plugin_list(&self) -> Vec<PluginView> {
        let of = |name: &str| self.plugins.iter().find(|planned| &*planned.name == name);
        self.config
            .plugins
            .iter()
            .map(|(name, plugin)| view::plugin(name, plugin, of(name), &self.config))
            .collect()
    }
}

/// Runs what may take a while where it keeps nobody waiting.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    let failed = |error| ServiceError::new(Fault::Failed, format!("the request failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// Words into a rule; the pattern is the store's to check.
fn parse_rule(request: NewRuleRequest) -> Result<NewRule, ServiceError> {
    let NewRuleRequest { effect, actions, pattern, to } = request;
    let effect = match effect.as_str() {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        other => {
            let error = format!("no effect \"{other}\"");
            return Err(ServiceError::invalid(error, "effects: allow, deny"));
        }
    };
    let actions = match actions.as_str() {
        "publish" => Actions::PUBLISH,
        "subscribe" => Actions::SUBSCRIBE,
        "all" => Actions::ALL,
        other => {
            let error = format!("no action \"{other}\"");
            return Err(ServiceError::invalid(error, "actions: publish, subscribe, all"));
        }
    };
    let subject = match to.split_once(':') {
        Some(("user", name)) => Subject::User(name.into()),
        Some(("role", name)) => Subject::Role(name.into()),
        None if to == "all" => Subject::All,
        Some(_) | None => {
            let error = format!("\"{to}\" does not say for whom the rule is");
            return Err(ServiceError::invalid(error, "write user:NAME, role:ROLE or all"));
        }
    };
    Ok(NewRule { effect, actions, pattern, subject })
}
