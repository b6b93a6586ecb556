//! What all workers share of a tenant: subscriptions, retained messages, who owns which session.
//! What must not live here: anything that one worker alone needs; no call here blocks for long.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use crate::ids::{SessionId, SessionSlot, TenantId, WorkerId};
use crate::limits::{Limits, RETAINED_PURGE_MAX};
use crate::message::QoS;
use crate::retained::Retained;
use crate::router::traffic::{Count, Traffic};
use crate::router::tree::Tree;
use crate::store::SubscriptionOptions;
use crate::time::Millis;
use crate::topic::TopicFilter;

/// A session, as the trie names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subscriber {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Its place there.
    pub slot: SessionSlot,
}

/// A subscription, as the trie keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The session.
    pub session: SessionId,
    /// Its options.
    pub options: SubscriptionOptions,
    /// Whether messages for it go through the store.
    pub durable: bool,
}

/// One session of a match set, with every subscription that matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Where it was when the set was made.
    pub slot: SessionSlot,
    /// Which session that was.
    pub session: SessionId,
    /// Whether messages for it go through the store.
    pub durable: bool,
    /// The matching subscriptions, at least one.
    pub options: SmallVec<[SubscriptionOptions; 1]>,
}

/// What one target gets of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The highest QoS of the matching subscriptions, not above the message's.
    pub qos: QoS,
    /// Whether RETAIN stays as published.
    pub retain_as_published: bool,
    /// Their Subscription Identifiers.
    pub identifiers: SmallVec<[u32; 2]>,
}

impl Target {
    /// What this target gets of a message of that QoS; nothing if all its matching subscriptions
    /// are No Local and it is the publisher [MQTT-3.8.3-3].
    #[must_use]
    pub fn grant(&self, qos: QoS, publisher: Option<SessionId>) -> Option<Grant> {
        let own = publisher == Some(self.session);
        let mut grant: Option<Grant> = None;
        for options in self.options.iter().filter(|options| !(own && options.no_local)) {
            let grant = grant.get_or_insert_with(|| Grant {
                qos: QoS::AtMostOnce,
                retain_as_published: false,
                identifiers: SmallVec::new(),
            });
            grant.qos = grant.qos.max(options.qos.min(qos));
            grant.retain_as_published |= options.retain_as_published;
            if options.identifier != 0 {
                grant.identifiers.push(options.identifier);
            }
        }
        grant
    }
}

/// Who gets messages of one topic, by worker.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct MatchSet {
    workers: Box<[Box<[Target]>]>,
    durable: bool,
    total: usize,
}

impl MatchSet {
    /// The part of one worker.
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> &[Target] {
        self.workers.get(worker.index()).map_or(&[], |targets| targets)
    }

    /// Whether some target is durable.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.durable
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.total * size_of::<Target>()
    }

    /// Targets on all workers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.total
    }

    /// Whether nobody subscribes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Its targets whose sessions are not in `other`, each at the place that `place_of` gives for
    /// its session, if it gives one.
    #[must_use]
    pub fn without(
        &self,
        other: &Self,
        place_of: impl Fn(SessionId) -> Option<(WorkerId, SessionSlot)>,
    ) -> Self {
        let known: HashSet<SessionId, foldhash::fast::RandomState> =
            other.iter().map(|(_, target)| target.session).collect();
        let mut workers = vec![Vec::new(); self.workers.len()];
        let (mut durable, mut total) = (false, 0);
        for (worker, target) in self.iter().filter(|(_, it)| !known.contains(&it.session)) {
            let (worker, slot) = place_of(target.session).unwrap_or((worker, target.slot));
            durable |= target.durable;
            total += 1;
            workers[worker.index()].push(Target { slot, ..target.clone() });
        }
        Self { workers: workers.into_iter().map(Vec::into_boxed_slice).collect(), durable, total }
    }

    /// Where a session was when the set was made, if it is in it.
    #[must_use]
    pub fn place_of(&self, session: SessionId) -> Option<(WorkerId, SessionSlot)> {
        let (worker, target) = self.iter().find(|(_, target)| target.session == session)?;
        Some((worker, target.slot))
    }

    /// Every target with its worker.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Target)> {
        self.workers.iter().enumerate().flat_map(|(worker, targets)| {
            let worker = WorkerId(u16::try_from(worker).unwrap_or(u16::MAX));
            targets.iter().map(move |target| (worker, target))
        })
    }
}

/// Which worker owns a session, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The worker.
    pub worker: WorkerId,
    /// The session's place there.
    pub slot: SessionSlot,
    /// The session.
    pub session: SessionId,
    /// The principal that made it; none: anonymous. Nobody else gets it.
    pub principal: Option<Arc<str>>,
}

/// What all workers share of one tenant.
#[derive(Debug)]
pub struct TenantShared {
    /// The tenant.
    pub id: TenantId,
    /// Its name.
    pub name: Arc<str>,
    version: AtomicU64,
    tree: RwLock<Tree<Subscriber, Subscription>>,
    retained: RwLock<Retained>,
    directory: Mutex<HashMap<Arc<str>, Owner, foldhash::fast::RandomState>>,
    /// By worker, as far as they were asked for.
    traffic: Mutex<Vec<Arc<Traffic>>>,
    connections: AtomicUsize,
    dropped: AtomicU64,
    delayed_messages: AtomicUsize,
    delayed_bytes: AtomicUsize,
}

impl TenantShared {
    fn new(id: TenantId, name: Arc<str>) -> Self {
        Self {
            id,
            name,
            version: AtomicU64::new(1),
            tree: RwLock::default(),
            retained: RwLock::default(),
            directory: Mutex::default(),
            traffic: Mutex::default(),
            connections: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            delayed_messages: AtomicUsize::new(0),
            delayed_bytes: AtomicUsize::new(0),
        }
    }

