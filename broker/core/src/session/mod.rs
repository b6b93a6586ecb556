//! A Session: what the broker keeps of a client across connections [MQTT 4.1].
//! What must not live here: the connection, and anything about other sessions.

pub mod inbound;
pub mod outbound;
pub mod waiting;
pub mod will;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::ids::{SessionId, TenantId};
use crate::retained::Cursor;
use crate::store::SubscriptionOptions;
use crate::topic::TopicFilter;

use inbound::Inbound;
use outbound::Outbound;
pub use waiting::Queued;
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
            outbound: Outbound::new(inflight_max),
            inbound: Inbound::default(),
            delayed_will: None,
        }
    }

    /// Whether the session outlives its connection, and its state goes through the store.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.expiry_seconds > 0
    }
}
