//! `$SYS`: what a tenant may know of the broker, published as retained messages now and then.
//! What must not live here: counting.

use std::sync::Arc;

use crate::action::Shell;
use crate::message::{Message, MessageRef, QoS};
use crate::router::TenantShared;
use crate::router::traffic::Count;
use crate::time::Millis;

use super::Worker;

/// When the values are published, by the worker that does it.
#[derive(Debug)]
pub(super) struct Clock {
    interval_ms: u64,
    /// The broker's start, as far as the core knows.
    began: Millis,
    next: Millis,
}

impl Clock {
    pub(super) const fn new(interval_seconds: u32) -> Self {
        let interval_ms = interval_seconds as u64 * 1000;
        Self { interval_ms, began: Millis::NEVER, next: Millis(0) }
    }

    /// For how long the broker runs, if it is time to say so.
    fn uptime_seconds(&mut self, now: Millis) -> Option<u64> {
        if self.began == Millis::NEVER {
            self.began = now;
        }
        if now < self.next {
            return None;
        }
        self.next = now + self.interval_ms;
        Some(now.since(self.began) / 1000)
    }
}

impl<S: Shell> Worker<S> {
    /// Publishes to each tenant what has changed of its values, when it is time.
    pub(super) fn publish_sys(&mut self, now: Millis, shell: &mut S) {
        let Some(uptime_seconds) = self.sys.as_mut().and_then(|sys| sys.uptime_seconds(now)) else {
            return;
        };
        for tenant in self.shared.tenants() {
            for (name, value) in values(&tenant, uptime_seconds) {
                self.publish_own(now, &tenant, &["$SYS/broker/", name].concat(), &value, shell);
            }
        }
    }

    /// Publishes a message of the broker's own: at QoS 0, so that it waits for nobody, and
    /// retained, so that who subscribes gets it at once.
    fn publish_own(
        &mut self,
        now: Millis,
        tenant: &Arc<TenantShared>,
        topic: &str,
        value: &str,
        shell: &mut S,
    ) {
        let is_known = |known: &Arc<Message>| known.payload() == value.as_bytes();
        if tenant.retained().get(topic).is_some_and(is_known) {
            return;
        }
        let message = Arc::new(Message::new(MessageRef {
            topic,
            payload: value.as_bytes(),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: &[],
            expires_at: Millis::NEVER,
            publisher: None,
        }));
        // Where the tenant's retained messages are at their limit, who subscribes has to wait.
        let _ = tenant.retained_mut().set(Arc::clone(&message), &self.limits.retained);
        let bounds = (self.workers, self.limits.routes_max);
        let chain = |topic: &str| shell.chain_mask(tenant.id, topic);
        let Ok(route) = self.routes.find(tenant, topic, None, bounds, chain) else {
            return;
        };
        let Some(route) = self.routes.get(route) else {
            return;
        };
        let set = Arc::clone(&route.set);
        let mut kept = Some(Arc::clone(&message));
        self.deliver_set(now, message.as_ref().as_ref(), &mut kept, None, &set, shell);
        self.share_own(now, message, &set, shell);
    }
}

/// What stands behind `$SYS/broker/`, in Mosquitto's names.
fn values(tenant: &TenantShared, uptime_seconds: u64) -> [(&'static str, String); 16] {
    let count = |count| tenant.count(count).to_string();
    let connected = tenant.connections();
    let total = tenant.directory().len().max(connected);
    [
        ("version", concat!("wasmqtt version ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("uptime", format!("{uptime_seconds} seconds")),
        ("clients/connected", connected.to_string()),
        ("clients/disconnected", (total - connected).to_string()),
        ("clients/total", total.to_string()),
        ("messages/received", count(Count::PacketsReceived)),
        ("messages/sent", count(Count::PacketsSent)),
        ("bytes/received", count(Count::BytesReceived)),
        ("bytes/sent", count(Count::BytesSent)),
        ("publish/messages/received", count(Count::PublishesReceived)),
        ("publish/messages/sent", count(Count::PublishesSent)),
        ("publish/messages/dropped", tenant.dropped().to_string()),
        ("messages/dropped", tenant.dropped().to_string()),
        ("subscriptions/count", tenant.subscriptions().to_string()),
        ("retained messages/count", tenant.retained().len().to_string()),
        ("delayed messages/count", tenant.delayed().to_string()),
    ]
}
