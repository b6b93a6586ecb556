//! The authentication order: plugins and passwords in turn, on the control runtime.
//! What must not live here: how a password or a plugin is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmqtt_core::hook::{AuthenticateAnswer, AuthenticateRequest, Denial, HookReply, Principal};
use wasmqtt_core::ids::{HookToken, TenantId, WorkerId};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_host::active::{ActivePlugins, PluginIndex};
use wasmqtt_host::answer::AuthVerdict;
use wasmqtt_store::{Authenticator, LoginError};

use crate::mailbox::{Letter, Mailbox};

/// CONNECTs that are being authenticated at a time; more are refused with Server busy.
const AUTHENTICATIONS_MAX: usize = 20_000;
/// Threads that plugins' `authenticate` may hold at a time.
const PLUGIN_THREADS_MAX: usize = 4;

/// One step of the order, resolved.
#[derive(Clone)]
pub(crate) enum Step {
    /// Let in who brings neither User Name nor Password.
    Anonymous,
    /// Name and password in the directory.
    Password(Arc<Authenticator>),
    /// A plugin.
    Plugin(Arc<ActivePlugins>, PluginIndex),
}

/// The configured order with all that it needs.
pub(crate) struct AuthChain {
    steps: Arc<[Step]>,
    tenant: TenantId,
    control: Handle,
    mailboxes: Arc<[Mailbox]>,
    places: Arc<Semaphore>,
    /// Counts the times that some principal was changed.
    epoch: Arc<AtomicU64>,
    plugin_threads: Arc<Semaphore>,
    anonymous: Arc<Principal>,
    /// `--dev`: whoever comes is let in, under the name that is given.
    everyone: bool,
}

impl AuthChain {
    pub(crate) fn new(
        steps: Vec<Step>,
        tenant: TenantId,
        everyone: bool,
        control: Handle,
        mailboxes: Arc<[Mailbox]>,
    ) -> Self {
        Self {
            steps: steps.into(),
            tenant,
            control,
            mailboxes,
            places: Arc::new(Semaphore::new(AUTHENTICATIONS_MAX)),
            epoch: Arc::default(),
            plugin_threads: Arc::new(Semaphore::new(PLUGIN_THREADS_MAX)),
            anonymous: Arc::new(Principal::default()),
            everyone,
        }
    }

    /// Begins; the answer comes at once where nothing has to be looked up, else by mail.
    pub(crate) fn start(
        &self,
        worker: WorkerId,
        token: HookToken,
        request: AuthenticateRequest,
    ) -> HookReply<AuthenticateAnswer> {
        if let [Step::Anonymous] = *self.steps {
            return HookReply::Now(self.anonymous(&request).unwrap_or_else(unknown));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let denial = Denial::new(ReasonCode::ServerBusy);
            return HookReply::Now(AuthenticateAnswer::Deny(denial));
        };
        let chain = Run {
            steps: Arc::clone(&self.steps),
            tenant: self.tenant,
            plugin_threads: Arc::clone(&self.plugin_threads),
            anonymous: Arc::clone(&self.anonymous),
            everyone: self.everyone,
        };
        let mailboxes = Arc::clone(&self.mailboxes);
        let epoch = self.epoch.load(Ordering::Acquire);
        self.control.spawn(async move {
            let answer = chain.run(request).await;
            if let Some(mailbox) = mailboxes.get(worker.index()) {
                mailbox.post(Letter::LoggedIn { token, answer, epoch });
            }
            drop(place);
        });
        HookReply::Parked
    }

    /// Some principal was changed. Told before its connections are closed: a login that was decided
    /// on what was, and is not in by then, does not come in.
    pub(crate) fn principal_changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The answer, if it was decided on what is; else "busy", so that the client asks again.
    pub(crate) fn if_current(&self, answer: AuthenticateAnswer, epoch: u64) -> AuthenticateAnswer {
        let is_allowed = matches!(answer, AuthenticateAnswer::Allow(_));
        if is_allowed && epoch != self.epoch.load(Ordering::Acquire) {
            return AuthenticateAnswer::Deny(Denial::new(ReasonCode::ServerBusy));
        }
        answer
    }

    fn anonymous(&self, request: &AuthenticateRequest) -> Option<AuthenticateAnswer> {
        anonymous(&self.anonymous, self.everyone, request)
    }
}

