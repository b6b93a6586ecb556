//! A session's queue against a naive one: a plain list, walked anew for each decision.
//! What must not live here: anything but tests.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Queued, Waiting};
use crate::limits::{Limits, QueuePolicy};
use crate::message::{Message, MessageRef, QoS};
use crate::reason::DropReason;
use crate::time::Millis;

const POLICIES: [QueuePolicy; 3] =
    [QueuePolicy::DropOldest, QueuePolicy::DropNewest, QueuePolicy::Disconnect];

fn limits(messages_max: usize, bytes_max: usize, policy: QueuePolicy) -> Limits {
    Limits {
        queue_messages_max: messages_max,
        queue_bytes_max: bytes_max,
        queue_policy: policy,
        ..Limits::default()
    }
}

/// A message whose topic is its number.
fn queued(number: usize, qos: QoS, payload_bytes: usize) -> Queued {
    let message = Message::new(MessageRef {
        topic: &format!("{number:06}"),
        payload: &vec![0; payload_bytes],
        qos,
        retain: false,
        properties: &[],
        expires_at: Millis::NEVER,
        publisher: None,
    });
    Queued {
        message: Arc::new(message),
        id: None,
        qos,
        retain: false,
        subscription_ids: None,
        share: None,
    }
}

fn number(queued: &Queued) -> usize {
    queued.message.topic().parse().expect("the topic is the number")
}

#[test]
fn what_is_taken_out_counts_no_longer_and_the_rest_keeps_its_order() {
    let limits = limits(100, 1 << 20, QueuePolicy::DropNewest);
    let mut waiting = Waiting::default();
    let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce];
    for (place, qos) in all.into_iter().enumerate() {
        waiting.push(queued(place, qos, place), &limits, |_, _| {});
        waiting.push(queued(place + 10, qos, place), &limits, |_, _| {});
    }
    let taken = waiting.take(|queued| number(queued) < 10);
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [1, 2, 3, 0]);
    let bytes = waiting.bytes();
    let left: Vec<Queued> = waiting.into_messages().collect();
    assert_eq!(left.iter().map(number).collect::<Vec<_>>(), [10, 11, 12, 13]);
    assert_eq!(bytes, left.iter().map(Queued::size).sum::<usize>());
}

/// What waits, as (number, QoS, size), in the order in which it came.
#[derive(Default)]
struct Naive(Vec<(usize, QoS, usize)>);

impl Naive {
    fn push(
        &mut self,
        new: (usize, QoS, usize),
        limits: &Limits,
        lost: &mut Vec<(usize, DropReason)>,
    ) {
        if new.2 > limits.queue_bytes_max {
            let is_qos0 = new.1 == QoS::AtMostOnce;
            lost.push((
                new.0,
                if is_qos0 { DropReason::SlowReader } else { DropReason::QueueBytes },
            ));
            return;
        }
        self.0.push(new);
        loop {
            let by_count = self.0.len() > limits.queue_messages_max;
            let bytes: usize = self.0.iter().map(|(_, _, size)| size).sum();
            if !by_count && bytes <= limits.queue_bytes_max {
                return;
            }
            let reason = if by_count { DropReason::QueueMessages } else { DropReason::QueueBytes };
            let qos0 = self.0.iter().position(|(_, qos, _)| *qos == QoS::AtMostOnce);
            let place = qos0.unwrap_or(match limits.queue_policy {
                QueuePolicy::DropOldest => 0,
                QueuePolicy::DropNewest | QueuePolicy::Disconnect => self.0.len() - 1,
            });
            let (victim, qos, _) = self.0.remove(place);
            let reason = if qos == QoS::AtMostOnce { DropReason::SlowReader } else { reason };
            lost.push((victim, reason));
        }
    }

