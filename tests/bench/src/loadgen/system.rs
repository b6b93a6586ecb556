//! What the load generator asks of the system: a clock, epoll, /proc, limits.
//! What must not live here: MQTT.

use std::os::fd::RawFd;

/// Nanoseconds of the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

pub(crate) struct Epoll(pub(crate) RawFd);

impl Epoll {
    pub(crate) fn new() -> Self {
        Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
    }
    pub(crate) fn ctl(&self, op: i32, fd: i32, ev: u32, tok: u64) {
        let mut e = libc::epoll_event { events: ev, u64: tok };
        unsafe { libc::epoll_ctl(self.0, op, fd, &mut e) };
    }
    pub(crate) fn wait(&self, evs: &mut [libc::epoll_event], timeout_ms: i32) -> usize {
        let n = unsafe { libc::epoll_wait(self.0, evs.as_mut_ptr(), evs.len() as i32, timeout_ms) };
        n.max(0) as usize
    }
}
impl Drop for Epoll {
    fn drop(&mut self) {
        unsafe { libc::close(self.0) };
    }
}

/// CPU seconds, user and system, of a process so far.
pub(crate) fn proc_cpu(pid: u32) -> f64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let r = s.rsplit(')').next().unwrap_or("");
    let f: Vec<&str> = r.split_whitespace().collect();
    if f.len() < 13 {
        return 0.0;
    }
    (f[11].parse::<f64>().unwrap_or(0.0) + f[12].parse::<f64>().unwrap_or(0.0)) / 100.0
}

/// Resident memory of a process in KiB.
pub(crate) fn proc_rss_kb(pid: u32) -> u64 {
    proc_status_kb(pid, "VmRSS:")
}

/// The most resident memory that a process has had, in KiB.
pub(crate) fn proc_rss_peak_kb(pid: u32) -> u64 {
    proc_status_kb(pid, "VmHWM:")
}

fn proc_status_kb(pid: u32, name: &str) -> u64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    s.lines()
        .find(|l| l.starts_with(name))
        .and_then(|l| l.split_whitespace().nth(1))
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// As many open files as the hard limit allows, and no signal for a closed pipe.
pub(crate) fn prepare_process() {
    unsafe {
        let mut r = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut r);
        r.rlim_cur = r.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &r);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}
