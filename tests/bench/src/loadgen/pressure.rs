//! The scenarios `slow-reader` and `retained`: what greedy clients cost the others.
//! What must not live here: the others (`witness`).

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::conn::{mqtt_connect, read_frame};
use super::hist::Hist;
use super::system::{Epoll, proc_rss_kb, proc_rss_peak_kb};
use super::wire::{PubTemplate, next_frame, subscribe};
use super::witness::{Seen, Witness};

/// Between two reads of the slow subscriber, and what it reads then.
const SLOW_PACE: Duration = Duration::from_millis(100);
const SLOW_BYTES: usize = 4096;

fn subscriber(cfg: &Cfg, name: &str, filter: String) -> io::Result<TcpStream> {
    let (mut stream, _) = mqtt_connect(cfg, &format!("{}-{name}", cfg.cprefix), 0)?;
    let mut bytes = Vec::new();
    subscribe(&mut bytes, 1, &[filter], cfg.qos, cfg.level);
    stream.write_all(&bytes)?;
    Ok(stream)
}

/// What the witness sees while nobody else is there, for the warm-up's time.
fn before(cfg: &Cfg) -> io::Result<Seen> {
    let witness = Witness::start(cfg)?;
    std::thread::sleep(Duration::from_secs_f64(cfg.warmup));
    witness.finish()
}

fn latency(of: &Hist) -> String {
    let us = |percent: f64| of.pct(percent) as f64 / 1e3;
    let max = of.max as f64 / 1e3;
    format!("{{\"p50\":{:.1},\"p99\":{:.1},\"max\":{max:.1}}}", us(50.0), us(99.0))
}

fn report(cfg: &Cfg, label: &str, before: &Seen, seen: &Seen, more: &str) -> String {
    let peak_kb = cfg.pid.map_or(0, proc_rss_peak_kb);
    format!(
        "{{\"label\":\"{label}\",\"scenario\":\"{}\",\"mqtt\":{},\"latency_us_before\":{},\"latency_us\":{},\"witness_messages\":{},\"lost\":{},\"server_rss_peak_kb\":{peak_kb},{more}}}",
        cfg.scenario,
        cfg.level,
        latency(&before.latency),
        latency(&seen.latency),
        seen.latency.n,
        before.lost + seen.lost,
    )
}

/// A client that publishes as fast as it is let.
struct Greedy {
    stream: TcpStream,
    template: PubTemplate,
    /// The packet that is being written, and how much of it is.
    packet: Vec<u8>,
    written: usize,
    packet_id: u16,
    /// QoS 1: sent and not acknowledged, of so many at most.
    unacked: usize,
    unacked_max: usize,
    /// What came and is no whole packet yet.
    came: Vec<u8>,
    is_closed: bool,
}

impl Greedy {
    fn new(cfg: &Cfg, number: usize) -> io::Result<Self> {
        let (stream, receive_maximum) = mqtt_connect(cfg, &cfg.publisher_id(number), number)?;
        stream.set_nonblocking(true)?;
        let topic = format!("{}/flood/{number}", cfg.tprefix);
        Ok(Self {
            stream,
            template: PubTemplate::new(&topic, cfg.qos, false, cfg.size, cfg.level),
            packet: Vec::new(),
            written: 0,
            packet_id: 0,
            unacked: 0,
            unacked_max: cfg.inflight.min(receive_maximum).max(1),
            came: Vec::new(),
            is_closed: false,
        })
    }

    fn wants_to_write(&self) -> bool {
        self.written < self.packet.len() || self.unacked < self.unacked_max
    }

    /// Writes once; the number of bytes.
    fn write(&mut self, qos: u8, payload: &[u8]) -> io::Result<usize> {
        if self.written == self.packet.len() {
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            self.packet.clear();
            self.written = 0;
            self.template.put(&mut self.packet, self.packet_id, payload);
            self.unacked += usize::from(qos > 0);
        }
        let count = self.stream.write(&self.packet[self.written..])?;
        self.written += count;
        Ok(count)
    }

    /// Reads once; nothing but PUBACK is expected.
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        let count = self.stream.read(chunk)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.came.extend_from_slice(&chunk[..count]);
        let mut taken = 0;
        while let Some((first, _, end)) = next_frame(&self.came[taken..]) {
            if first >> 4 != 4 {
                return Err(io::Error::other("the publisher got something else than PUBACK"));
            }
            self.unacked = self.unacked.saturating_sub(1);
            taken += end;
        }
        self.came.drain(..taken);
        Ok(())
    }
}

/// Reads little and seldom, and acknowledges what it has read.
struct Slow {
    stream: TcpStream,
    came: Vec<u8>,
    messages: u64,
}

impl Slow {
    fn read(&mut self) {
        let mut chunk = [0; SLOW_BYTES];
        let Ok(count) = self.stream.read(&mut chunk) else { return }; // nothing there, or cut
        self.came.extend_from_slice(&chunk[..count]);
        while let Some((first, body, end)) = next_frame(&self.came) {
            if first >> 4 == 3 {
                self.messages += 1;
                let topic = usize::from(u16::from_be_bytes([self.came[body], self.came[body + 1]]));
                let id = body + 2 + topic;
                if first & 6 > 0 {
                    // A few bytes of an idle direction: the socket takes them or is closed.
                    let _ = self.stream.write(&[0x40, 2, self.came[id], self.came[id + 1]]);
                }
            }
            self.came.drain(..end);
        }
    }
}

