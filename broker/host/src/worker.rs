//! The plugins of one worker thread: its instances, called inline on the packet path.
//! What must not live here: anything that another thread writes to.

use std::sync::Arc;
use std::time::Duration;

use wasmqtt_core::hook::{
    AuthorizeAnswer, AuthorizeRequest, ChainMask, Denial, OnPublishRequest, PublishVerdict,
    Replacement, Verdict,
};
use wasmqtt_core::message::MessageRef;
use wasmqtt_core::reason::ReasonCode;

use crate::active::{Active, OnFault, PluginIndex, Shared};
use crate::breaker::Admission;
use crate::builder::Requests;
use crate::clock::thread_cpu;
use crate::fault::{Fault, FaultKind};
use crate::instance::Instance;
use crate::limits::TIMED_CALL_EVERY;
use crate::manifest::Hook;
use crate::stats::Counters;

/// The plugins of one worker. Calls are synchronous and return within their CPU budget and a few
/// milliseconds; a call that goes wrong is answered by the policy for that hook.
pub struct WorkerPlugins {
    shared: Arc<Shared>,
    seats: Vec<Seat>,
    builder: Option<Arc<Requests>>,
}

/// One plugin's place on this worker. Calls are synchronous, so one instance is enough.
struct Seat {
    active: Arc<Active>,
    counters: Arc<Counters>,
    instance: Option<Instance>,
}

impl WorkerPlugins {
    pub(crate) fn new(shared: &Arc<Shared>, builder: Option<Arc<Requests>>) -> Self {
        let seat = |active: &Arc<Active>| Seat {
            counters: active.new_counters(),
            // A plugin that fails here was proved to start: the first call tries again, and counts.
            instance: active.start_instance().ok(),
            active: Arc::clone(active),
        };
        let worker = Self {
            seats: shared.plugins.iter().map(seat).collect(),
            shared: Arc::clone(shared),
            builder,
        };
        worker.order_spares();
        worker
    }

    /// Asks one plugin whether a connection may do something. Any fault is a refusal.
    pub fn authorize(
        &mut self,
        plugin: PluginIndex,
        request: &AuthorizeRequest<'_>,
    ) -> AuthorizeAnswer {
        let run = |instance: &mut Instance| instance.authorize(request);
        let answer = match self.seats.get_mut(plugin.0) {
            Some(seat) => seat.call(Hook::Authorize, plugin.0, self.builder.as_deref(), run),
            None => Err(FaultKind::NotReady),
        };
        answer.unwrap_or(AuthorizeAnswer {
            verdict: Verdict::Deny(Denial::new(ReasonCode::UnspecifiedError)),
            ttl_ms: 0,
        })
    }

    /// Which plugins of the on-publish chain a topic concerns.
    #[must_use]
    pub fn chain_mask(&self, topic: &str) -> ChainMask {
        self.shared.chain_mask(topic)
    }

    /// Shows a message to the plugins of `request.chain`, in order; each sees what those before it
    /// changed. Once the topic has changed, each further plugin's prefilter decides on the new one.
    pub fn on_publish(&mut self, request: &OnPublishRequest<'_>) -> PublishVerdict {
        let mut changed: Option<Box<Replacement>> = None;
        for (bit, &index) in self.shared.chain.iter().enumerate() {
            let message = as_changed(request.message, changed.as_deref());
            let seat = &mut self.seats[index];
            let is_concerned = match changed.as_ref().and_then(|changed| changed.topic.as_ref()) {
                Some(topic) => seat.active.wants(topic),
                None => request.chain.0 & (1 << bit) != 0,
            };
            if !is_concerned {
                continue;
            }
            let run = |instance: &mut Instance| instance.on_publish(request, message);
            match seat.call(Hook::OnPublish, index, self.builder.as_deref(), run) {
                Ok(PublishVerdict::Pass) => {}
                Ok(PublishVerdict::Replace(replacement)) => merge(&mut changed, replacement),
                Ok(PublishVerdict::Drop(denial)) => return PublishVerdict::Drop(denial),
                Err(_) if seat.active.on_fault == OnFault::Pass => {}
                Err(_) => return PublishVerdict::Drop(Denial::new(ReasonCode::UnspecifiedError)),
            }
        }
        changed.map_or(PublishVerdict::Pass, PublishVerdict::Replace)
    }

    fn order_spares(&self) {
        let Some(builder) = &self.builder else { return };
        for (index, seat) in self.seats.iter().enumerate() {
            if !seat.active.has_fast_init {
                builder.ask(index);
            }
        }
    }
}

fn as_changed<'a>(message: MessageRef<'a>, changed: Option<&'a Replacement>) -> MessageRef<'a> {
    let Some(changed) = changed else {
        return message;
    };
    MessageRef {
        topic: changed.topic.as_deref().unwrap_or(message.topic),
        payload: changed.payload.as_deref().unwrap_or(message.payload),
        qos: changed.qos.unwrap_or(message.qos),
        retain: changed.retain.unwrap_or(message.retain),
        ..message
    }
}

fn merge(changed: &mut Option<Box<Replacement>>, later: Box<Replacement>) {
    let Some(earlier) = changed else {
        *changed = Some(later);
        return;
    };
    let Replacement { topic, payload, qos, retain } = *later;
    earlier.topic = topic.or(earlier.topic.take());
    earlier.payload = payload.or(earlier.payload.take());
    earlier.qos = qos.or(earlier.qos);
    earlier.retain = retain.or(earlier.retain);
}

impl Seat {
    fn call<R>(
        &mut self,
        hook: Hook,
        index: usize,
        builder: Option<&Requests>,
        run: impl FnOnce(&mut Instance) -> Result<R, Fault>,
    ) -> Result<R, FaultKind> {
        let calls = self.counters.call(hook);
        let admission = self.active.admit();
        if admission == Admission::Quarantined {
            self.counters.fault(hook, FaultKind::Quarantined);
            return Err(FaultKind::Quarantined);
        }
        let timed_from = calls.is_multiple_of(TIMED_CALL_EVERY).then(thread_cpu);
        let answer = self.instance(index, builder).and_then(run);
        if let Some(start) = timed_from {
            self.counters.timed(hook, thread_cpu().saturating_sub(start));
        }
        match answer {
            Ok(answer) => {
                if admission == Admission::Probe {
                    self.active.close_breaker();
                }
                Ok(answer)
            }
            Err(fault) => {
                self.instance = None;
                self.counters.fault(hook, fault.kind);
                self.active.fault(admission, Some(hook), &fault);
                Err(fault.kind)
            }
        }
    }

    fn instance(
        &mut self,
        index: usize,
        builder: Option<&Requests>,
    ) -> Result<&mut Instance, Fault> {
        if self.instance.is_none() {
            self.instance = Some(self.replacement(index, builder)?);
        }
        self.instance.as_mut().ok_or_else(|| Fault::new(FaultKind::NotReady, "no instance"))
    }

    /// Never longer on this thread than one call may take.
    fn replacement(&self, index: usize, builder: Option<&Requests>) -> Result<Instance, Fault> {
        let Active { plugin, identity, .. } = &*self.active;
        if self.active.has_fast_init {
            let cpu: Duration = identity.limits.init_cpu.min(identity.limits.call_cpu);
            return Instance::start(plugin, identity, cpu);
        }
        let spare = self.active.take_spare();
        if let Some(builder) = builder {
            builder.ask(index);
        }
        spare.ok_or_else(|| Fault::new(FaultKind::NotReady, "no instance is ready yet"))
    }
}
