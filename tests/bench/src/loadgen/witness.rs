//! A pair of well-behaved clients beside a load: how long a message takes between them.
//! What must not live here: the load.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use super::config::Cfg;
use super::conn::{mqtt_connect, read_frame};
use super::hist::Hist;
use super::system::now_ns;
use super::wire::{PubTemplate, next_frame, subscribe};

/// Between two messages.
const PACE_NS: u64 = 2_000_000;

/// Runs until it is finished.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    publisher: JoinHandle<io::Result<()>>,
    subscriber: JoinHandle<io::Result<Hist>>,
}

/// What it saw.
pub(crate) struct Seen {
    pub(crate) latency: Hist,
    pub(crate) lost: u64,
}

impl Witness {
    pub(crate) fn start(cfg: &Cfg) -> io::Result<Self> {
        let topic = format!("{}/witness", cfg.tprefix);
        let (mut reader, _) = mqtt_connect(cfg, &format!("{}-ws", cfg.cprefix), 0)?;
        let mut bytes = Vec::new();
        subscribe(&mut bytes, 1, std::slice::from_ref(&topic), 0, cfg.level);
        reader.write_all(&bytes)?;
        read_frame(&mut reader)?;
        reader.set_read_timeout(Some(Duration::from_millis(500)))?;
        let (mut writer, _) = mqtt_connect(cfg, &format!("{}-wp", cfg.cprefix), 1)?;
        writer.set_write_timeout(Some(Duration::from_secs(20)))?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let template = PubTemplate::new(&topic, 0, false, 8, cfg.level);
        let publisher = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // The time is that of the plan: what waits because an earlier one waits counts.
                let mut due = now_ns();
                while !stop.load(Relaxed) {
                    bytes.clear();
                    template.put(&mut bytes, 0, &due.to_be_bytes());
                    writer.write_all(&bytes)?;
                    sent.fetch_add(1, Relaxed);
                    due += PACE_NS;
                    std::thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
                }
                Ok(())
            })
        };
        let subscriber = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || receive(&mut reader, &stop, &sent))
        };
        Ok(Self { stop, sent, publisher, subscriber })
    }

    pub(crate) fn finish(self) -> io::Result<Seen> {
        self.stop.store(true, Relaxed);
        self.publisher.join().expect("no panic")?;
        let latency = self.subscriber.join().expect("no panic")?;
        Ok(Seen { lost: self.sent.load(Relaxed).saturating_sub(latency.n), latency })
    }
}

/// Receives until all came that was sent, or nothing more comes.
fn receive(
    reader: &mut std::net::TcpStream,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<Hist> {
    let (mut latency, mut waiting, mut chunk) = (Hist::default(), Vec::new(), [0; 16 * 1024]);
    while !stop.load(Relaxed) || latency.n < sent.load(Relaxed) {
        match reader.read(&mut chunk) {
            Ok(0) => return Err(io::Error::other("the witness was disconnected")),
            Ok(count) => waiting.extend_from_slice(&chunk[..count]),
            Err(_) if stop.load(Relaxed) => break,
            Err(_) => continue,
        }
        let now = now_ns();
        let mut taken = 0;
        while let Some((_, _, end)) = next_frame(&waiting[taken..]) {
            let frame = &waiting[taken..taken + end];
            let stamp = frame.last_chunk().map_or(now, |bytes| u64::from_be_bytes(*bytes));
            latency.add(now.saturating_sub(stamp));
            taken += end;
        }
        waiting.drain(..taken);
    }
    Ok(latency)
}
