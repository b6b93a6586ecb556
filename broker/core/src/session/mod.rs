//! A Session: what the broker keeps of a client across connections [MQTT 4.1].
//! What must not live here: the connection, and anything about other sessions.

pub mod inbound;
pub mod outbound;
pub mod waiting;
pub mod will;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::ids::{SessionId, TenantId};
use crate::limits::Limits;
use crate::retained::Cursor;
use crate::router::{Presence, Subscription};
use crate::store::SubscriptionOptions;
use crate::topic::TopicFilter;

use inbound::Inbound;
use outbound::Outbound;
pub use waiting::{Queued, Share};
use will::DelayedWill;

/// What a subscription has yet to get of the retained messages.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The subscription's filter.
    pub filter: TopicFilter,
    /// The subscription's options.
    pub options: SubscriptionOptions,
    /// How far it is.
    pub cursor: Cursor,
}

/// Everything that outlives a connection, as plain data that can move to another worker.
#[derive(Debug)]
pub struct SessionState {
    /// Its number.
    pub id: SessionId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its Client Identifier.
    pub client_id: Arc<str>,
    /// Whose it is; none: anonymous.
    pub principal: Option<Arc<str>>,
    /// Session Expiry Interval, `u32::MAX`: never, 0: ends with the connection.
    pub expiry_seconds: u32,
    /// Subscriptions by filter.
    pub subscriptions: HashMap<TopicFilter, SubscriptionOptions, foldhash::fast::RandomState>,
    /// Retained messages that are to be sent, of one subscription after the other.
    pub replays: Vec<Replay>,
    /// What share groups see of it, once it is in one.
    pub presence: Option<Arc<Presence>>,
    /// Towards the client.
    pub outbound: Outbound,
    /// From the client.
    pub inbound: Inbound,
    /// A Will whose delay runs.
    pub delayed_will: Option<Box<DelayedWill>>,
}

impl SessionState {
    /// A session without any state.
    #[must_use]
    pub fn new(
        id: SessionId,
        tenant: TenantId,
        client_id: Arc<str>,
        principal: Option<Arc<str>>,
        expiry_seconds: u32,
        inflight_max: u16,
    ) -> Self {
        Self {
            id,
            tenant,
            client_id,
            principal,
            expiry_seconds,
            subscriptions: HashMap::default(),
            replays: Vec::new(),
            presence: None,
            outbound: Outbound::new(inflight_max),
            inbound: Inbound::default(),
            delayed_will: None,
        }
    }

    /// What the trie keeps of one of its subscriptions.
    pub fn subscription(
        &mut self,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> Subscription {
        let presence = filter
            .share_group()
            .map(|_| Arc::clone(self.presence.get_or_insert_with(Arc::default)));
        Subscription { session: self.id, options, durable: self.is_durable(), presence }
    }

    /// Tells share groups that the client is there.
    pub fn tell_there(&self, limits: &Limits) {
        if let Some(presence) = &self.presence {
            self.tell_held(limits);
            presence.arrive(self.outbound.window_max());
        }
    }

    /// Tells share groups that the client is away.
    pub fn tell_away(&self, limits: &Limits) {
        if let Some(presence) = &self.presence {
            presence.leave();
            self.tell_held(limits);
        }
    }

    /// Tells share groups what the session holds; to be called when that has changed.
    pub fn tell_held(&self, limits: &Limits) {
        if let Some(presence) = &self.presence {
            let held = self.outbound.in_flight() + self.outbound.queued();
            presence.hold(held, self.outbound.is_full(limits));
        }
    }

    /// Whether the session outlives its connection, and its state goes through the store.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.expiry_seconds > 0
    }
}
