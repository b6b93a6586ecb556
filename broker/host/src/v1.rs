//! The adapter of contract version 0.1.0: calls of its hooks, in the core's types.
//! What must not live here: deadlines, instances, and what follows from an answer.

use std::sync::Arc;

use wasmqtt_core::hook::{
    AccessAction, AuthenticateRequest, AuthorizeAnswer, AuthorizeRequest, ConnectionFacts,
    ExchangeRequest, OnPublishRequest, Principal, PublishVerdict, Replacement, Verdict,
};
use wasmqtt_core::message::{MessageRef, QoS};
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker, Resource};
use wasmtime::{Result, Store};

use crate::answer::{AuthVerdict, ExchangeVerdict, Refusal, denial};
use crate::fault::Stop;
use crate::manifest::Hook;
use crate::state::{Reply, State};
use crate::trusted::bindings::Plugin;
use crate::trusted::bindings::exports::wasmqtt::plugin as hooks;
use crate::trusted::bindings::wasmqtt::plugin::types;
use crate::trusted::lend::{Lent, lend};
use crate::v2;

mod imports;

/// The version of the contract.
pub(crate) const VERSION: &str = "0.1.0";

/// The caller asks only plugins that take part; one that does not has no opinion to offer.
pub(crate) const NO_HOOK: Stop = Stop::bad("the plugin does not take part in this hook");

/// Handles are numbered 0: a host function looks at what is lent, not at the number.
pub(crate) fn handle<T: 'static>() -> Resource<T> {
    Resource::new_borrow(0)
}

