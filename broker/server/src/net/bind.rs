//! Sockets that listen: on an address or at a path.
//! What must not live here: connections (`listener`).

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::config::listener::{Bind, Listener};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens, before anything is accepted.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    pub(crate) socket: OwnedFd,
    /// What it is bound to: `127.0.0.1:1883`, or the path.
    pub(crate) shown: String,
    _file: Option<SocketFile>,
}

/// Opens a listener's socket. `v6_only`: another listener has the IPv4 addresses of its port.
///
/// # Errors
/// The address or the path can't be had.
pub(crate) fn open(listener: &Listener, v6_only: bool) -> anyhow::Result<ListeningSocket> {
    match &listener.bind {
        Bind::Ip(address) => {
            let (socket, address) =
                open_address(*address, v6_only).map_err(|error| explained(error, *address))?;
            Ok(ListeningSocket { socket, shown: address.to_string(), _file: None })
        }
        Bind::Unix(path) => {
            let (socket, file) = open_path(path, listener.unix_mode)?;
            let shown = path.display().to_string();
            Ok(ListeningSocket { socket, shown, _file: Some(file) })
        }
    }
}

fn explained(error: io::Error, address: SocketAddr) -> anyhow::Error {
    let why = match Errno::from_io_error(&error) {
        Some(Errno::ADDRINUSE) => "is the port taken?",
        Some(Errno::ADDRNOTAVAIL) => "this machine has no such address",
        Some(Errno::ACCESS) => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "see the system's error",
    };
    anyhow::Error::new(error).context(format!("can't listen on {address}: {why}"))
}

fn open_address(address: SocketAddr, v6_only: bool) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags(), None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Said in any case: the system's default is somebody's setting.
        sockopt::set_ipv6_v6only(&socket, v6_only)?;
    }
    // Accepted sockets take it over: a message does not wait for the next.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, address))
}

const fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK)
}

fn open_path(path: &Path, mode: u32) -> anyhow::Result<(OwnedFd, SocketFile)> {
    let shown = path.display();
    let address = SocketAddrUnix::new(path).with_context(|| {
        format!("can't listen at {shown} (the path of a socket has at most 107 bytes)")
    })?;
    make_room(path, &address)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags(), None)?;
    rustix::net::bind(&socket, &address).with_context(|| format!("can't listen at {shown}"))?;
    let file = SocketFile::new(path)?;
    // Nobody can connect before it listens, and by then only who may.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        .with_context(|| format!("can't set the mode of {shown}"))?;
    rustix::net::listen(&socket, BACKLOG).with_context(|| format!("can't listen at {shown}"))?;
    Ok((socket, file))
}

/// Removes a socket that a dead broker left; anything else stays.
fn make_room(path: &Path, address: &SocketAddrUnix) -> anyhow::Result<()> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("can't look at {shown}"))?,
    };
    anyhow::ensure!(found.file_type().is_socket(), "{shown} is there and is not a socket");
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags(), None)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).with_context(|| format!("can't remove the old {shown}"))
        }
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => anyhow::bail!("somebody listens at {shown} already"),
        Err(error) => Err(error).with_context(|| format!("can't tell whether {shown} is in use")),
    }
}

/// The file of a socket, removed with it unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path); // the next broker replaces what can't be removed
        }
    }
}