/// One subscriber never reads, one reads little ten times a second, and `--pubs` publish to both as
/// fast as they are let.
pub(crate) fn slow_reader(cfg: &Cfg, label: &str) -> io::Result<String> {
    if cfg.qos > 1 {
        return Err(io::Error::other("--qos 0 or 1"));
    }
    let before = before(cfg)?;
    let filter = format!("{}/flood/#", cfg.tprefix);
    let never = subscriber(cfg, "never", filter.clone())?;
    let slow = subscriber(cfg, "slow", filter)?;
    slow.set_nonblocking(true)?;
    let slow = Slow { stream: slow, came: Vec::new(), messages: 0 };
    let mut publishers: Vec<Greedy> =
        (0..cfg.pubs).map(|number| Greedy::new(cfg, number)).collect::<io::Result<_>>()?;
    let witness = Witness::start(cfg)?;
    let begun = Instant::now();
    let (sent_bytes, slow) = flood(cfg, &mut publishers, slow);
    let seconds = begun.elapsed().as_secs_f64();
    let seen = witness.finish()?;
    drop(never);
    let more = format!(
        "\"flood_mb\":{},\"flood_mb_per_s\":{:.0},\"slow_received\":{},\"errors\":{}",
        sent_bytes / 1_000_000,
        sent_bytes as f64 / seconds / 1e6,
        slow.messages,
        publishers.iter().filter(|publisher| publisher.is_closed).count()
    );
    Ok(report(cfg, label, &before, &seen, &more))
}

/// Publishes for `--seconds`; the bytes that were written.
fn flood(cfg: &Cfg, publishers: &mut [Greedy], mut slow: Slow) -> (u64, Slow) {
    const BOTH: u32 = (libc::EPOLLIN | libc::EPOLLOUT) as u32;
    let epoll = Epoll::new();
    for (number, publisher) in publishers.iter().enumerate() {
        epoll.ctl(libc::EPOLL_CTL_ADD, publisher.stream.as_raw_fd(), BOTH, number as u64);
    }
    let payload = vec![b'x'; cfg.size];
    let (mut chunk, mut sent_bytes) = (vec![0; 16 * 1024], 0);
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let begun = Instant::now();
    let mut next_read = Duration::ZERO;
    while begun.elapsed().as_secs_f64() < cfg.seconds {
        let ready = epoll.wait(&mut events, 50);
        for event in &events[..ready] {
            let publisher = &mut publishers[event.u64 as usize];
            let could_write = publisher.wants_to_write();
            let mut result = Ok(());
            if event.events & libc::EPOLLOUT as u32 > 0 && could_write {
                result = publisher.write(cfg.qos, &payload).map(|count| sent_bytes += count as u64);
            }
            if event.events & !(libc::EPOLLOUT as u32) > 0 {
                result = result.and(publisher.read(&mut chunk));
            }
            let socket = publisher.stream.as_raw_fd();
            match result {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    publisher.is_closed = true;
                    epoll.ctl(libc::EPOLL_CTL_DEL, socket, 0, 0);
                }
                _ if publisher.wants_to_write() == could_write => {}
                _ if could_write => {
                    epoll.ctl(libc::EPOLL_CTL_MOD, socket, libc::EPOLLIN as u32, event.u64);
                }
                _ => epoll.ctl(libc::EPOLL_CTL_MOD, socket, BOTH, event.u64),
            }
        }
        if begun.elapsed() >= next_read {
            slow.read();
            next_read = begun.elapsed() + SLOW_PACE;
        }
    }
    (sent_bytes, slow)
}

/// `--topics` retained messages for one subscriber that reads as fast as it can, `--subs` times.
pub(crate) fn retained(cfg: &Cfg, label: &str) -> io::Result<String> {
    let (mut publisher, _) = mqtt_connect(cfg, &cfg.publisher_id(0), 0)?;
    let payload = vec![b'x'; cfg.size];
    let mut bytes = Vec::new();
    for number in 0..cfg.topics {
        let topic = format!("{}/r/{}/{number}", cfg.tprefix, number % 100);
        PubTemplate::new(&topic, 0, true, cfg.size, cfg.level).put(&mut bytes, 0, &payload);
    }
    bytes.extend([0xc0, 0]);
    publisher.write_all(&bytes)?;
    read_frame(&mut publisher)?; // PINGRESP: all of them were handled
    let rss_before_kb = cfg.pid.map_or(0, proc_rss_kb);
    let before = before(cfg)?;
    let witness = Witness::start(cfg)?;
    let begun = Instant::now();
    for round in 0..cfg.subs {
        replay(cfg, round)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let seen = witness.finish()?;
    let more = format!(
        "\"retained_received\":{},\"replay_seconds\":{seconds:.3},\"server_rss_kb_before\":{rss_before_kb}",
        cfg.subs * cfg.topics
    );
    Ok(report(cfg, label, &before, &seen, &more))
}

/// A new subscriber gets all retained messages, or this fails.
fn replay(cfg: &Cfg, round: usize) -> io::Result<()> {
    let mut reader = subscriber(cfg, &format!("all{round}"), format!("{}/r/#", cfg.tprefix))?;
    let mut chunk = vec![0; 256 * 1024];
    let (mut waiting, mut came) = (Vec::new(), 0);
    while came < cfg.topics {
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            return Err(io::Error::other("the subscriber was disconnected"));
        }
        waiting.extend_from_slice(&chunk[..count]);
        let mut taken = 0;
        while let Some((first, _, end)) = next_frame(&waiting[taken..]) {
            came += usize::from(first >> 4 == 3);
            taken += end;
        }
        waiting.drain(..taken);
    }
    Ok(())
}
