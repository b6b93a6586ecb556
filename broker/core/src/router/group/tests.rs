//! Tests of groups: what matches, against a list that is searched from end to end, and who is
//! chosen.
//! What must not live here: anything but tests.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, Strategy as Generator, prop, prop_assert_eq, proptest};
use slotmap::SlotMap;

use super::*;
use crate::ids::{SessionSlot, WorkerId};
use crate::router::{Shared, Subscriber, Subscription, TenantShared};
use crate::store::SubscriptionOptions;
use crate::time::Millis;

const WORKERS: u16 = 3;

/// A tenant with sessions that have their places on workers in turn.
struct Setup {
    tenant: Arc<TenantShared>,
    places: Vec<Subscriber>,
    presences: Vec<Arc<Presence>>,
}

impl Setup {
    fn new(strategy: Strategy, sessions: u16) -> Self {
        let rule = GroupRule { group: "*".into(), filter: None, strategy };
        let shared = Shared::new(vec![rule]);
        let mut slots: SlotMap<SessionSlot, ()> = SlotMap::default();
        let place = |session: u16| Subscriber {
            worker: WorkerId(session % WORKERS),
            slot: slots.insert(()),
        };
        Self {
            tenant: shared.add_tenant(TenantId::DEFAULT, "default".into()),
            places: (0..sessions).map(place).collect(),
            presences: (0..sessions).map(|_| Arc::default()).collect(),
        }
    }

    fn subscribe(&self, filter: &str, session: usize, qos: QoS, durable: bool) {
        let filter = TopicFilter::parse(filter).expect(filter);
        let presence = filter.share_group().map(|_| Arc::clone(&self.presences[session]));
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let session_id = SessionId(session as u64);
        let subscription = Subscription { session: session_id, options, durable, presence };
        self.tenant.change(|tree| tree.insert(&filter, self.places[session], subscription));
    }

    fn unsubscribe(&self, filter: &str, session: usize) {
        let filter = TopicFilter::parse(filter).expect(filter);
        self.tenant.change(|tree| tree.remove(&filter, self.places[session]));
    }

    /// The only group of a topic.
    fn group(&self, topic: &str) -> GroupSet {
        let (_, set) = self.tenant.matches(topic, WORKERS);
        set.groups()[0].clone()
    }
}

fn message(topic: &str, qos: QoS) -> MessageRef<'_> {
    MessageRef {
        topic,
        payload: b"",
        qos,
        retain: false,
        properties: b"",
        expires_at: Millis::NEVER,
        publisher: None,
    }
}

/// The session that is chosen; what was chosen does not arrive.
fn choose(set: &GroupSet, topic: &str, qos: QoS, tried: &[SessionId]) -> Option<u64> {
    let (publisher, dice) = ("publisher", &mut 7);
    let message = message(topic, qos);
    set.choose(Choice { message, publisher, dice, tried })
        .map(|at| set.members[at].target.session.0)
}

fn four_there(strategy: Strategy) -> Setup {
    let setup = Setup::new(strategy, 4);
    for session in 0..4 {
        setup.subscribe("$share/g/t/#", session, QoS::AtLeastOnce, true);
        setup.presences[session].arrive(10);
    }
    setup
}

#[test]
fn a_group_that_takes_turns_gives_each_member_as_many() {
    let set = four_there(Strategy::RoundRobin).group("t");
    let chosen: Vec<_> = (0..8).map(|_| choose(&set, "t", QoS::AtLeastOnce, &[])).collect();
    assert_eq!(chosen, [0, 1, 2, 3, 0, 1, 2, 3].map(Some));
}

#[test]
fn a_member_that_is_chosen_again_and_again_is_the_same_until_it_is_away() {
    for strategy in [Strategy::Sticky, Strategy::HashClient, Strategy::HashTopic] {
        let setup = four_there(strategy);
        let set = setup.group("t");
        let first = choose(&set, "t", QoS::AtLeastOnce, &[]).unwrap();
        for _ in 0..50 {
            // Also when its window is full.
            assert_eq!(choose(&set, "t", QoS::AtLeastOnce, &[]), Some(first), "{strategy:?}");
        }
        setup.presences[usize::try_from(first).unwrap()].leave();
        let second = choose(&set, "t", QoS::AtLeastOnce, &[]).unwrap();
        assert_ne!(second, first, "{strategy:?}");
        assert_eq!(choose(&set, "t", QoS::AtLeastOnce, &[]), Some(second), "{strategy:?}");
    }
}