fn anonymous(
    principal: &Arc<Principal>,
    everyone: bool,
    request: &AuthenticateRequest,
) -> Option<AuthenticateAnswer> {
    let name = request.connection.username.as_deref();
    match name {
        None if request.password.is_none() => {
            Some(AuthenticateAnswer::Allow(Arc::clone(principal)))
        }
        name if everyone => Some(AuthenticateAnswer::Allow(Arc::new(Principal {
            name: name.map(Into::into),
            ..Principal::default()
        }))),
        _ => None,
    }
}

fn unknown() -> AuthenticateAnswer {
    AuthenticateAnswer::Deny(Denial::new(ReasonCode::BadUserNameOrPassword))
}

/// One walk through the order.
struct Run {
    steps: Arc<[Step]>,
    tenant: TenantId,
    plugin_threads: Arc<Semaphore>,
    anonymous: Arc<Principal>,
    everyone: bool,
}

impl Run {
    async fn run(self, request: AuthenticateRequest) -> AuthenticateAnswer {
        let request = Arc::new(request);
        for step in self.steps.iter() {
            let answer = match step {
                Step::Anonymous => anonymous(&self.anonymous, self.everyone, &request),
                Step::Password(authenticator) => self.password(authenticator, &request).await,
                Step::Plugin(plugins, index) => self.plugin(plugins, *index, &request).await,
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
        unknown()
    }

    async fn password(
        &self,
        authenticator: &Authenticator,
        request: &AuthenticateRequest,
    ) -> Option<AuthenticateAnswer> {
        let name = request.connection.username.as_deref()?;
        let password = request.password.as_deref().unwrap_or(&[]);
        let code = match authenticator.verify(self.tenant, name, password).await {
            Ok(verified) => {
                return Some(AuthenticateAnswer::Allow(Arc::new(Principal {
                    name: Some(verified.name),
                    roles: verified.roles.to_vec(),
                    ..Principal::default()
                })));
            }
            Err(LoginError::WrongCredential) => ReasonCode::BadUserNameOrPassword,
            Err(LoginError::Busy) => ReasonCode::ServerBusy,
            Err(error @ (LoginError::Store(_) | LoginError::Fault(_))) => {
                tracing::error!(user = name, "login failed: {error}");
                ReasonCode::ServerUnavailable
            }
        };
        Some(AuthenticateAnswer::Deny(Denial::new(code)))
    }

    async fn plugin(
        &self,
        plugins: &Arc<ActivePlugins>,
        index: PluginIndex,
        request: &Arc<AuthenticateRequest>,
    ) -> Option<AuthenticateAnswer> {
        let fault = || AuthenticateAnswer::Deny(Denial::new(ReasonCode::ServerUnavailable));
        let Ok(thread) = Arc::clone(&self.plugin_threads).acquire_owned().await else {
            return Some(fault());
        };
        let (plugins, request) = (Arc::clone(plugins), Arc::clone(request));
        let call = tokio::task::spawn_blocking(move || {
            let verdict = plugins.authenticate(index, &request);
            drop(thread);
            verdict
        });
        match call.await {
            Ok(AuthVerdict::Next) => None,
            Ok(AuthVerdict::Allow(principal)) => Some(AuthenticateAnswer::Allow(principal)),
            Ok(AuthVerdict::Deny(denial)) => Some(AuthenticateAnswer::Deny(denial)),
            Err(_) => Some(fault()),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmqtt_core::hook::{AuthenticateAnswer, Denial};
    use wasmqtt_core::ids::TenantId;
    use wasmqtt_core::reason::ReasonCode;

    use super::AuthChain;

    #[test]
    fn a_login_that_was_decided_before_a_principal_changed_does_not_come_in() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let chain = AuthChain::new(Vec::new(), TenantId::DEFAULT, false, handle, [].into());
        let allow = || AuthenticateAnswer::Allow(chain.anonymous.clone());
        assert_eq!(chain.if_current(allow(), 0), allow());
        chain.principal_changed();
        let busy = AuthenticateAnswer::Deny(Denial::new(ReasonCode::ServerBusy));
        assert_eq!(chain.if_current(allow(), 0), busy);
        let refused = || AuthenticateAnswer::Deny(Denial::new(ReasonCode::Banned));
        assert_eq!(chain.if_current(refused(), 0), refused());
        assert_eq!(chain.if_current(allow(), 1), allow());
    }
}
