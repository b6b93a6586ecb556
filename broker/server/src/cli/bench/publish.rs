//! One client of `bench pub`: sends at its pace, and measures how long acknowledgements take.
//! What must not live here: how it is shown.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use wasmqtt_core::message::QoS;

use crate::cli::arguments::bench::BenchPublish;
use crate::cli::client::qos;
use crate::client::error::ClientError;
use crate::client::packet::Publish;
use crate::client::session::{Client, Event};
use crate::clock;

use super::Bundle;
use super::counters::Counters;
use super::payload::Mark;

/// Messages that are written at once at most, so that a fast client still hears its server.
const BATCH_MAX: u64 = 64;

/// Bytes that wait to be sent at most before more are made.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// The shortest sleep; what fell due meanwhile is sent together.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// How long the last acknowledgements may take.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(5);

/// What every client sends.
#[derive(Clone)]
pub(super) struct Load {
    topic: String,
    qos: QoS,
    retain: bool,
    size: usize,
    /// Between two messages of a client; zero: none.
    interval: Duration,
    count: u64,
    in_flight_max: usize,
}

impl Load {
    pub(super) fn new(arguments: &BenchPublish) -> Self {
        let interval = match arguments.rate {
            Some(rate) => {
                #[expect(clippy::cast_precision_loss, reason = "a rate of at most 10^8")]
                let all = rate as f64;
                Duration::from_secs_f64(f64::from(arguments.crowd.clients) / all)
            }
            None => Duration::from_millis(arguments.interval),
        };
        Self {
            topic: arguments.topic.clone(),
            qos: qos(arguments.qos),
            retain: arguments.retain,
            size: arguments.size as usize,
            interval,
            count: arguments.count.unwrap_or(u64::MAX),
            in_flight_max: arguments.inflight.into(),
        }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) const fn is_acknowledged(&self) -> bool {
        !matches!(self.qos, QoS::AtMostOnce)
    }
}

/// A client and what it has on its way.
struct Sender<'a> {
    client: &'a mut Client,
    counters: &'a Counters,
    /// When messages were written, by their Packet Identifiers.
    written: HashMap<u16, Instant>,
}

/// Publishes until it has done its count or is told to stop.
pub(super) async fn run(
    load: &Load,
    number: u32,
    bundle: &Bundle,
    topic: String,
    client: &mut Client,
    counters: &Counters,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), ClientError> {
    let in_flight_max = load.in_flight_max.min(client.terms().receive_maximum.into());
    let mut payload = vec![b'x'; load.size];
    let mut message = Publish {
        topic,
        payload: Bytes::new(),
        qos: load.qos,
        retain: load.retain,
        dup: false,
        packet_id: 0,
        properties: Default::default(),
    };
    let mut sender = Sender { client, counters, written: HashMap::new() };
    let start = Instant::now();
    let mut sent = 0;
    while sent < load.count {
        let now = Instant::now();
        let room = in_flight_max - sender.client.in_flight().min(in_flight_max);
        let room = if load.is_acknowledged() { room as u64 } else { BATCH_MAX };
        let due = load.due(now - start).min(load.count);
        let batch = due.saturating_sub(sent).min(room).min(BATCH_MAX);
        let before = sent;
        for _ in 0..batch {
            let mark =
                Mark { run: bundle.run, client: number, number: sent, sent: clock::unix_time() };
            mark.write(&mut payload);
            message.payload = Bytes::copy_from_slice(&payload);
            sender.client.publish(&mut message)?;
            if load.is_acknowledged() {
                sender.written.insert(message.packet_id, now);
            }
            sent += 1;
            if sender.client.unsent() >= UNSENT_BYTES_MAX {
                break;
            }
        }
        counters.sent(sent - before);
        if *stopped.borrow() {
            break;
        }
        if sent == load.count {
            break;
        }
        let is_full = load.is_acknowledged() && sender.client.in_flight() >= in_flight_max;
        if is_full {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                event = sender.client.event() => sender.hear(event?)?,
            }
        } else if due > sent {
            sender.push(&mut stopped).await?;
        } else {
            let next =
                start + load.interval.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX));
            sender.pause(next.max(now + SLEEP_MIN), &mut stopped).await?;
        }
    }
    sender.end().await
}

impl Load {
    /// Messages that are to be sent by now.
    fn due(&self, since: Duration) -> u64 {
        let nanos = self.interval.as_nanos();
        if nanos == 0 {
            return u64::MAX;
        }
        u64::try_from(since.as_nanos() / nanos + 1).unwrap_or(u64::MAX)
    }
}

impl Sender<'_> {
    /// Sends what waits, and lets others have their turn.
    async fn push(&mut self, stopped: &mut watch::Receiver<bool>) -> Result<(), ClientError> {
        tokio::select! {
            biased;
            _ = stopped.changed() => return Ok(()),
            exchanged = self.client.exchange() => exchanged?,
        }
        tokio::task::yield_now().await;
        self.hear_all()
    }

    /// Waits for that moment; what comes meanwhile is heard.
    async fn pause(
        &mut self,
        until: Instant,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), ClientError> {
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => return Ok(()),
                event = self.client.event() => self.hear(event?)?,
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), ClientError> {
        self.one(&event);
        self.hear_all()
    }

    fn hear_all(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.client.next_event()? {
            self.one(&event);
        }
        Ok(())
    }

    fn one(&mut self, event: &Event) {
        if let Event::Published { packet_id, reason } = event {
            let written = self.written.remove(packet_id);
            if reason.code >= 0x80 {
                self.counters.refused();
            } else if let Some(written) = written {
                self.counters.acknowledged(written.elapsed());
            }
        }
    }

    async fn end(&mut self) -> Result<(), ClientError> {
        let waiting = async {
            while self.client.in_flight() > 0 {
                let event = self.client.event().await?;
                self.hear(event)?;
            }
            self.client.flush().await
        };
        match timeout(LAST_ACKNOWLEDGEMENTS, waiting).await {
            Ok(result) => result,
            Err(_) => {
                let left = self.client.in_flight();
                Err(ClientError::NotAccepted(format!("{left} messages were not acknowledged")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fall_due_at_their_interval_and_the_first_at_once() {
        let load = |interval| Load {
            topic: String::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            size: 0,
            interval,
            count: 1,
            in_flight_max: 1,
        };
        let every_ten = load(Duration::from_millis(10));
        let due = [0, 9, 10, 25].map(|at| every_ten.due(Duration::from_millis(at)));
        assert_eq!(due, [1, 1, 2, 3]);
        assert_eq!(load(Duration::ZERO).due(Duration::ZERO), u64::MAX);
    }
}