    /// What a worker counts of this tenant.
    #[must_use]
    pub fn traffic(&self, worker: WorkerId) -> Arc<Traffic> {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        while traffic.len() <= worker.index() {
            traffic.push(Arc::default());
        }
        Arc::clone(&traffic[worker.index()])
    }

    /// What all workers counted.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.iter().map(|traffic| traffic.get(count)).sum()
    }

    /// A client is connected, or is no longer.
    pub fn connection_changed(&self, is_connected: bool) {
        if is_connected {
            self.connections.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Clients that are connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Messages were dropped on their way to sessions.
    pub fn add_dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    /// Takes room for a delayed message; false, and nothing is taken, if there is none.
    #[must_use]
    pub fn reserve_delayed(&self, bytes: usize, limits: &Limits) -> bool {
        let messages = self.delayed_messages.fetch_add(1, Ordering::Relaxed);
        let total = self.delayed_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let has_room = messages < limits.delayed_messages_max && total <= limits.delayed_bytes_max;
        if !has_room {
            self.release_delayed(bytes);
        }
        has_room
    }

    /// Gives the room of a delayed message back.
    pub fn release_delayed(&self, bytes: usize) {
        self.delayed_messages.fetch_sub(1, Ordering::Relaxed);
        self.delayed_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Delayed messages that wait.
    #[must_use]
    pub fn delayed(&self) -> usize {
        self.delayed_messages.load(Ordering::Relaxed)
    }

    /// Messages that were dropped on their way to sessions.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Changes with every subscription that comes, goes or moves; a match set that was made at a
    /// version is good as long as the version stands.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Changes subscriptions. When this returns, every worker routes by them.
    pub fn change<R>(&self, change: impl FnOnce(&mut Tree<Subscriber, Subscription>) -> R) -> R {
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut tree);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// Moves a session's subscriptions to another place.
    pub fn move_subscriptions<'a>(
        &self,
        filters: impl Iterator<Item = &'a TopicFilter>,
        from: Subscriber,
        to: Subscriber,
    ) {
        self.change(|tree| {
            for filter in filters {
                if let Some(subscription) = tree.remove(filter, from) {
                    tree.insert(filter, to, subscription);
                }
            }
        });
    }

    /// Number of subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.tree.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The match set of a valid Topic Name, and the version at which it holds.
    #[must_use]
    pub fn matches(&self, topic: &str, workers: u16) -> (u64, MatchSet) {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let version = self.version(); // stands while the lock is held
        let mut found: SmallVec<[(Subscriber, Subscription); 16]> = SmallVec::new();
        tree.for_each_match(topic, &mut |subscriber, subscription: &Subscription| {
            found.push((subscriber, *subscription));
        });
        drop(tree);
        (version, MatchSet::build(&mut found, workers))
    }

    /// Reads retained messages.
    pub fn retained(&self) -> RwLockReadGuard<'_, Retained> {
        self.retained.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes retained messages.
    pub fn retained_mut(&self) -> RwLockWriteGuard<'_, Retained> {
        self.retained.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions by Client Identifier.
    pub fn directory(
        &self,
    ) -> MutexGuard<'_, HashMap<Arc<str>, Owner, foldhash::fast::RandomState>> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MatchSet {
    fn build(found: &mut [(Subscriber, Subscription)], workers: u16) -> Self {
        found.sort_unstable_by_key(|(subscriber, _)| (subscriber.worker, subscriber.slot));
        let mut per_worker: Vec<Vec<Target>> = Vec::new();
        per_worker.resize_with(usize::from(workers), Vec::new);
        let mut set = Self::default();
        for (subscriber, subscription) in found.iter() {
            let Some(targets) = per_worker.get_mut(subscriber.worker.index()) else {
                continue;
            };
            match targets.last_mut() {
                Some(last) if last.slot == subscriber.slot => {
                    last.options.push(subscription.options);
                }
                _ => {
                    set.total += 1;
                    targets.push(Target {
                        slot: subscriber.slot,
                        session: subscription.session,
                        durable: subscription.durable,
                        options: SmallVec::from_buf([subscription.options]),
                    });
                }
            }
            set.durable |= subscription.durable;
        }
        set.workers = per_worker.into_iter().map(Vec::into_boxed_slice).collect();
        set
    }
}

/// What all workers share.
#[derive(Debug, Default)]
pub struct Shared {
    tenants: RwLock<HashMap<TenantId, Arc<TenantShared>, foldhash::fast::RandomState>>,
}

impl Shared {
    /// The tenant of that number, if it was added.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<Arc<TenantShared>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All tenants.
    #[must_use]
    pub fn tenants(&self) -> Vec<Arc<TenantShared>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.values().cloned().collect()
    }

    /// Forgets retained messages that have expired, a bounded number at a time.
    pub fn purge_expired(&self, now: Millis) {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        for tenant in tenants.values() {
            tenant.retained_mut().purge_expired(now, RETAINED_PURGE_MAX);
        }
    }

    /// A tenant that nobody finds, for a connection that is refused since its tenant is unknown.
    #[must_use]
    pub fn nobody() -> Arc<TenantShared> {
        Arc::new(TenantShared::new(TenantId(0), "".into()))
    }

    /// Adds a tenant; the one that is there if it was added before.
    pub fn add_tenant(&self, id: TenantId, name: Arc<str>) -> Arc<TenantShared> {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tenants.entry(id).or_insert_with(|| Arc::new(TenantShared::new(id, name))))
    }
}
