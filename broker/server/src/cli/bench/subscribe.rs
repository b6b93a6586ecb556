//! One client of `bench sub`: receives, and finds out what is missing.
//! What must not live here: how it is shown.

use std::collections::HashMap;

use tokio::sync::watch;
use wasmqtt_core::message::QoS;

use crate::client::error::ClientError;
use crate::client::packet::Publish;
use crate::client::session::{Client, Event};
use crate::clock;

use super::counters::Counters;
use super::payload::Mark;

/// Senders that a client tells apart; what more send is counted, and not looked at for gaps.
const SENDERS_MAX: usize = 65_536;

/// Subscribes and receives until it is told to stop.
pub(super) async fn run(
    topic: &str,
    qos: QoS,
    client: &mut Client,
    counters: &Counters,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), ClientError> {
    client.subscribe(&[(topic.to_owned(), qos as u8)], &Default::default());
    let mut senders = Senders { next: HashMap::new(), shares: topic.starts_with("$share/") };
    loop {
        let mut next = tokio::select! {
            biased;
            _ = stopped.changed() => return Ok(()),
            event = client.event() => Some(event?),
        };
        while let Some(event) = next {
            match event {
                Event::Message(message) => {
                    senders.message(&message, counters);
                    client.acknowledge(&message);
                }
                Event::Subscribed { codes, .. } if codes.iter().any(|code| *code >= 0x80) => {
                    let error = format!("subscription to {topic} denied");
                    return Err(ClientError::NotAccepted(error));
                }
                Event::Subscribed { .. } => counters.subscribed(),
                Event::Unsubscribed { .. } | Event::Published { .. } => {}
            }
            next = client.next_event()?;
        }
    }
}

/// The number that each sender's next message has to have.
struct Senders {
    next: HashMap<(u32, u32), u64>,
    /// A Shared Subscription gets a part of the messages: gaps mean nothing.
    shares: bool,
}

impl Senders {
    fn message(&mut self, message: &Publish, counters: &Counters) {
        counters.received(message.payload.len());
        let Some(mark) = Mark::read(&message.payload) else { return };
        // A retained message is as old as it is.
        if message.retain {
            return;
        }
        counters.delay(clock::unix_time().saturating_sub(mark.sent));
        if self.shares {
            return;
        }
        let sender = (mark.run, mark.client);
        let is_room = self.next.len() < SENDERS_MAX;
        match self.next.get_mut(&sender) {
            Some(next) if mark.number < *next => counters.duplicated(),
            Some(next) => {
                counters.lost(mark.number - *next);
                *next = mark.number + 1;
            }
            // What was sent before the subscription is not lost.
            None if is_room => {
                self.next.insert(sender, mark.number + 1);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::counters::Total;
    use super::*;

    #[track_caller]
    fn check(numbers: &[u64], shares: bool, lost: u64, duplicated: u64) {
        let counters = [Arc::<Counters>::default()];
        let mut senders = Senders { next: HashMap::new(), shares };
        for &number in numbers {
            let mut payload = [0; 64];
            let sent = Duration::from_secs(1);
            Mark { run: 1, client: 1, number, sent }.write(&mut payload);
            let message = Publish {
                topic: "t".to_owned(),
                payload: Bytes::copy_from_slice(&payload),
                qos: QoS::AtMostOnce,
                retain: false,
                dup: false,
                packet_id: 0,
                properties: Default::default(),
            };
            senders.message(&message, &counters[0]);
        }
        let total = Total::of(&counters);
        assert_eq!(total.received, numbers.len() as u64);
        assert_eq!((total.lost, total.duplicated), (lost, duplicated));
    }

    #[test]
    fn gaps_are_losses_and_repetitions_duplicates() {
        check(&[5, 6, 7], false, 0, 0);
        check(&[0, 1, 4, 5], false, 2, 0);
        check(&[0, 1, 1, 2, 0], false, 0, 2);
        check(&[0, 4, 9], true, 0, 0);
    }
}
