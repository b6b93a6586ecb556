//! The scenarios `pair`, `fanout` and `fanin`: all connections, the measured interval, the report.
//! What must not live here: the loop (`worker`).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::conn::{Conn, Kind, Shared, Stats, Track, mqtt_connect, read_frame};
use super::system::{proc_cpu, proc_rss_kb};
use super::wire::{PubTemplate, subscribe};
use super::worker::worker;

pub(crate) fn pubsub(cfg: &Cfg, label: &str) -> io::Result<String> {
    let sh = Arc::new(Shared {
        delivered: (0..cfg.pubs).map(|_| AtomicU64::new(0)).collect(),
        sent: (0..cfg.pubs).map(|_| AtomicU64::new(0)).collect(),
        recv_total: AtomicU64::new(0),
        sent_total: AtomicU64::new(0),
        acked_total: AtomicU64::new(0),
        measuring: AtomicBool::new(false),
        stop_pub: AtomicBool::new(false),
        stop: AtomicBool::new(false),
    });
    let mut per: Vec<Vec<Conn>> = (0..cfg.threads).map(|_| Vec::new()).collect();
    for i in 0..cfg.subs {
        let (mut s, _) = mqtt_connect(cfg, &format!("{}-s{i}", cfg.cprefix), i)?;
        for (n, filters) in cfg.filters_of(i).chunks(100).enumerate() {
            let mut b = Vec::new();
            subscribe(&mut b, 1 + n as u16, filters, cfg.qos, cfg.level);
            s.write_all(&b)?;
            let f = read_frame(&mut s)?;
            if f[0] >> 4 != 9 || f[f.len() - filters.len()..].iter().any(|c| *c >= 0x80) {
                return Err(io::Error::other(format!("SUBSCRIBE refused {f:02x?}")));
            }
        }
        s.set_read_timeout(None)?;
        s.set_nonblocking(true)?;
        let track = vec![Track::default(); cfg.pubs];
        per[i % cfg.threads].push(Conn::new(s, Kind::Sub { track }));
    }
    for p in 0..cfg.pubs {
        let (s, rm) = mqtt_connect(cfg, &cfg.publisher_id(p), cfg.subs + p)?;
        s.set_read_timeout(None)?;
        s.set_nonblocking(true)?;
        let template =
            |topic: &String| PubTemplate::new(topic, cfg.qos, cfg.retain, cfg.size, cfg.level);
        let kind = Kind::Pub {
            p,
            templates: cfg.topics_of(p).iter().map(template).collect(),
            seq: 0,
            next_pid: 0,
            unacked: 0,
            max_unacked: cfg.inflight.min(rm),
            forgiven: 0,
            last_seen: 0,
            last_move: Instant::now(),
        };
        per[p % cfg.threads].push(Conn::new(s, kind));
    }
    let bar = Arc::new(Barrier::new(cfg.threads + 1));
    let hs: Vec<_> = per
        .into_iter()
        .map(|conns| {
            let (cfg, sh, bar) = (cfg.clone(), sh.clone(), bar.clone());
            std::thread::spawn(move || {
                bar.wait();
                worker(&cfg, conns, &sh)
            })
        })
        .collect();
    bar.wait();
    std::thread::sleep(Duration::from_secs_f64(cfg.warmup));
    let cpu0 = cfg.pid.map(proc_cpu);
    let me = std::process::id();
    let mycpu0 = proc_cpu(me);
    let (r0, s0) = (sh.recv_total.load(Relaxed), sh.sent_total.load(Relaxed));
    sh.measuring.store(true, Relaxed);
    let t0 = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(cfg.seconds));
    sh.measuring.store(false, Relaxed);
    let el = t0.elapsed().as_secs_f64();
    let (r1, s1) = (sh.recv_total.load(Relaxed), sh.sent_total.load(Relaxed));
    let cpu = cfg.pid.map(|p| proc_cpu(p) - cpu0.unwrap_or(0.0));
    let mycpu = proc_cpu(me) - mycpu0;
    let rss = cfg.pid.map(proc_rss_kb);
    sh.stop_pub.store(true, Relaxed);
    let dl = Instant::now() + Duration::from_secs_f64(cfg.drain);
    let expected =
        |sh: &Shared| -> u64 { (0..cfg.pubs).map(|p| sh.sent[p].load(Relaxed) * cfg.fan(p)).sum() };
    while Instant::now() < dl {
        std::thread::sleep(Duration::from_millis(20));
        if sh.recv_total.load(Relaxed) >= expected(&sh)
            && (cfg.qos == 0 || sh.acked_total.load(Relaxed) >= sh.sent_total.load(Relaxed))
        {
            break;
        }
    }
    sh.stop.store(true, Relaxed);
    let mut st = Stats::default();
    for h in hs {
        let s = h.join().expect("a worker panicked");
        st.dup += s.dup;
        st.ooo += s.ooo;
        st.dead += s.dead;
        st.bad += s.bad;
        st.acked += s.acked;
        st.got += s.got;
        st.hist.merge(&s.hist);
    }
    let exp = expected(&sh);
    let lost = exp.saturating_sub(st.got);
    let unacked =
        if cfg.qos > 0 { sh.sent_total.load(Relaxed).saturating_sub(st.acked) } else { 0 };
    let (recv, sent) = (r1 - r0, s1 - s0);
    let h = &st.hist;
    let us = |p: f64| h.pct(p) as f64 / 1000.0;
    let msgs = recv + sent;
    let cpu_s = cpu.map_or("null".into(), |c| format!("{c:.2}"));
    let cpm = cpu.map_or("null".into(), |c| format!("{:.3}", c * 1e6 / recv.max(1) as f64));
    let cpm2 = cpu.map_or("null".into(), |c| format!("{:.3}", c * 1e6 / msgs.max(1) as f64));
    let rss_s = rss.map_or("null".into(), |c| c.to_string());
    Ok(format!(
        "{{\"label\":\"{label}\",\"scenario\":\"{}\",\"mqtt\":{},\"qos\":{},\"size\":{},\"pubs\":{},\"subs\":{},\"rate\":{},\"seconds\":{el:.3},\"sent\":{sent},\"sent_per_s\":{:.0},\"received\":{recv},\"recv_per_s\":{:.0},\"total_expected\":{exp},\"total_received\":{},\"lost\":{lost},\"duplicates\":{},\"out_of_order\":{},\"unacked\":{unacked},\"bad\":{},\"dead_conns\":{},\"latency_us\":{{\"mean\":{:.1},\"p50\":{:.1},\"p90\":{:.1},\"p99\":{:.1},\"p999\":{:.1},\"max\":{:.1}}},\"server_cpu_s\":{cpu_s},\"server_cpu_s_per_million_deliveries\":{cpm},\"server_cpu_s_per_million_in_plus_out\":{cpm2},\"server_rss_kb\":{rss_s},\"client_cpu_s\":{mycpu:.2}}}",
        cfg.scenario,
        cfg.level,
        cfg.qos,
        cfg.size,
        cfg.pubs,
        cfg.subs,
        cfg.rate,
        sent as f64 / el,
        recv as f64 / el,
        st.got,
        st.dup,
        st.ooo,
        st.bad,
        st.dead,
        h.mean() / 1000.0,
        us(50.0),
        us(90.0),
        us(99.0),
        us(99.9),
        h.max as f64 / 1000.0
    ))
}