    fn pop(&mut self, is_wanted: impl Fn(QoS) -> bool) -> Option<usize> {
        let at = self.0.iter().position(|(_, qos, _)| is_wanted(*qos))?;
        Some(self.0.remove(at).0)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8, usize),
    PopQos0,
    PopOther,
    Detach,
    Keep(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_u8, 0..300_usize).prop_map(|(qos, bytes)| Step::Push(qos, bytes)),
        2 => Just(Step::PopQos0),
        2 => Just(Step::PopOther),
        1 => Just(Step::Detach),
        1 => (2..4_usize).prop_map(Step::Keep),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn it_holds_and_loses_what_a_naive_queue_does(
        steps in steps(),
        messages_max in 1..8_usize,
        bytes_max in 100..1500_usize,
        policy in 0..3_usize,
    ) {
        let policy = POLICIES[policy];
        let limits = limits(messages_max, bytes_max, policy);
        let (mut waiting, mut naive) = (Waiting::default(), Naive::default());
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(qos, bytes) => {
                    let qos = QoS::from_u8(qos).expect("0 to 2");
                    let message = queued(at, qos, bytes);
                    let (mut lost, mut expected) = (Vec::new(), Vec::new());
                    naive.push((at, qos, message.size()), &limits, &mut expected);
                    let overflow = waiting
                        .push(message, &limits, |victim, why| lost.push((number(&victim), why)));
                    prop_assert_eq!(&lost, &expected);
                    let is_cut = policy == QueuePolicy::Disconnect
                        && lost.iter().any(|(_, why)| *why != DropReason::SlowReader);
                    prop_assert_eq!(overflow.disconnect, is_cut);
                }
                Step::PopQos0 => {
                    let taken = waiting.pop_qos0().map(|it| number(&it));
                    prop_assert_eq!(taken, naive.pop(|qos| qos == QoS::AtMostOnce));
                }
                Step::PopOther => {
                    let taken = waiting.pop_other().map(|it| number(&it));
                    prop_assert_eq!(taken, naive.pop(|qos| qos > QoS::AtMostOnce));
                }
                Step::Detach => {
                    waiting.detach(drop);
                    naive.0.retain(|(_, qos, _)| *qos > QoS::AtMostOnce);
                }
                Step::Keep(every) => {
                    let is_kept = |at: usize| !at.is_multiple_of(every);
                    waiting.retain(|topic| is_kept(topic.parse().expect("a number")));
                    naive.0.retain(|(at, qos, _)| *qos == QoS::AtMostOnce || is_kept(*at));
                }
            }
            prop_assert_eq!(waiting.len(), naive.0.len());
            let bytes: usize = naive.0.iter().map(|(_, _, size)| size).sum();
            prop_assert_eq!(waiting.bytes(), bytes);
            prop_assert!(waiting.len() <= messages_max && bytes <= bytes_max);
        }
    }
}

#[test]
fn a_burst_of_losses_is_told_once_and_counted_until_the_queue_is_empty() {
    let limits = limits(2, 1 << 20, QueuePolicy::DropOldest);
    let mut waiting = Waiting::default();
    let push = |waiting: &mut Waiting, at| {
        waiting.push(queued(at, QoS::AtLeastOnce, 1), &limits, |_, _| {}).begins
    };
    let told: Vec<bool> = (0..5).map(|at| push(&mut waiting, at)).collect();
    assert_eq!(told, [false, false, true, false, false]);
    assert_eq!(waiting.pop_other().map(|it| number(&it)), Some(3));
    assert_eq!(waiting.take_lost(), None, "one still waits");
    assert_eq!(waiting.pop_other().map(|it| number(&it)), Some(4));
    assert_eq!(waiting.take_lost(), Some(3));
    assert_eq!(waiting.take_lost(), None);
    let told: Vec<bool> = (5..8).map(|at| push(&mut waiting, at)).collect();
    assert_eq!(told, [false, false, true], "another burst");
}

#[test]
fn a_message_that_no_queue_holds_takes_no_other_one_with_it() {
    for policy in POLICIES {
        let mut waiting = Waiting::default();
        let limits = limits(10, 400, policy);
        waiting.push(queued(0, QoS::AtMostOnce, 10), &limits, |_, _| {});
        waiting.push(queued(1, QoS::AtLeastOnce, 10), &limits, |_, _| {});
        let mut lost = Vec::new();
        let overflow =
            waiting.push(queued(2, QoS::AtLeastOnce, 500), &limits, |it, _| lost.push(number(&it)));
        assert_eq!(lost, [2]);
        assert_eq!(waiting.len(), 2);
        assert_eq!(overflow.disconnect, policy == QueuePolicy::Disconnect);
    }
}