#[test]
fn chance_reaches_every_member_and_is_the_same_with_the_same_seed() {
    let set = four_there(Strategy::Random).group("t");
    let run = || -> Vec<usize> {
        let mut dice = 42;
        let mut once = || {
            let message = message("t", QoS::AtMostOnce);
            set.choose(Choice { message, publisher: "", dice: &mut dice, tried: &[] }).unwrap()
        };
        (0..40).map(|_| once()).collect()
    };
    let first = run();
    set.members.iter().for_each(|member| (0..40).for_each(|_| drop_one(member)));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(run(), first);
}

/// What was chosen arrived, if something was.
fn drop_one(member: &Member) {
    if member.presence.coming.load(Relaxed) > 0 {
        member.presence.arrived();
    }
}

#[test]
fn the_member_with_the_fewest_messages_is_chosen() {
    let setup = four_there(Strategy::LeastInFlight);
    let set = setup.group("t");
    for (session, held) in [(0, 5), (1, 2), (2, 4), (3, 3)] {
        setup.presences[session].hold(held, false);
    }
    let chosen: Vec<_> = (0..4).map(|_| choose(&set, "t", QoS::AtLeastOnce, &[])).collect();
    // What is on its way counts as well: the second is level with the fourth after one message.
    assert_eq!(chosen[0], Some(1));
    assert_eq!(chosen[1..3].iter().collect::<BTreeSet<_>>(), [&Some(1), &Some(3)].into());
}

#[track_caller]
fn check_best(expected: u64, states: [(u16, usize, bool); 4], qos: QoS) {
    for strategy in [Strategy::RoundRobin, Strategy::Random, Strategy::LeastInFlight] {
        let setup = four_there(strategy);
        let set = setup.group("t");
        for (presence, (window, held, is_full)) in setup.presences.iter().zip(states) {
            presence.leave();
            if window > 0 {
                presence.arrive(window);
            }
            presence.hold(held, is_full);
        }
        assert_eq!(choose(&set, "t", qos, &[]), Some(expected), "{strategy:?}");
    }
}

#[test]
fn a_ready_member_goes_before_a_busy_one_that_before_one_that_is_away_and_a_full_one_is_last() {
    let (ready, busy, away) = ((10, 1, false), (10, 10, false), (0, 0, false));
    let (full, full_away) = ((10, 50, true), (0, 50, true));
    check_best(2, [busy, away, ready, full], QoS::AtLeastOnce);
    check_best(0, [busy, away, full_away, full], QoS::AtLeastOnce);
    check_best(1, [full, away, full_away, full], QoS::AtLeastOnce);
    // At QoS 0 nothing is kept for a member that is away.
    check_best(3, [away, away, away, full], QoS::AtMostOnce);
}

#[test]
fn nobody_is_chosen_where_a_message_would_be_lost_on_all() {
    let setup = four_there(Strategy::RoundRobin);
    setup.presences.iter().for_each(|presence| presence.leave());
    let set = setup.group("t");
    assert_eq!(choose(&set, "t", QoS::AtMostOnce, &[]), None);
    assert!(choose(&set, "t", QoS::ExactlyOnce, &[]).is_some());
    for session in 0..4 {
        setup.subscribe("$share/g/t/#", session, QoS::AtMostOnce, true);
    }
    assert_eq!(choose(&setup.group("t"), "t", QoS::ExactlyOnce, &[]), None);
}

#[test]
fn a_member_that_had_the_message_is_not_asked_again_and_a_full_one_not_after_another() {
    let setup = four_there(Strategy::RoundRobin);
    let set = setup.group("t");
    setup.presences[2].hold(50, true);
    let tried: Vec<SessionId> = [0, 1].map(SessionId).into();
    assert_eq!(choose(&set, "t", QoS::AtLeastOnce, &tried), Some(3));
    let tried: Vec<SessionId> = [0, 1, 3].map(SessionId).into();
    assert_eq!(choose(&set, "t", QoS::AtLeastOnce, &tried), None);
}

