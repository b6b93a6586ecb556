//! The directory of a broker: which files it has, who may write in it, how it comes to be.
//! What must not live here: what is inside the files.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// The files of a broker's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of `directory`, which need not be there.
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { root: directory.into() }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Process settings, written by the operator.
    pub(crate) fn broker_toml(&self) -> PathBuf {
        self.root.join("broker.toml")
    }

    /// Users, roles, rules.
    pub(crate) fn directory_db(&self) -> PathBuf {
        self.root.join("directory.db")
    }

    /// Where a running broker answers the command line.
    pub(crate) fn admin_sock(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    /// Locked by whoever writes.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Compiled plugins; may be deleted at any time.
    pub(crate) fn code_cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// 32 random bytes in hexadecimal: the key for device keys.
    pub(crate) fn secret_key(&self) -> PathBuf {
        self.root.join("secret.key")
    }
}

/// What is wrong with a directory, or who is in the way.
#[derive(Debug, Error)]
pub(crate) enum InstanceError {
    /// Nothing there.
    #[error("there is no directory {0}")]
    Missing(PathBuf),
    /// A file, a socket, …
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// A directory of something else.
    #[error("{0} is not a broker's directory: it has no broker.toml")]
    NotABroker(PathBuf),
    /// `create` finds a broker.
    #[error("{0} is a broker's directory already")]
    Exists(PathBuf),
    /// `create` finds something else.
    #[error("{directory} is not empty: there is {entry} in it")]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
        /// The first thing found in it.
        entry: String,
    },
    /// A broker runs there.
    #[error("{directory} is locked by another broker ({})", pid_text(*.pid))]
    LockedByBroker {
        /// The directory.
        directory: PathBuf,
        /// Its process, where it could be read.
        pid: Option<u32>,
    },
    /// A command writes there, for longer than commands take.
    #[error("{directory} is locked by another wasmqtt command ({})", pid_text(*.pid))]
    LockedByCommand {
        /// The directory.
        directory: PathBuf,
        /// Its process, where it could be read.
        pid: Option<u32>,
    },
    /// The system refused.
    #[error("can't {what} {path}: {error}")]
    Io {
        /// "read", "write", …
        what: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl InstanceError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(path) | Self::NotABroker(path) => {
                Some(format!("make one: wasmqtt create {}", path.display()))
            }
            Self::Exists(path) => Some(format!("start it: wasmqtt run {}", path.display())),
            Self::NotEmpty { .. } => Some("name a new or an empty directory".to_owned()),
            Self::LockedByBroker { directory, .. } => {
                Some(format!("look at it: wasmqtt -C {} status", directory.display()))
            }
            Self::LockedByCommand { .. } => Some("try again when that command is done".to_owned()),
            Self::NotADirectory(_) | Self::Io { .. } => None,
        }
    }

    /// A map for `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { what, path, error }
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "process unknown".to_owned(), |pid| format!("pid {pid}"))
}

/// A broker's directory that this process may write in, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its files.
    pub layout: Layout,
    _lock: Lock,
}

impl Instance {
    /// Checks that `directory` is a broker's and locks it.
    pub(crate) fn open(directory: &Path, holder: Holder) -> Result<Self, InstanceError> {
        let layout = Layout::new(directory);
        check(&layout)?;
        let _lock = Lock::take(&layout, holder)?;
        Ok(Self { layout, _lock })
    }

    /// Makes `directory`, or takes an empty one: `fill` writes its files into a private
    /// directory, and they move to their places when all of them are there.
    pub(crate) async fn create<T>(
        directory: &Path,
        fill: impl AsyncFnOnce(Layout) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let layout = Layout::new(directory);
        let is_new = match fs::symlink_metadata(directory) {
            Ok(_) => {
                check_empty(&layout)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(InstanceError::io("look at", directory)(error).into()),
        };
        if is_new {
            make_directory(directory)?;
        }
        let done = Self::create_in(layout, fill).await;
        if done.is_err() && is_new {
            // Only what `create` made: a directory with anything else in it stays.
            let _ = fs::remove_file(Layout::new(directory).lock());
            let _ = fs::remove_dir(directory);
        }
        done
    }

    async fn create_in<T>(
        layout: Layout,
        fill: impl AsyncFnOnce(Layout) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let _lock = Lock::take(&layout, Holder::Command)?;
        check_empty(&layout)?;
        fs::set_permissions(layout.root(), Permissions::from_mode(0o700))
            .map_err(InstanceError::io("make private", layout.root()))?;
        let staging = layout.root().join(STAGING);
        let _ = fs::remove_dir_all(&staging);
        make_directory(&staging)?;
        let done = fill(Layout::new(&staging)).await.and_then(|value| {
            move_into_place(&staging, &layout)?;
            Ok(value)
        });
        let _ = fs::remove_dir_all(&staging);
        Ok((Self { layout, _lock }, done?))
    }

    /// From the command that made it to the broker that runs it, without letting go.
    pub(crate) fn become_broker(&mut self) -> Result<(), InstanceError> {
        self._lock.write(Holder::Broker).map_err(InstanceError::io("write", &self.layout.lock()))
    }
}

/// Where `create` prepares the files.
const STAGING: &str = ".creating";

/// Moves every file; `broker.toml`, which makes it a broker's directory, last.
fn move_into_place(staging: &Path, layout: &Layout) -> Result<(), InstanceError> {
    let entries = fs::read_dir(staging).map_err(InstanceError::io("read", staging))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort_by_key(|name| name == "broker.toml");
    for name in names {
        let (from, to) = (staging.join(&name), layout.root().join(&name));
        fs::rename(&from, &to).map_err(InstanceError::io("write", &to))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), InstanceError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(InstanceError::io("make", parent))?;
    }
    DirBuilder::new().mode(0o700).create(path).map_err(InstanceError::io("make", path))
}

