//! Who is this: the authentication order and the exchanges of AUTH packets, on the control runtime.
//! What must not live here: how a password or a plugin is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmqtt_core::hook::{
    AuthenticateAnswer, AuthenticateRequest, Denial, ExchangeAnswer, ExchangeRequest, HookAnswer,
    HookReply, Kept, Principal,
};
use wasmqtt_core::ids::{HookToken, TenantId, WorkerId};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_host::active::{ActivePlugins, PluginIndex};
use wasmqtt_host::answer::{AuthVerdict, ExchangeVerdict};
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

/// A plugin that takes part in exchanges of AUTH packets.
pub(crate) type Exchanger = (Arc<ActivePlugins>, PluginIndex);

/// The configured order with all that it needs.
pub(crate) struct AuthChain {
    steps: Arc<[Step]>,
    /// Who is asked when CONNECT names an Authentication Method, in order.
    exchangers: Arc<[Exchanger]>,
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
        exchangers: Vec<Exchanger>,
        tenant: TenantId,
        everyone: bool,
        control: Handle,
        mailboxes: Arc<[Mailbox]>,
    ) -> Self {
        Self {
            steps: steps.into(),
            exchangers: exchangers.into(),
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
        self.answer_later(worker, token, async move {
            let answer = HookAnswer::Authenticate(chain.run(request).await);
            drop(place);
            answer
        });
        HookReply::Parked
    }

    /// One step of an exchange of AUTH packets.
    pub(crate) fn exchange(
        &self,
        worker: WorkerId,
        token: HookToken,
        request: ExchangeRequest,
    ) -> HookReply<ExchangeAnswer> {
        let deny = |code| HookReply::Now(ExchangeAnswer::Deny(Denial::new(code)));
        if self.exchangers.is_empty() {
            return deny(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return deny(ReasonCode::ServerBusy);
        };
        let (exchangers, threads) =
            (Arc::clone(&self.exchangers), Arc::clone(&self.plugin_threads));
        self.answer_later(worker, token, async move {
            let answer = HookAnswer::Exchange(exchange(&exchangers, &threads, request).await);
            drop(place);
            answer
        });
        HookReply::Parked
    }

    fn answer_later(
        &self,
        worker: WorkerId,
        token: HookToken,
        answer: impl Future<Output = HookAnswer> + Send + 'static,
    ) {
        let mailboxes = Arc::clone(&self.mailboxes);
        let epoch = self.epoch.load(Ordering::Acquire);
        self.control.spawn(async move {
            let answer = answer.await;
            if let Some(mailbox) = mailboxes.get(worker.index()) {
                mailbox.post(Letter::LoggedIn { token, answer, epoch });
            }
        });
    }

    /// Some principal was changed. Told before its connections are closed: a login that was decided
    /// on what was, and is not in by then, does not come in.
    pub(crate) fn principal_changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The answer, if it was decided on what is; else "busy", so that the client asks again.
    pub(crate) fn if_current(&self, answer: HookAnswer, epoch: u64) -> HookAnswer {
        if epoch == self.epoch.load(Ordering::Acquire) {
            return answer;
        }
        let busy = Denial::new(ReasonCode::ServerBusy);
        match answer {
            HookAnswer::Authenticate(AuthenticateAnswer::Allow(_)) => {
                HookAnswer::Authenticate(AuthenticateAnswer::Deny(busy))
            }
            HookAnswer::Exchange(ExchangeAnswer::Allow(..)) => {
                HookAnswer::Exchange(ExchangeAnswer::Deny(busy))
            }
            HookAnswer::Authenticate(_)
            | HookAnswer::Exchange(_)
            | HookAnswer::Authorize(_)
            | HookAnswer::OnPublish(_) => answer,
        }
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
        let (plugins, request) = (Arc::clone(plugins), Arc::clone(request));
        let call = move || plugins.authenticate(index, &request);
        match on_plugin_thread(&self.plugin_threads, call).await {
            Some(AuthVerdict::Next) => None,
            Some(AuthVerdict::Allow(principal)) => Some(AuthenticateAnswer::Allow(principal)),
            Some(AuthVerdict::Deny(denial)) => Some(AuthenticateAnswer::Deny(denial)),
            None => Some(AuthenticateAnswer::Deny(fault())),
        }
    }
}

const fn fault() -> Denial {
    Denial::new(ReasonCode::ServerUnavailable)
}

/// None: the call did not come to an end.
async fn on_plugin_thread<R: Send + 'static>(
    threads: &Arc<Semaphore>,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let thread = Arc::clone(threads).acquire_owned().await.ok()?;
    let call = tokio::task::spawn_blocking(move || {
        let result = call();
        drop(thread);
        result
    });
    call.await.ok()
}

/// Asks each plugin in turn whether it knows the method; whoever asked for a challenge sees the
/// answer to it, and nobody else.
async fn exchange(
    exchangers: &[Exchanger],
    threads: &Arc<Semaphore>,
    request: ExchangeRequest,
) -> ExchangeAnswer {
    let asked_by = request.kept.as_ref().map(|kept| kept.asked_by);
    let request = Arc::new(request);
    for (number, (plugins, index)) in (0_u16..).zip(exchangers) {
        if asked_by.is_some_and(|asked_by| asked_by != number) {
            continue;
        }
        let (plugins, index, request) = (Arc::clone(plugins), *index, Arc::clone(&request));
        let call = move || plugins.exchange(index, &request);
        match on_plugin_thread(threads, call).await {
            Some(ExchangeVerdict::Next) => {}
            Some(ExchangeVerdict::Continue { data, state }) => {
                let kept = Kept { asked_by: number, state };
                return ExchangeAnswer::Continue { data, kept };
            }
            Some(ExchangeVerdict::Allow(principal, data)) => {
                return ExchangeAnswer::Allow(principal, data);
            }
            Some(ExchangeVerdict::Deny(denial)) => return ExchangeAnswer::Deny(denial),
            None => return ExchangeAnswer::Deny(fault()),
        }
    }
    ExchangeAnswer::Deny(Denial::new(ReasonCode::BadAuthenticationMethod)) // [MQTT-4.12.0-1]
}

#[cfg(test)]
mod tests {
    use wasmqtt_core::hook::{AuthenticateAnswer, Denial, ExchangeAnswer, HookAnswer};
    use wasmqtt_core::ids::TenantId;
    use wasmqtt_core::reason::ReasonCode;

    use super::AuthChain;

    #[test]
    fn a_login_that_was_decided_before_a_principal_changed_does_not_come_in() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let tenant = TenantId::DEFAULT;
        let chain = AuthChain::new(Vec::new(), Vec::new(), tenant, false, handle, [].into());
        let deny = |code| {
            let denial = || Denial::new(code);
            [
                HookAnswer::Authenticate(AuthenticateAnswer::Deny(denial())),
                HookAnswer::Exchange(ExchangeAnswer::Deny(denial())),
            ]
        };
        let allow = || {
            let principal = || chain.anonymous.clone();
            [
                HookAnswer::Authenticate(AuthenticateAnswer::Allow(principal())),
                HookAnswer::Exchange(ExchangeAnswer::Allow(principal(), None)),
            ]
        };
        let seen =
            |answers: [HookAnswer; 2], epoch| answers.map(|answer| chain.if_current(answer, epoch));
        assert_eq!(seen(allow(), 0), allow());
        chain.principal_changed();
        assert_eq!(seen(allow(), 0), deny(ReasonCode::ServerBusy));
        assert_eq!(seen(deny(ReasonCode::Banned), 0), deny(ReasonCode::Banned));
        assert_eq!(seen(allow(), 1), allow());
    }
}