#[test]
fn a_share_name_is_like_a_pattern_with_stars() {
    for (pattern, name, is) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("*", "", true),
        ("*", "anything", true),
        ("a*", "a", true),
        ("a*", "ba", false),
        ("*a", "a", true),
        ("*a", "aab", false),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("ab*ba", "aba", false),
        ("a*b*c", "a1b2b3c", true),
        ("a*b*c", "acb", false),
        ("**", "x", true),
    ] {
        assert_eq!(is_like(pattern, name), is, "{pattern} {name}");
    }
}

#[test]
fn a_group_that_everybody_left_is_forgotten() {
    let setup = four_there(Strategy::Sticky);
    for session in 0..4 {
        setup.unsubscribe("$share/g/t/#", session);
    }
    assert_eq!(setup.tenant.subscriptions(), 0);
    assert!(setup.tenant.matches("t", WORKERS).1.is_empty());
    assert!(setup.tenant.group(&TopicFilter::parse("$share/g/t/#").unwrap()).is_none());
}

fn filter() -> impl Generator<Value = String> {
    let group = prop::sample::select(vec!["", "", "$share/g/", "$share/h/", "$share/a/"]);
    let filter = prop::sample::select(vec!["a", "a/b", "a/+", "a/#", "#", "+", "+/b", "b"]);
    (group, filter).prop_map(|(group, filter)| format!("{group}{filter}"))
}

/// Naively: who has which plain subscription, and who is in which group.
fn expected(list: &BTreeSet<(String, usize)>, topic: &str) -> (Vec<u64>, Vec<(String, Vec<u64>)>) {
    let matching = |filter: &str| TopicFilter::parse(filter).unwrap().matches(topic);
    let plain: BTreeSet<u64> = list
        .iter()
        .filter(|(filter, _)| !filter.starts_with("$share/") && matching(filter))
        .map(|(_, session)| *session as u64)
        .collect();
    let mut groups: Vec<(String, Vec<u64>)> = Vec::new();
    for (filter, session) in list.iter().filter(|(it, _)| it.starts_with("$share/") && matching(it))
    {
        match groups.last_mut().filter(|(last, _)| last == filter) {
            Some((_, members)) => members.push(*session as u64),
            None => groups.push((filter.clone(), vec![*session as u64])),
        }
    }
    (plain.into_iter().collect(), groups)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn plain_and_shared_subscriptions_match_like_a_list_while_they_come_and_go(
        steps in prop::collection::vec((filter(), 0_usize..5, 0_u8..3), 1..60),
    ) {
        let setup = Setup::new(Strategy::RoundRobin, 5);
        let mut list: BTreeSet<(String, usize)> = BTreeSet::new();
        for (filter, session, what) in steps {
            if what == 0 {
                setup.unsubscribe(&filter, session);
                list.remove(&(filter, session));
            } else {
                setup.subscribe(&filter, session, QoS::AtLeastOnce, false);
                list.insert((filter, session));
            }
            prop_assert_eq!(setup.tenant.subscriptions(), list.len());
        }
        for topic in ["a", "a/b", "b", "c", "a/b/c"] {
            let (_, set) = setup.tenant.matches(topic, WORKERS);
            let (plain, groups) = expected(&list, topic);
            let mut found: Vec<u64> = set.iter().map(|(_, target)| target.session.0).collect();
            found.sort_unstable();
            prop_assert_eq!(&found, &plain);
            let mut found: Vec<(String, Vec<u64>)> = set
                .groups()
                .iter()
                .map(|it| {
                    let members = it.members.iter();
                    for member in members.clone() {
                        let is_plain = plain.contains(&member.target.session.0);
                        assert_eq!(member.is_also_plain, is_plain);
                    }
                    let members = members.map(|member| member.target.session.0).collect();
                    (it.group.filter.as_str().to_owned(), members)
                })
                .collect();
            found.sort();
            prop_assert_eq!(found, groups);
        }
    }
}