/// Writes a new file that only its owner can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), InstanceError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(InstanceError::io("write", path))
}

fn check(layout: &Layout) -> Result<(), InstanceError> {
    let root = layout.root();
    match fs::metadata(root) {
        Ok(found) if !found.is_dir() => Err(InstanceError::NotADirectory(root.to_owned())),
        Ok(_) if !layout.broker_toml().exists() => Err(InstanceError::NotABroker(root.to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(InstanceError::Missing(root.to_owned()))
        }
        Err(error) => Err(InstanceError::io("look at", root)(error)),
    }
}

/// A lock and an interrupted `create` leave nothing that anybody could miss.
fn check_empty(layout: &Layout) -> Result<(), InstanceError> {
    let root = layout.root();
    match check(layout) {
        Ok(()) => return Err(InstanceError::Exists(root.to_owned())),
        Err(InstanceError::NotABroker(_)) => {}
        Err(other) => return Err(other),
    }
    for entry in fs::read_dir(root).map_err(InstanceError::io("read", root))? {
        let name = entry.map_err(InstanceError::io("read", root))?.file_name();
        if ![STAGING, "lock", "lost+found"].iter().any(|known| name == *known) {
            let entry = name.to_string_lossy().into_owned();
            return Err(InstanceError::NotEmpty { directory: root.to_owned(), entry });
        }
    }
    Ok(())
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// For as long as it runs; answers on `admin.sock`.
    Broker,
    /// For a moment.
    Command,
}

/// What [`probe`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// Nobody writes.
    Free,
    /// A broker, with its process where it could be read.
    Broker(Option<u32>),
    /// A command.
    Command(Option<u32>),
}

/// Who holds the lock of a directory at this moment.
pub(crate) fn probe(layout: &Layout) -> Result<LockState, InstanceError> {
    check(layout)?;
    let path = layout.lock();
    let mut file = match OpenOptions::new().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
        Err(error) => return Err(InstanceError::io("read", &path)(error)),
    };
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(LockState::Free);
    }
    Ok(read_holder(&mut file))
}

/// An exclusive `flock` on `DIR/lock`; the system lets it go when the process ends, however.
#[derive(Debug)]
struct Lock {
    file: File,
}

/// How long one waits for a holder to go, and how often one looks.
const BROKER_WAIT: Duration = Duration::from_millis(100);
const COMMAND_WAIT: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);

impl Lock {
    fn take(layout: &Layout, holder: Holder) -> Result<Self, InstanceError> {
        let path = layout.lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(InstanceError::io("write", &path))?;
        let mut waited = Duration::ZERO;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(InstanceError::io("lock", &path)(error.into()));
            }
            let directory = layout.root().to_owned();
            match read_holder(&mut file) {
                // For a moment the name may be an earlier holder's, or the lock a `probe`'s.
                LockState::Broker(pid) if waited >= BROKER_WAIT => {
                    return Err(InstanceError::LockedByBroker { directory, pid });
                }
                LockState::Command(pid) if waited >= COMMAND_WAIT => {
                    return Err(InstanceError::LockedByCommand { directory, pid });
                }
                LockState::Broker(_) | LockState::Command(_) | LockState::Free => {}
            }
            std::thread::sleep(LOCK_POLL);
            waited += LOCK_POLL;
        }
        let mut lock = Self { file };
        lock.write(holder).map_err(InstanceError::io("write", &path))?;
        Ok(lock)
    }

    fn write(&mut self, holder: Holder) -> io::Result<()> {
        let name = match holder {
            Holder::Broker => "broker",
            Holder::Command => "command",
        };
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{name} {}", std::process::id())
    }
}

/// A holder that has not written its name yet is taken for a command: one waits for those.
fn read_holder(file: &mut File) -> LockState {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(64).read_to_string(&mut text));
    let (name, pid) = text.trim().split_once(' ').unwrap_or_default();
    let pid = pid.parse().ok().filter(|_| read.is_ok());
    if name == "broker" { LockState::Broker(pid) } else { LockState::Command(pid) }
}

#[cfg(test)]
mod tests;
