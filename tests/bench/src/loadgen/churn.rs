//! The scenario `churn`: one client that subscribes and unsubscribes at a steady rate.
//! What must not live here: messages.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::conn::{mqtt_connect, read_frame};
use super::wire::{subscribe, unsubscribe};

/// Both packets count: a rate of 500 is 250 of each a second.
pub(crate) fn churn(cfg: &Cfg, label: &str) -> io::Result<String> {
    let (mut stream, _) = mqtt_connect(cfg, &format!("{}-churn", cfg.cprefix), 0)?;
    let begun = Instant::now();
    let mut packets = 0u32;
    while begun.elapsed().as_secs_f64() < cfg.seconds {
        let filter = format!("{}/churn/{}/#", cfg.tprefix, packets / 2 % 100);
        let mut bytes = Vec::new();
        if packets.is_multiple_of(2) {
            subscribe(&mut bytes, 1, &[filter], cfg.qos, cfg.level);
        } else {
            unsubscribe(&mut bytes, 1, &filter, cfg.level);
        }
        stream.write_all(&bytes)?;
        read_frame(&mut stream)?;
        packets += 1;
        let due = Duration::from_secs_f64(f64::from(packets) / cfg.rate.max(1.0));
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let rate = f64::from(packets) / begun.elapsed().as_secs_f64();
    Ok(format!(
        "{{\"label\":\"{label}\",\"scenario\":\"churn\",\"packets\":{packets},\"packets_per_s\":{rate:.0}}}"
    ))
}
