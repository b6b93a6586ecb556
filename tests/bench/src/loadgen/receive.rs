//! What came on a connection: deliveries counted by publisher and sequence, acknowledgements.
//! What must not live here: reading from sockets.

use std::sync::atomic::Ordering::Relaxed;

use super::config::Cfg;
use super::conn::{Conn, Kind, Shared, Stats};
use super::system::now_ns;
use super::wire::{next_frame, varint};

pub(crate) fn handle(cfg: &Cfg, c: &mut Conn, b: &[u8], sh: &Shared, st: &mut Stats) -> usize {
    let mut pos = 0;
    let mut now = now_ns();
    let measuring = sh.measuring.load(Relaxed);
    let mut nrecv = 0u64;
    let mut nack = 0u64;
    let mut last_p = usize::MAX;
    let mut last_n = 0u64;
    while let Some((first, bs, end)) = next_frame(&b[pos..]) {
        let body = &b[pos + bs..pos + end];
        pos += end;
        match (first >> 4, &mut c.kind) {
            (3, Kind::Sub { track }) => {
                let qos = (first >> 1) & 3;
                let tl = u16::from_be_bytes([body[0], body[1]]) as usize;
                let mut i = 2 + tl;
                if qos > 0 {
                    let pid = [body[i], body[i + 1]];
                    i += 2;
                    c.out.extend_from_slice(&[
                        if qos == 1 { 0x40 } else { 0x50 },
                        2,
                        pid[0],
                        pid[1],
                    ]);
                }
                if cfg.level == 5 {
                    let (l, n) = varint(&body[i..]);
                    i += l + n;
                }
                let pl = &body[i..];
                let taken = cfg.form.take(pl, cfg.size).filter(|(p, ..)| *p < track.len());
                let Some((p, seq, ts)) = taken else {
                    st.bad += 1;
                    continue;
                };
                nrecv += 1;
                if nrecv.is_multiple_of(64) {
                    now = now_ns();
                }
                let t = &mut track[p];
                let mut dup = false;
                if seq == t.next {
                    t.next += 1;
                    if !t.ahead.is_empty() {
                        while t.ahead.remove(&t.next) {
                            t.next += 1;
                        }
                    }
                } else if seq < t.next || !t.ahead.insert(seq) {
                    dup = true;
                    st.dup += 1;
                }
                if !dup {
                    t.got += 1;
                    if seq < t.max {
                        st.ooo += 1;
                    } else {
                        t.max = seq;
                    }
                    if p == last_p {
                        last_n += 1;
                    } else {
                        if last_n > 0 {
                            sh.delivered[last_p].fetch_add(last_n, Relaxed);
                        }
                        last_p = p;
                        last_n = 1;
                    }
                }
                if measuring {
                    st.hist.add(now.saturating_sub(ts));
                }
            }
            (6, Kind::Sub { .. }) => c.out.extend_from_slice(&[0x70, 2, body[0], body[1]]),
            (4, Kind::Pub { unacked, .. }) | (7, Kind::Pub { unacked, .. }) => {
                *unacked = unacked.saturating_sub(1);
                nack += 1;
            }
            (5, Kind::Pub { .. }) => c.out.extend_from_slice(&[0x62, 2, body[0], body[1]]),
            (13, _) | (9, _) => {}
            (14, _) => c.dead = true,
            _ => st.bad += 1,
        }
    }
    if last_n > 0 {
        sh.delivered[last_p].fetch_add(last_n, Relaxed);
    }
    if nrecv > 0 {
        sh.recv_total.fetch_add(nrecv, Relaxed);
    }
    if nack > 0 {
        st.acked += nack;
        sh.acked_total.fetch_add(nack, Relaxed);
    }
    pos
}
