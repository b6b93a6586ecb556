//! The loop of one thread: publish what is due or what the window allows, read what came.
//! What must not live here: what a packet means (`receive`), what is reported.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::conn::{Conn, Kind, Shared, Stats};
use super::receive::handle;
use super::system::{Epoll, now_ns};
use super::wire::PubTemplate;

pub(crate) fn worker(cfg: &Cfg, conns: Vec<Conn>, sh: &Shared) -> Stats {
    let ep = Epoll::new();
    let mut conns = conns;
    let mut st = Stats::default();
    for (i, c) in conns.iter().enumerate() {
        ep.ctl(libc::EPOLL_CTL_ADD, c.s.as_raw_fd(), libc::EPOLLIN as u32, i as u64);
    }
    let pub_idx: Vec<usize> = conns
        .iter()
        .enumerate()
        .filter(|(_, c)| matches!(c.kind, Kind::Pub { .. }))
        .map(|(i, _)| i)
        .collect();
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut payload = cfg.form.blank(cfg.size);
    let my_rate =
        if cfg.pubs > 0 { cfg.rate * pub_idx.len() as f64 / cfg.pubs as f64 } else { 0.0 };
    let start = now_ns();
    let mut issued = 0u64;
    let mut rr = 0usize;
    let mut scratch = vec![0u8; 256 * 1024];
    loop {
        if sh.stop.load(Relaxed) {
            break;
        }
        let mut timeout = 20;
        let mut pending = false;
        // ---- publish
        if !sh.stop_pub.load(Relaxed) && !pub_idx.is_empty() {
            let now = now_ns();
            if my_rate > 0.0 {
                let due = ((now - start) as f64 * my_rate / 1e9) as u64;
                let mut misses = 0;
                while issued < due && misses < pub_idx.len() {
                    let ci = pub_idx[rr % pub_idx.len()];
                    rr += 1;
                    let c = &mut conns[ci];
                    if let Kind::Pub { p, templates, seq, next_pid, unacked, max_unacked, .. } =
                        &mut c.kind
                    {
                        if c.dead
                            || c.out.len() > 4 << 20
                            || (cfg.qos > 0 && *unacked >= *max_unacked)
                        {
                            misses += 1;
                            continue;
                        }
                        misses = 0;
                        let intended = start + (issued as f64 * 1e9 / my_rate) as u64;
                        put_msg(
                            cfg,
                            &mut payload,
                            *p,
                            seq,
                            next_pid,
                            unacked,
                            templates,
                            &mut c.out,
                            intended,
                        );
                        sh.sent[*p].store(*seq, Relaxed);
                        issued += 1;
                        sh.sent_total.fetch_add(1, Relaxed);
                    }
                }
                for &ci in &pub_idx {
                    if !conns[ci].out.is_empty() && !conns[ci].want_out {
                        conns[ci].flush(&ep, ci as u64);
                    }
                }
                let next = start + ((issued + 1) as f64 * 1e9 / my_rate) as u64;
                let wait = next.saturating_sub(now_ns());
                timeout = if wait < 1_000_000 { 0 } else { (wait / 1_000_000) as i32 };
                if timeout == 0 && wait > 60_000 {
                    // sleep part of the gap instead of spinning
                    unsafe {
                        let ts = libc::timespec {
                            tv_sec: 0,
                            tv_nsec: (wait.min(400_000) - 55_000) as i64,
                        };
                        let mut pfd = libc::pollfd { fd: ep.0, events: libc::POLLIN, revents: 0 };
                        libc::ppoll(&mut pfd, 1, &ts, std::ptr::null());
                    }
                }
                timeout = timeout.min(20);
            } else {
                for &ci in &pub_idx {
                    let c = &mut conns[ci];
                    if c.dead || c.want_out {
                        continue;
                    }
                    if let Kind::Pub {
                        p,
                        templates,
                        seq,
                        next_pid,
                        unacked,
                        max_unacked,
                        forgiven,
                        last_seen,
                        last_move,
                    } = &mut c.kind
                    {
                        let fan = cfg.fan(*p);
                        let del = sh.delivered[*p].load(Relaxed);
                        if del != *last_seen {
                            *last_seen = del;
                            *last_move = Instant::now();
                        }
                        let mut n = 0u64;
                        loop {
                            if c.out.len() >= 32 * 1024 {
                                pending = true;
                                break;
                            }
                            if cfg.qos > 0 && *unacked >= *max_unacked {
                                break;
                            }
                            if cfg.window > 0 && fan > 0 {
                                let out = (*seq * fan).saturating_sub(del + *forgiven);
                                if out >= cfg.window * fan {
                                    if last_move.elapsed() > Duration::from_millis(700) {
                                        // lost messages: re-open the window
                                        *forgiven += out;
                                        *last_move = Instant::now();
                                        continue;
                                    }
                                    break;
                                }
                            }
                            put_msg(
                                cfg,
                                &mut payload,
                                *p,
                                seq,
                                next_pid,
                                unacked,
                                templates,
                                &mut c.out,
                                if n.is_multiple_of(16) { now_ns() } else { now },
                            );
                            n += 1;
                        }
                        if n > 0 {
                            sh.sent[*p].store(*seq, Relaxed);
                            sh.sent_total.fetch_add(n, Relaxed);
                        }
                    }
                    if !c.out.is_empty() {
                        c.flush(&ep, ci as u64);
                        if c.want_out {
                            pending = false;
                        }
                    }
                }
                timeout = if pending {
                    0
                } else if cfg.threads > 1 {
                    1
                } else {
                    5
                };
            }
        }
        // ---- read
        let n = ep.wait(&mut evs, timeout);
        for e in &evs[..n] {
            let ci = e.u64 as usize;
            let ev = e.events;
            let c = &mut conns[ci];
            if c.dead {
                continue;
            }
            if ev & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0 {
                // read into the shared scratch when there is no partial frame
                let carry = c.rlen;
                scratch[..carry].copy_from_slice(&c.rbuf[..carry]);
                match c.s.read(&mut scratch[carry..]) {
                    Ok(0) => c.dead = true,
                    Ok(got) => {
                        let end = carry + got;
                        let used = handle(cfg, c, &scratch[..end], sh, &mut st);
                        let rest = end - used;
                        if c.rbuf.len() < rest {
                            c.rbuf.resize(rest.next_power_of_two(), 0);
                        }
                        c.rbuf[..rest].copy_from_slice(&scratch[used..end]);
                        c.rlen = rest;
                        if rest + 65536 > scratch.len() {
                            scratch.resize(scratch.len() * 2, 0);
                        }
                    }
                    Err(e)
                        if matches!(
                            e.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                        ) => {}
                    Err(_) => c.dead = true,
                }
                if !c.out.is_empty() && !c.want_out && !c.dead {
                    c.flush(&ep, ci as u64);
                }
            }
            if ev & libc::EPOLLOUT as u32 != 0 {
                c.flush(&ep, ci as u64);
            }
            if c.dead {
                st.dead += 1;
                ep.ctl(libc::EPOLL_CTL_DEL, c.s.as_raw_fd(), 0, 0);
            }
        }
    }
    for c in &conns {
        if let Kind::Sub { track } = &c.kind {
            for (p, t) in track.iter().enumerate() {
                if t.got == 0 && cfg.scenario == "pair" {
                    continue;
                }
                let sent = sh.sent[p].load(Relaxed);
                st.got += t.got;
                st.lost += sent.saturating_sub(t.got);
            }
        }
    }
    st
}

#[inline]
#[allow(clippy::too_many_arguments, reason = "the parts of a `Kind::Pub`, borrowed one by one")]
fn put_msg(
    cfg: &Cfg,
    payload: &mut [u8],
    p: usize,
    seq: &mut u64,
    next_pid: &mut u16,
    unacked: &mut usize,
    templates: &[PubTemplate],
    out: &mut Vec<u8>,
    ts: u64,
) {
    cfg.form.put(payload, p, *seq, ts);
    if cfg.qos > 0 {
        *unacked += 1;
        *next_pid = if *next_pid == 65535 { 1 } else { *next_pid + 1 };
    }
    templates[*seq as usize % templates.len()].put(out, *next_pid, payload);
    *seq += 1;
}
