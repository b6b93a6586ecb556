//! One worker's memory of topics it routed: valid name, match set, plugins concerned.
//! What must not live here: what is true for one publisher only.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::hook::ChainMask;
use crate::ids::TenantId;
use crate::limits::ROUTES_BYTES_MAX;
use crate::router::shared::{MatchSet, TenantShared};
use crate::topic::{TopicError, check_topic_name};

/// A topic that was routed before.
#[derive(Debug)]
pub struct Route {
    tenant: TenantId,
    topic: Box<str>,
    version: u64,
    /// Who gets its messages.
    pub set: Arc<MatchSet>,
    /// Which on-publish plugins it concerns.
    pub chain: ChainMask,
}

/// A route's place; good as long as the memory was not cleared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteRef {
    epoch: u32,
    index: u32,
}

/// Routes by topic, bounded: all are forgotten when there are too many.
#[derive(Debug, Default)]
pub struct Routes {
    hasher: RandomState,
    by_topic: HashTable<u32>,
    routes: Vec<Route>,
    /// What they take, at least; sets that were replaced are counted until all is forgotten.
    bytes: usize,
    epoch: u32,
}

impl Routes {
    /// The route of a topic, made anew if subscriptions changed since. `hint` is where the caller
    /// found its last one: often the same.
    ///
    /// # Errors
    /// If the Topic Name is not valid.
    pub fn find(
        &mut self,
        tenant: &TenantShared,
        topic: &str,
        hint: Option<RouteRef>,
        bounds: (u16, usize),
        chain: impl FnOnce(&str) -> ChainMask,
    ) -> Result<RouteRef, TopicError> {
        let (workers, routes_max) = bounds;
        let is_it = |route: &Route| route.tenant == tenant.id && *route.topic == *topic;
        let found = match hint.and_then(|hint| self.get(hint).map(|route| (hint, route))) {
            Some((hint, route)) if is_it(route) => Some(hint.index),
            _ => {
                let hash = self.hasher.hash_one((tenant.id, topic));
                let is_there = |&index: &u32| is_it(&self.routes[index as usize]);
                self.by_topic.find(hash, is_there).copied()
            }
        };
        let index = match found {
            Some(index) => {
                let route = &mut self.routes[index as usize];
                if route.version != tenant.version() {
                    let (version, set) = tenant.matches(topic, workers);
                    route.version = version;
                    if *route.set != set {
                        self.bytes += set.size();
                        route.set = Arc::new(set);
                    }
                }
                index
            }
            None => {
                check_topic_name(topic)?;
                self.add(tenant, topic, workers, routes_max, chain(topic))
            }
        };
        Ok(RouteRef { epoch: self.epoch, index })
    }

    fn add(
        &mut self,
        tenant: &TenantShared,
        topic: &str,
        workers: u16,
        routes_max: usize,
        chain: ChainMask,
    ) -> u32 {
        if self.routes.len() >= routes_max || self.bytes >= ROUTES_BYTES_MAX {
            self.clear();
        }
        let (version, set) = tenant.matches(topic, workers);
        self.bytes += size_of::<Route>() + topic.len() + set.size();
        let index = u32::try_from(self.routes.len()).unwrap_or(u32::MAX);
        self.routes.push(Route {
            tenant: tenant.id,
            topic: topic.into(),
            version,
            set: Arc::new(set),
            chain,
        });
        let Self { hasher, by_topic, routes, .. } = self;
        let hash_of = |tenant: TenantId, topic: &str| hasher.hash_one((tenant, topic));
        by_topic.insert_unique(hash_of(tenant.id, topic), index, |&other| {
            let route = &routes[other as usize];
            hash_of(route.tenant, &route.topic)
        });
        index
    }

    /// The route at that place, unless the memory was cleared since.
    #[must_use]
    pub fn get(&self, at: RouteRef) -> Option<&Route> {
        if at.epoch == self.epoch { self.routes.get(at.index as usize) } else { None }
    }

    /// Forgets all, for example because the plugins changed.
    pub fn clear(&mut self) {
        self.by_topic.clear();
        self.routes.clear();
        self.bytes = 0;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Topics that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}
