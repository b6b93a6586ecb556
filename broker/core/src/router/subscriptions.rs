//! A tenant's subscriptions, plain and shared: the tree, and the groups that stand in it.
//! What must not live here: locks, match sets.

use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::ids::TenantId;
use crate::router::group::{Group, GroupId, GroupRule, strategy_of};
use crate::router::shared::{Subscriber, Subscription};
use crate::router::tree::Tree;
use crate::topic::TopicFilter;

/// A subscription's place at its filter: `t` and `$share/g/t` of one session are two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub(super) subscriber: Subscriber,
    pub(super) group: Option<GroupId>,
}

/// All subscriptions of a tenant.
#[derive(Debug)]
pub struct Subscriptions {
    tenant: TenantId,
    pub(super) tree: Tree<Key, Subscription>,
    groups: HashMap<GroupId, Counted, foldhash::fast::RandomState>,
    by_filter: HashMap<Arc<str>, GroupId, foldhash::fast::RandomState>,
    last_group: NonZeroU32,
    rules: Arc<[GroupRule]>,
}

#[derive(Debug)]
struct Counted {
    group: Arc<Group>,
    members: usize,
}

impl Subscriptions {
    pub(super) fn new(tenant: TenantId, rules: Arc<[GroupRule]>) -> Self {
        Self {
            tenant,
            tree: Tree::default(),
            groups: HashMap::default(),
            by_filter: HashMap::default(),
            last_group: NonZeroU32::MIN,
            rules,
        }
    }

    /// Subscribes; gives the subscription that this one replaces. That of a Shared Subscription
    /// has to have a `presence`.
    pub fn insert(
        &mut self,
        filter: &TopicFilter,
        subscriber: Subscriber,
        subscription: Subscription,
    ) -> Option<Subscription> {
        let group = filter.share_group().is_some().then(|| self.group_of(filter));
        let replaced = self.tree.insert(filter, Key { subscriber, group }, subscription);
        if replaced.is_none()
            && let Some(counted) = group.and_then(|group| self.groups.get_mut(&group))
        {
            counted.members += 1;
        }
        replaced
    }

    /// Unsubscribes; gives the subscription if there was one.
    pub fn remove(&mut self, filter: &TopicFilter, subscriber: Subscriber) -> Option<Subscription> {
        if filter.share_group().is_none() {
            return self.tree.remove(filter, Key { subscriber, group: None });
        }
        let group = *self.by_filter.get(filter.as_str())?;
        let removed = self.tree.remove(filter, Key { subscriber, group: Some(group) })?;
        if let Some(counted) = self.groups.get_mut(&group) {
            counted.members -= 1;
            if counted.members == 0 {
                self.groups.remove(&group);
                self.by_filter.remove(filter.as_str());
            }
        }
        Some(removed)
    }

    /// A subscription, if it is there.
    #[must_use]
    pub fn get(&self, filter: &TopicFilter, subscriber: Subscriber) -> Option<&Subscription> {
        let group = match filter.share_group() {
            None => None,
            Some(_) => Some(*self.by_filter.get(filter.as_str())?),
        };
        self.tree.get(filter, Key { subscriber, group })
    }

    fn group_of(&mut self, filter: &TopicFilter) -> GroupId {
        if let Some(group) = self.by_filter.get(filter.as_str()) {
            return *group;
        }
        let mut number = self.last_group;
        while self.groups.contains_key(&GroupId(number)) {
            number = number.checked_add(1).unwrap_or(NonZeroU32::MIN);
        }
        self.last_group = number;
        let id = GroupId(number);
        let strategy = strategy_of(&self.rules, filter);
        let group = Arc::new(Group::new(self.tenant, filter.clone(), strategy));
        self.groups.insert(id, Counted { group, members: 0 });
        self.by_filter.insert(Arc::clone(filter.as_arc()), id);
        id
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.groups.get(&id).map(|counted| &counted.group)
    }

    /// The group of a filter with its members now, if it has any.
    pub(super) fn members_of<'a>(
        &'a self,
        filter: &TopicFilter,
    ) -> Option<(&'a Arc<Group>, impl Iterator<Item = (Subscriber, &'a Subscription)>)> {
        let id = *self.by_filter.get(filter.as_str())?;
        let at_filter = self.tree.at(filter).iter();
        let members = at_filter
            .filter(move |(key, _)| key.group == Some(id))
            .map(|(key, subscription)| (key.subscriber, subscription));
        Some((self.group(id)?, members))
    }
}