/// All functions that plugins may import, of this version and of what came later.
pub(crate) fn linker(engine: &wasmtime::Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    v2::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Where a component's hooks are, found once.
pub(crate) struct Exports {
    lifecycle: Option<hooks::lifecycle::GuestIndices>,
    authenticate: Option<hooks::authenticate::GuestIndices>,
    authorize: Option<hooks::authorize::GuestIndices>,
    on_publish: Option<hooks::on_publish::GuestIndices>,
    auth_exchange: Option<v2::Indices>,
}

impl Exports {
    /// # Errors
    /// An interface that should be there is not what the contract says.
    pub(crate) fn find(
        component: &InstancePre<State>,
        has_lifecycle: bool,
        declared: &[Hook],
    ) -> Result<Self> {
        use hooks::{authenticate, authorize, lifecycle, on_publish};
        let if_declared = |hook| declared.contains(&hook).then_some(component);
        Ok(Self {
            lifecycle: has_lifecycle
                .then(|| lifecycle::GuestIndices::new(component))
                .transpose()?,
            authenticate: if_declared(Hook::Authenticate)
                .map(authenticate::GuestIndices::new)
                .transpose()?,
            authorize: if_declared(Hook::Authorize)
                .map(authorize::GuestIndices::new)
                .transpose()?,
            on_publish: if_declared(Hook::OnPublish)
                .map(on_publish::GuestIndices::new)
                .transpose()?,
            auth_exchange: if_declared(Hook::AuthExchange).map(v2::Indices::new).transpose()?,
        })
    }

    /// # Errors
    /// A function of a hook has other parameters or results than the contract says.
    pub(crate) fn load(&self, store: &mut Store<State>, instance: &Instance) -> Result<Guest> {
        let mut guest = Guest::default();
        if let Some(lifecycle) = &self.lifecycle {
            guest.lifecycle = Some(lifecycle.load(&mut *store, instance)?);
        }
        if let Some(authenticate) = &self.authenticate {
            guest.authenticate = Some(authenticate.load(&mut *store, instance)?);
        }
        if let Some(authorize) = &self.authorize {
            guest.authorize = Some(authorize.load(&mut *store, instance)?);
        }
        if let Some(on_publish) = &self.on_publish {
            guest.on_publish = Some(on_publish.load(&mut *store, instance)?);
        }
        if let Some(auth_exchange) = &self.auth_exchange {
            guest.auth_exchange = Some(auth_exchange.load(&mut *store, instance)?);
        }
        Ok(guest)
    }
}

/// The hooks of one instance.
#[derive(Default)]
pub(crate) struct Guest {
    lifecycle: Option<hooks::lifecycle::Guest>,
    authenticate: Option<hooks::authenticate::Guest>,
    authorize: Option<hooks::authorize::Guest>,
    on_publish: Option<hooks::on_publish::Guest>,
    auth_exchange: Option<v2::Guest>,
}

impl Guest {
    /// The inner error is the plugin's own text.
    pub(crate) fn init(&self, store: &mut Store<State>) -> Result<std::result::Result<(), String>> {
        let Some(lifecycle) = &self.lifecycle else {
            return Ok(Ok(()));
        };
        lifecycle.call_init(store, handle())
    }

    pub(crate) fn authenticate(
        &self,
        store: &mut Store<State>,
        request: &AuthenticateRequest,
    ) -> Result<AuthVerdict> {
        let hook = self.authenticate.as_ref().ok_or(NO_HOOK)?;
        let connection = &*request.connection;
        let facts = Lent { connection, principal: None, message: None, exchange: None };
        let password = request.password.as_deref();
        let decision =
            lend(&facts, || hook.call_authenticate(&mut *store, handle(), password, handle()))?;
        Ok(match decision {
            hooks::authenticate::Decision::Next => AuthVerdict::Next,
            hooks::authenticate::Decision::Allow => {
                AuthVerdict::Allow(principal(&mut store.data_mut().reply, connection))
            }
            hooks::authenticate::Decision::Deny(types::Denial { code, reason }) => {
                AuthVerdict::Deny(denial(code, reason, Refusal::Connack)?)
            }
        })
    }

    pub(crate) fn exchange(
        &self,
        store: &mut Store<State>,
        request: &ExchangeRequest,
    ) -> Result<ExchangeVerdict> {
        v2::exchange(self.auth_exchange.as_ref().ok_or(NO_HOOK)?, store, request)
    }

    pub(crate) fn authorize(
        &self,
        store: &mut Store<State>,
        request: &AuthorizeRequest<'_>,
    ) -> Result<AuthorizeAnswer> {
        let hook = self.authorize.as_ref().ok_or(NO_HOOK)?;
        let facts = Lent {
            connection: request.connection,
            principal: Some(request.principal),
            message: None,
            exchange: None,
        };
        let asked = hooks::authorize::Request {
            action: match request.action {
                AccessAction::Publish => hooks::authorize::Action::Publish,
                AccessAction::Subscribe => hooks::authorize::Action::Subscribe,
                AccessAction::Will => hooks::authorize::Action::Will,
            },
            topic: request.topic,
            qos: qos_to_guest(request.qos),
            retain: request.retain,
            payload_length: request.payload_length,
        };
        let decision =
            lend(&facts, || hook.call_authorize(&mut *store, handle(), asked, handle()))?;
        let verdict = match decision {
            hooks::authorize::Decision::Next => Verdict::Next,
            hooks::authorize::Decision::Allow => Verdict::Allow,
            hooks::authorize::Decision::Deny(types::Denial { code, reason }) => {
                Verdict::Deny(denial(code, reason, Refusal::of(request.action))?)
            }
        };
        Ok(AuthorizeAnswer { verdict, ttl_ms: store.data().reply.ttl_ms })
    }

    /// `message` instead of the request's: plugins before this one may have changed it.
    pub(crate) fn on_publish(
        &self,
        store: &mut Store<State>,
        request: &OnPublishRequest<'_>,
        message: MessageRef<'_>,
    ) -> Result<PublishVerdict> {
        let hook = self.on_publish.as_ref().ok_or(NO_HOOK)?;
        let facts = Lent {
            connection: request.connection,
            principal: Some(request.principal),
            message: Some(message),
            exchange: None,
        };
        let verdict = lend(&facts, || hook.call_on_publish(&mut *store, handle(), handle()))?;
        match verdict {
            hooks::on_publish::Verdict::Pass => {
                Ok(replacement(&mut store.data_mut().reply, message))
            }
            hooks::on_publish::Verdict::Drop(types::Denial { code, reason }) => {
                Ok(PublishVerdict::Drop(denial(code, reason, Refusal::Drop)?))
            }
        }
    }
}

/// Whom an allow lets in.
pub(crate) fn principal(reply: &mut Reply, connection: &ConnectionFacts) -> Arc<Principal> {
    let grant = std::mem::take(&mut reply.grant);
    let name = match (grant.principal, &connection.username) {
        (Some(name), _) => Arc::from(name),
        (None, Some(username)) => Arc::from(&**username),
        (None, None) => Arc::clone(&connection.client_id),
    };
    Arc::new(Principal {
        name: Some(name),
        roles: grant.roles,
        attributes: grant.attributes,
        expires_at_unix_seconds: grant.expires_at_unix_seconds,
    })
}

/// What the setters changed; setting what is there already changes nothing.
fn replacement(reply: &mut Reply, message: MessageRef<'_>) -> PublishVerdict {
    let topic = reply.topic.take().filter(|topic| topic != message.topic);
    let payload = reply.payload.take();
    let qos = reply.qos.take().filter(|qos| *qos != message.qos);
    let retain = reply.retain.take().filter(|retain| *retain != message.retain);
    if topic.is_none() && payload.is_none() && qos.is_none() && retain.is_none() {
        return PublishVerdict::Pass;
    }
    PublishVerdict::Replace(Box::new(Replacement {
        topic: topic.map(String::into_boxed_str),
        payload: payload.map(Vec::into_boxed_slice),
        qos,
        retain,
    }))
}

const fn qos_to_guest(qos: QoS) -> types::Qos {
    match qos {
        QoS::AtMostOnce => types::Qos::AtMostOnce,
        QoS::AtLeastOnce => types::Qos::AtLeastOnce,
        QoS::ExactlyOnce => types::Qos::ExactlyOnce,
    }
}

const fn qos_from_guest(qos: types::Qos) -> QoS {
    match qos {
        types::Qos::AtMostOnce => QoS::AtMostOnce,
        types::Qos::AtLeastOnce => QoS::AtLeastOnce,
        types::Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}
