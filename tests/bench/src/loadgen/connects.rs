//! The scenario `connect`: CONNECT, CONNACK, DISCONNECT as fast as the server takes them.
//! What must not live here: messages.

use std::io;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::conn::tcp;
use super::hist::Hist;
use super::system::{Epoll, now_ns, proc_cpu};
use super::wire::connect;

pub(crate) fn conn_rate(cfg: &Cfg, label: &str, conc: usize) -> io::Result<String> {
    let stop = Arc::new(AtomicBool::new(false));
    let n = Arc::new(AtomicU64::new(0));
    let err = Arc::new(AtomicU64::new(0));
    let ids = Arc::new(AtomicU64::new(0));
    let hist = Arc::new(Mutex::new(Hist::default()));
    let hs: Vec<_> = (0..cfg.threads)
        .map(|_| {
            let (cfg, stop, n, err, ids, hist) =
                (cfg.clone(), stop.clone(), n.clone(), err.clone(), ids.clone(), hist.clone());
            let conc = (conc / cfg.threads).max(1);
            std::thread::spawn(move || conn_worker(&cfg, conc, &stop, [&n, &err, &ids], &hist))
        })
        .collect();
    std::thread::sleep(Duration::from_secs_f64(cfg.warmup));
    let c0 = cfg.pid.map(proc_cpu);
    let n0 = n.load(Relaxed);
    let t0 = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(cfg.seconds));
    let el = t0.elapsed().as_secs_f64();
    let d = n.load(Relaxed) - n0;
    let cpu = cfg.pid.map(|p| proc_cpu(p) - c0.unwrap_or(0.0));
    stop.store(true, Relaxed);
    for h in hs {
        let _ = h.join();
    }
    let h = hist.lock().expect("no thread panicked");
    Ok(format!(
        "{{\"label\":\"{label}\",\"scenario\":\"connect\",\"mqtt\":{},\"seconds\":{el:.3},\"connects\":{d},\"connects_per_s\":{:.0},\"errors\":{},\"latency_us\":{{\"p50\":{:.1},\"p99\":{:.1},\"p999\":{:.1},\"max\":{:.1}}},\"server_cpu_s\":{},\"server_cpu_us_per_connect\":{}}}",
        cfg.level,
        d as f64 / el,
        err.load(Relaxed),
        h.pct(50.0) as f64 / 1e3,
        h.pct(99.0) as f64 / 1e3,
        h.pct(99.9) as f64 / 1e3,
        h.max as f64 / 1e3,
        cpu.map_or("null".into(), |c| format!("{c:.2}")),
        cpu.map_or("null".into(), |c| format!("{:.1}", c * 1e6 / d.max(1) as f64))
    ))
}
fn conn_worker(
    cfg: &Cfg,
    conc: usize,
    stop: &AtomicBool,
    [n, err, ids]: [&AtomicU64; 3],
    hist: &Mutex<Hist>,
) {
    let ep = Epoll::new();
    let mut slots: Vec<Option<(TcpStream, u64)>> = (0..conc).map(|_| None).collect();
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut h = Hist::default();
    let open = |i: usize, slots: &mut Vec<Option<(TcpStream, u64)>>| {
        let t = now_ns();
        let id = ids.fetch_add(1, Relaxed);
        let r = tcp(&cfg.addr).and_then(|mut s| {
            let mut b = Vec::new();
            connect(&mut b, &format!("{}-c{id}", cfg.cprefix), &cfg.opts(id as usize));
            s.write_all(&b)?;
            s.set_nonblocking(true)?;
            ep.ctl(libc::EPOLL_CTL_ADD, s.as_raw_fd(), libc::EPOLLIN as u32, i as u64);
            Ok(s)
        });
        match r {
            Ok(s) => slots[i] = Some((s, t)),
            Err(_) => {
                err.fetch_add(1, Relaxed);
                slots[i] = None;
            }
        }
    };
    while !stop.load(Relaxed) {
        for i in 0..conc {
            if slots[i].is_none() {
                open(i, &mut slots);
            }
        }
        let k = ep.wait(&mut evs, 20);
        for e in &evs[..k] {
            let i = e.u64 as usize;
            if let Some((mut s, t)) = slots[i].take() {
                let mut b = [0u8; 256];
                match s.read(&mut b) {
                    Ok(m) if m >= 4 && b[0] == 0x20 && b[3] == 0 => {
                        h.add(now_ns() - t);
                        n.fetch_add(1, Relaxed);
                        let _ = s.write_all(&[0xe0, 0]);
                        // RST on close keeps the loopback free of TIME_WAIT sockets
                        let l = libc::linger { l_onoff: 1, l_linger: 0 };
                        unsafe {
                            libc::setsockopt(
                                s.as_raw_fd(),
                                libc::SOL_SOCKET,
                                libc::SO_LINGER,
                                &l as *const _ as _,
                                size_of_val(&l) as u32,
                            );
                        }
                    }
                    _ => {
                        err.fetch_add(1, Relaxed);
                    }
                }
            }
        }
    }
    hist.lock().expect("no thread panicked").merge(&h);
}
