//! One instance of a plugin in its own Store: started, called within a CPU budget.
//! What must not live here: who keeps instances, and what follows from a fault.

use std::sync::Arc;
use std::time::Duration;

use wasmqtt_core::hook::{
    AuthenticateRequest, AuthorizeAnswer, AuthorizeRequest, ExchangeRequest, OnPublishRequest,
    PublishVerdict,
};
use wasmqtt_core::message::MessageRef;
use wasmtime::Store;

use crate::answer::{AuthVerdict, ExchangeVerdict};
use crate::engine::Caller;
use crate::fault::{Fault, FaultKind};
use crate::limits::{INIT_ERROR_BYTES_MAX, WALL_FACTOR};
use crate::plugin::Plugin;
use crate::state::{Identity, Reply, State};
use crate::v1::Guest;

/// A started instance. A fault leaves its Store unusable, even for a new instance: whoever sees
/// one drops this.
pub(crate) struct Instance {
    store: Store<State>,
    guest: Guest,
    caller: Caller,
}

impl Instance {
    /// Makes a Store and an instance in it, and runs `init` within `cpu`.
    ///
    /// # Errors
    /// A fault of kind [`FaultKind::Start`].
    pub(crate) fn start(
        plugin: &Plugin,
        identity: &Arc<Identity>,
        cpu: Duration,
    ) -> Result<Self, Fault> {
        let mut store = plugin.new_store(State::new(Arc::clone(identity)));
        let caller = plugin.engine().caller();
        let started = call(&mut store, &caller, cpu, cpu * WALL_FACTOR, |store| {
            let guest = plugin.instantiate(store)?;
            let answer = guest.init(store)?;
            Ok((guest, answer))
        });
        match started {
            Ok((guest, Ok(()))) => Ok(Self { store, guest, caller }),
            Ok((_, Err(mut text))) => {
                text.truncate(text.floor_char_boundary(INIT_ERROR_BYTES_MAX));
                Err(Fault::new(FaultKind::Start, text))
            }
            Err(fault) => Err(Fault::new(FaultKind::Start, fault.to_string())),
        }
    }

    /// `wall`: what is left of the time that the client may wait.
    pub(crate) fn authenticate(
        &mut self,
        request: &AuthenticateRequest,
        wall: Duration,
    ) -> Result<AuthVerdict, Fault> {
        let cpu = self.store.data().identity.limits.authenticate_cpu;
        let guest = &self.guest;
        call(&mut self.store, &self.caller, cpu, wall, |store| guest.authenticate(store, request))
    }

    /// `wall`: what is left of the time that the client may wait.
    pub(crate) fn exchange(
        &mut self,
        request: &ExchangeRequest,
        wall: Duration,
    ) -> Result<ExchangeVerdict, Fault> {
        let cpu = self.store.data().identity.limits.authenticate_cpu;
        let guest = &self.guest;
        call(&mut self.store, &self.caller, cpu, wall, |store| guest.exchange(store, request))
    }

    pub(crate) fn authorize(
        &mut self,
        request: &AuthorizeRequest<'_>,
    ) -> Result<AuthorizeAnswer, Fault> {
        let cpu = self.store.data().identity.limits.call_cpu;
        let guest = &self.guest;
        call(&mut self.store, &self.caller, cpu, cpu * WALL_FACTOR, |store| {
            guest.authorize(store, request)
        })
    }

    pub(crate) fn on_publish(
        &mut self,
        request: &OnPublishRequest<'_>,
        message: MessageRef<'_>,
    ) -> Result<PublishVerdict, Fault> {
        let cpu = self.store.data().identity.limits.call_cpu;
        let guest = &self.guest;
        call(&mut self.store, &self.caller, cpu, cpu * WALL_FACTOR, |store| {
            guest.on_publish(store, request, message)
        })
    }
}

fn call<R>(
    store: &mut Store<State>,
    caller: &Caller,
    cpu: Duration,
    wall: Duration,
    enter: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    let state = store.data_mut();
    state.reply = Reply::default();
    state.resources.memory_was_refused = false;
    state.deadline.start(cpu, wall);
    store.set_epoch_deadline(1);
    caller
        .call(|| enter(store))
        .map_err(|error| Fault::from_call(&error, store.data().resources.memory_was_refused))
}
