//! From the generated bindings to the plugin's traits: the exported functions find the instance's
//! plugin and convert arguments and answers. No decision is made here.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::additions::wasmqtt::plugin0_2_0::exchanges as additions;
use crate::bindings::imports::wasmqtt::plugin::types as backend;
use crate::bindings::{auth_exchange, authenticate, authorize, lifecycle, on_publish};
use crate::hooks::{AuthExchange, Authenticate, Authorize, OnPublish, Plugin};
use crate::types::{
    Action, CacheHint, Connection, Decision, Denial, Exchange, Grant, Message, Request, Startup,
    StepDecision, Verdict, qos_from_backend,
};

use auth_exchange::exports::wasmqtt::plugin0_2_0::auth_exchange as auth_exchange_export;
use authenticate::exports::wasmqtt::plugin::authenticate as authenticate_export;
use authorize::exports::wasmqtt::plugin::authorize as authorize_export;
use lifecycle::exports::wasmqtt::plugin::lifecycle as lifecycle_export;
use on_publish::exports::wasmqtt::plugin::on_publish as on_publish_export;

/// Where a plugin is kept between calls.
pub type Slot<P> = RefCell<Option<P>>;

/// The component that `export!` declares: knows the slot of its plugin.
pub trait Component {
    /// The plugin inside.
    type Plugin: Plugin;
    /// An instance runs one call at a time on one thread, so the slot is thread-local.
    fn slot() -> &'static LocalKey<Slot<Self::Plugin>>;
}

fn with_plugin<C: Component, T>(call: impl FnOnce(&mut C::Plugin) -> T) -> T {
    C::slot()
        .with_borrow_mut(|slot| call(slot.as_mut().expect("the broker calls init before any hook")))
}

impl<C: Component> lifecycle_export::Guest for C {
    fn init(startup: &backend::Startup) -> Result<(), String> {
        let plugin = C::Plugin::init(&Startup(startup))?;
        C::slot().set(Some(plugin));
        Ok(())
    }
}

impl<C: Component<Plugin: Authenticate>> authenticate_export::Guest for C {
    fn authenticate(
        connection: &backend::Connection,
        password: Option<Vec<u8>>,
        grant: &backend::Grant,
    ) -> authenticate_export::Decision {
        let connection = Connection(connection);
        let decision = with_plugin::<C, _>(|plugin| {
            plugin.authenticate(&connection, password.as_deref(), &Grant(grant))
        });
        match decision {
            Decision::Next => authenticate_export::Decision::Next,
            Decision::Allow => authenticate_export::Decision::Allow,
            Decision::Deny(denial) => authenticate_export::Decision::Deny(denial.into()),
        }
    }
}

impl<C: Component<Plugin: AuthExchange>> auth_exchange_export::Guest for C {
    fn step(
        connection: &backend::Connection,
        exchange: &additions::Exchange,
        grant: &backend::Grant,
    ) -> auth_exchange_export::Decision {
        let connection = Connection(connection);
        let decision = with_plugin::<C, _>(|plugin| {
            plugin.step(&connection, &Exchange(exchange), &Grant(grant))
        });
        match decision {
            StepDecision::Next => auth_exchange_export::Decision::Next,
            StepDecision::Continue(data) => auth_exchange_export::Decision::Continue(data),
            StepDecision::Allow(data) => auth_exchange_export::Decision::Allow(data),
            StepDecision::Deny(denial) => auth_exchange_export::Decision::Deny(denial.into()),
        }
    }
}

impl<C: Component<Plugin: Authorize>> authorize_export::Guest for C {
    fn authorize(
        connection: &backend::Connection,
        request: authorize_export::Request,
        cache: &backend::CacheHint,
    ) -> authorize_export::Decision {
        let request = Request {
            action: match request.action {
                authorize_export::Action::Publish => Action::Publish,
                authorize_export::Action::Subscribe => Action::Subscribe,
                authorize_export::Action::Will => Action::Will,
            },
            topic: request.topic,
            qos: qos_from_backend(request.qos),
            retain: request.retain,
            payload_length: request.payload_length,
        };
        let connection = Connection(connection);
        let decision = with_plugin::<C, _>(|plugin| {
            plugin.authorize(&connection, &request, &CacheHint(cache))
        });
        match decision {
            Decision::Next => authorize_export::Decision::Next,
            Decision::Allow => authorize_export::Decision::Allow,
            Decision::Deny(denial) => authorize_export::Decision::Deny(denial.into()),
        }
    }
}

impl<C: Component<Plugin: OnPublish>> on_publish_export::Guest for C {
    fn on_publish(
        connection: &backend::Connection,
        message: &backend::Message,
    ) -> on_publish_export::Verdict {
        let connection = Connection(connection);
        let verdict =
            with_plugin::<C, _>(|plugin| plugin.on_publish(&connection, &Message(message)));
        match verdict {
            Verdict::Pass => on_publish_export::Verdict::Pass,
            Verdict::Drop(denial) => on_publish_export::Verdict::Drop(denial.into()),
        }
    }
}

impl From<Denial> for backend::Denial {
    fn from(denial: Denial) -> Self {
        backend::Denial { code: denial.code, reason: denial.reason }
    }
}
