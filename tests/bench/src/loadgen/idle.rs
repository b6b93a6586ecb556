//! The scenario `idle`: many connections with one subscription each, that then say nothing.
//! What must not live here: messages.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::conn::{mqtt_connect, read_frame};
use super::system::{proc_cpu, proc_rss_kb};
use super::wire::subscribe;

pub(crate) fn idle(cfg: &Cfg, label: &str) -> io::Result<String> {
    let rss0 = cfg.pid.map(proc_rss_kb).unwrap_or(0);
    let c0 = cfg.pid.map(proc_cpu).unwrap_or(0.0);
    let t0 = Instant::now();
    let mut v = Vec::with_capacity(cfg.subs);
    for i in 0..cfg.subs {
        let (mut s, _) = mqtt_connect(cfg, &format!("{}-i{i}", cfg.cprefix), i)?;
        let mut b = Vec::new();
        subscribe(&mut b, 1, &[format!("{}/{i}", cfg.tprefix)], cfg.qos, cfg.level);
        s.write_all(&b)?;
        read_frame(&mut s)?;
        v.push(s);
    }
    let el = t0.elapsed().as_secs_f64();
    let c1 = cfg.pid.map(proc_cpu).unwrap_or(0.0);
    std::thread::sleep(Duration::from_secs_f64(cfg.seconds));
    let rss1 = cfg.pid.map(proc_rss_kb).unwrap_or(0);
    let c2 = cfg.pid.map(proc_cpu).unwrap_or(0.0);
    Ok(format!(
        "{{\"label\":\"{label}\",\"scenario\":\"idle\",\"mqtt\":{},\"connections\":{},\"open_seconds\":{el:.2},\"sequential_connect_subscribe_per_s\":{:.0},\"server_rss_kb_before\":{rss0},\"server_rss_kb_after\":{rss1},\"rss_bytes_per_connection\":{:.0},\"server_cpu_s_open\":{:.2},\"server_cpu_s_idle\":{:.2}}}",
        cfg.level,
        v.len(),
        v.len() as f64 / el,
        (rss1.saturating_sub(rss0)) as f64 * 1024.0 / v.len().max(1) as f64,
        c1 - c0,
        c2 - c1
    ))
}
