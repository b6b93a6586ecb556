//! One connection: its handshake, its buffers, and what is counted on it.
//! What must not live here: the loop that drives many of them.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use super::config::Cfg;
use super::hist::Hist;
use super::system::Epoll;
use super::wire::{PubTemplate, connect, next_frame, varint};

pub(crate) fn tcp(addr: &SocketAddr) -> io::Result<TcpStream> {
    let s = TcpStream::connect(addr)?;
    s.set_nodelay(true)?;
    Ok(s)
}

/// Blocking connect, CONNECT and CONNACK; returns the stream and the server's Receive Maximum.
pub(crate) fn mqtt_connect(cfg: &Cfg, id: &str, n: usize) -> io::Result<(TcpStream, usize)> {
    let mut s = tcp(&cfg.addr)?;
    s.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut b = Vec::new();
    connect(&mut b, id, &cfg.opts(n));
    s.write_all(&b)?;
    let f = read_frame(&mut s)?;
    if f[0] >> 4 != 2 {
        return Err(io::Error::other(format!("expected CONNACK, got {f:02x?}")));
    }
    let (_, i) = varint(&f[1..]);
    let body = &f[1 + i..];
    if body.get(1) != Some(&0) {
        return Err(io::Error::other(format!("CONNACK refused code {:?}", body.get(1))));
    }
    let mut rm = 65535;
    if cfg.level == 5 {
        let (pl, n) = varint(&body[2..]);
        let mut p = &body[2 + n..2 + n + pl];
        while let Some(&k) = p.first() {
            p = &p[1..];
            let l = match k {
                0x21 => {
                    rm = u16::from_be_bytes([p[0], p[1]]) as usize;
                    2
                }
                0x22 | 0x13 => 2,
                0x11 | 0x27 => 4,
                0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
                0x26 => {
                    let a = u16::from_be_bytes([p[0], p[1]]) as usize + 2;
                    a + u16::from_be_bytes([p[a], p[a + 1]]) as usize + 2
                }
                _ => u16::from_be_bytes([p[0], p[1]]) as usize + 2,
            };
            p = &p[l..];
        }
    }
    Ok((s, rm))
}

pub(crate) fn read_frame(s: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut v = Vec::new();
    let mut b = [0u8; 1];
    loop {
        s.read_exact(&mut b)?;
        v.push(b[0]);
        if let Some((_, _, end)) = next_frame(&v)
            && v.len() >= end
        {
            return Ok(v);
        }
        if v.len() > 4096 {
            return Err(io::Error::other("handshake frame too large"));
        }
    }
}

pub(crate) struct Conn {
    pub(crate) s: TcpStream,
    pub(crate) rbuf: Vec<u8>,
    pub(crate) rlen: usize,
    pub(crate) out: Vec<u8>,
    pub(crate) opos: usize,
    pub(crate) want_out: bool,
    pub(crate) dead: bool,
    pub(crate) kind: Kind,
}
pub(crate) enum Kind {
    Pub {
        p: usize,
        templates: Vec<PubTemplate>,
        seq: u64,
        next_pid: u16,
        unacked: usize,
        max_unacked: usize,
        forgiven: u64,
        last_seen: u64,
        last_move: Instant,
    },
    Sub {
        track: Vec<Track>,
    },
}
#[derive(Default, Clone)]
pub(crate) struct Track {
    pub(crate) next: u64,
    pub(crate) ahead: HashSet<u64>,
    pub(crate) max: u64,
    pub(crate) got: u64,
}
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) dup: u64,
    pub(crate) ooo: u64,
    pub(crate) dead: u64,
    pub(crate) hist: Hist,
    pub(crate) acked: u64,
    pub(crate) bad: u64,
    pub(crate) lost: u64,
    pub(crate) got: u64,
}
pub(crate) struct Shared {
    pub(crate) delivered: Vec<AtomicU64>,
    pub(crate) sent: Vec<AtomicU64>,
    pub(crate) recv_total: AtomicU64,
    pub(crate) sent_total: AtomicU64,
    pub(crate) acked_total: AtomicU64,
    pub(crate) measuring: AtomicBool,
    pub(crate) stop_pub: AtomicBool,
    pub(crate) stop: AtomicBool,
}

impl Conn {
    pub(crate) fn new(s: TcpStream, kind: Kind) -> Self {
        let out = match kind {
            Kind::Pub { .. } => Vec::with_capacity(64 * 1024),
            Kind::Sub { .. } => Vec::new(),
        };
        Self { s, rbuf: Vec::new(), rlen: 0, out, opos: 0, want_out: false, dead: false, kind }
    }

    pub(crate) fn flush(&mut self, ep: &Epoll, tok: u64) {
        while self.opos < self.out.len() {
            match self.s.write(&self.out[self.opos..]) {
                Ok(0) => {
                    self.dead = true;
                    return;
                }
                Ok(n) => self.opos += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.want_out {
                        self.want_out = true;
                        ep.ctl(
                            libc::EPOLL_CTL_MOD,
                            self.s.as_raw_fd(),
                            (libc::EPOLLIN | libc::EPOLLOUT) as u32,
                            tok,
                        );
                    }
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
        self.out.clear();
        self.opos = 0;
        if self.want_out {
            self.want_out = false;
            ep.ctl(libc::EPOLL_CTL_MOD, self.s.as_raw_fd(), libc::EPOLLIN as u32, tok);
        }
    }
}
