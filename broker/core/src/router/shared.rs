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
use crate::router::group::{GroupRule, GroupSet, Member, Presence};
use crate::router::subscriptions::{Key, Subscriptions};
use crate::router::traffic::{Count, Traffic};
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
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The session.
    pub session: SessionId,
    /// Its options.
    pub options: SubscriptionOptions,
    /// Whether messages for it go through the store.
    pub durable: bool,
    /// How the session stands, if this is a Shared Subscription.
    pub presence: Option<Arc<Presence>>,
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
    groups: Box<[GroupSet]>,
    durable: bool,
    total: usize,
}

impl MatchSet {
    /// The part of one worker.
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> &[Target] {
        self.workers.get(worker.index()).map_or(&[], |targets| targets)
    }

    /// The share groups that match: one member of each gets the message.
    #[must_use]
    pub const fn groups(&self) -> &[GroupSet] {
        &self.groups
    }

    /// Whether some target is durable; members of groups are not looked at.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.durable
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let members: usize = self.groups.iter().map(|group| group.members.len()).sum();
        let groups = self.groups.len() * size_of::<GroupSet>() + members * size_of::<Member>();
        size_of::<Self>() + self.total * size_of::<Target>() + groups
    }

    /// Targets on all workers, without the members of groups.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.total
    }

    /// Whether nobody subscribes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0 && self.groups.is_empty()
    }

    /// Its targets whose sessions are not in `other`, each at the place that `place_of` gives for
    /// its session, if it gives one. Without groups.
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
        let workers = workers.into_iter().map(Vec::into_boxed_slice).collect();
        Self { workers, groups: Box::default(), durable, total }
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
    subscriptions: RwLock<Subscriptions>,
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
    fn new(id: TenantId, name: Arc<str>, rules: Arc<[GroupRule]>) -> Self {
        Self {
            id,
            name,
            version: AtomicU64::new(1),
            subscriptions: RwLock::new(Subscriptions::new(id, rules)),
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
    pub fn change<R>(&self, change: impl FnOnce(&mut Subscriptions) -> R) -> R {
        let mut subscriptions = self.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut subscriptions);
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
        self.change(|subscriptions| {
            for filter in filters {
                // In this order: a group of one keeps what its strategy remembers.
                let Some(subscription) = subscriptions.get(filter, from).cloned() else {
                    continue;
                };
                subscriptions.insert(filter, to, subscription);
                subscriptions.remove(filter, from);
            }
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Subscriptions> {
        self.subscriptions.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.read().tree.len()
    }

    /// The match set of a valid Topic Name, and the version at which it holds.
    #[must_use]
    pub fn matches(&self, topic: &str, workers: u16) -> (u64, MatchSet) {
        let subscriptions = self.read();
        let version = self.version(); // stands while the lock is held
        let mut found: Found = SmallVec::new();
        let mut shared: SmallVec<[(Key, Subscription); 0]> = SmallVec::new();
        subscriptions.tree.for_each_match(topic, |key, subscription| match key.group {
            None => {
                let Subscription { session, options, durable, .. } = *subscription;
                found.push((key.subscriber, session, options, durable));
            }
            Some(_) => shared.push((key, subscription.clone())),
        });
        let groups = if shared.is_empty() {
            Box::default()
        } else {
            groups_of(&subscriptions, &mut shared, &found)
        };
        drop(subscriptions);
        (version, MatchSet { groups, ..MatchSet::build(&mut found, workers) })
    }

    /// A share group with its members now; nothing if it has none. To be called when a member did
    /// not take its message: what is found may be another group than the one that was.
    #[must_use]
    pub fn group(&self, filter: &TopicFilter) -> Option<GroupSet> {
        let subscriptions = self.read();
        let (group, members) = subscriptions.members_of(filter)?;
        let members = members.filter_map(|(subscriber, it)| member(subscriber, it, false));
        let mut members: Vec<Member> = members.collect();
        members.sort_unstable_by_key(|member| member.target.session);
        Some(GroupSet { group: Arc::clone(group), members: members.into_boxed_slice() })
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

type Found = SmallVec<[(Subscriber, SessionId, SubscriptionOptions, bool); 16]>;

fn member(subscriber: Subscriber, it: &Subscription, is_also_plain: bool) -> Option<Member> {
    let Subscription { session, options, durable, presence } = it;
    Some(Member {
        worker: subscriber.worker,
        target: Target {
            slot: subscriber.slot,
            session: *session,
            durable: *durable,
            options: SmallVec::from_buf([*options]),
        },
        presence: Arc::clone(presence.as_ref()?),
        is_also_plain,
    })
}

/// Shared Subscriptions that match, by group.
fn groups_of(
    subscriptions: &Subscriptions,
    shared: &mut [(Key, Subscription)],
    plain: &Found,
) -> Box<[GroupSet]> {
    let plain: HashSet<SessionId, foldhash::fast::RandomState> =
        plain.iter().map(|(_, session, ..)| *session).collect();
    shared.sort_unstable_by_key(|(key, it)| (key.group, it.session));
    let of_one = shared.chunk_by(|(left, _), (right, _)| left.group == right.group);
    let sets = of_one.filter_map(|of_one| {
        let group = subscriptions.group(of_one.first()?.0.group?)?;
        let members = of_one
            .iter()
            .filter_map(|(key, it)| member(key.subscriber, it, plain.contains(&it.session)));
        Some(GroupSet { group: Arc::clone(group), members: members.collect() })
    });
    sets.collect()
}

impl MatchSet {
    fn build(found: &mut Found, workers: u16) -> Self {
        found.sort_unstable_by_key(|(subscriber, ..)| (subscriber.worker, subscriber.slot));
        let mut per_worker: Vec<Vec<Target>> = Vec::new();
        per_worker.resize_with(usize::from(workers), Vec::new);
        let mut set = Self::default();
        for (subscriber, session, options, durable) in found.iter() {
            let Some(targets) = per_worker.get_mut(subscriber.worker.index()) else {
                continue;
            };
            match targets.last_mut() {
                Some(last) if last.slot == subscriber.slot => {
                    last.options.push(*options);
                }
                _ => {
                    set.total += 1;
                    targets.push(Target {
                        slot: subscriber.slot,
                        session: *session,
                        durable: *durable,
                        options: SmallVec::from_buf([*options]),
                    });
                }
            }
            set.durable |= *durable;
        }
        set.workers = per_worker.into_iter().map(Vec::into_boxed_slice).collect();
        set
    }
}

/// What all workers share.
#[derive(Debug, Default)]
pub struct Shared {
    groups: Arc<[GroupRule]>,
    tenants: RwLock<HashMap<TenantId, Arc<TenantShared>, foldhash::fast::RandomState>>,
}

impl Shared {
    /// Nothing yet; share groups choose their members as the first rule says that applies.
    #[must_use]
    pub fn new(groups: Vec<GroupRule>) -> Self {
        Self { groups: groups.into(), tenants: RwLock::default() }
    }

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
        Arc::new(TenantShared::new(TenantId(0), "".into(), Arc::default()))
    }

    /// Adds a tenant; the one that is there if it was added before.
    pub fn add_tenant(&self, id: TenantId, name: Arc<str>) -> Arc<TenantShared> {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let groups = &self.groups;
        let new = || Arc::new(TenantShared::new(id, name, Arc::clone(groups)));
        Arc::clone(tenants.entry(id).or_insert_with(new))
    }
}
