//! The cache of compiled components: one file each, keyed by the component's digest and the engine.
//! What must not live here: deciding what may be loaded; a cache that fails is no cache, not an error.

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// Bytes of the digest at the head of each file.
const HEAD: usize = 32;

/// A directory that only this user may enter.
#[derive(Debug)]
pub(crate) struct CodeCache {
    directory: PathBuf,
    /// Tells engines apart whose code is not compatible.
    engine: u64,
}

impl CodeCache {
    /// Creates the directory if it is missing.
    ///
    /// # Errors
    /// It can't be created, or it is there and others may write to it, or it belongs to another user.
    pub(crate) fn open(directory: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if !is_private(directory)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the directory for compiled plugins has to belong to the broker's user with mode \
                 0700: what lies there is run as it is",
            ));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory: directory.to_owned(), engine: hasher.finish() })
    }

    /// The component of that digest, if it was stored for this engine and is undamaged.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        if !is_private(&self.directory).ok()? {
            return None;
        }
        let bytes = std::fs::read(self.path(digest)).ok()?;
        let (head, compiled) = bytes.split_at_checked(HEAD)?;
        if Sha256::digest(compiled).as_slice() != head {
            return None;
        }
        // SAFETY: these bytes are what `store` wrote: the directory is private to this user, so that
        // whoever could change them could change this program as well, and the digest at the head
        // excludes damage by accident. wasmtime itself refuses code of an engine that differs.
        unsafe { Component::deserialize(engine, compiled) }.ok()
    }

    /// Keeps compiled code for the next start; a failure costs that start its compilation.
    pub(crate) fn store(&self, digest: &str, component: &Component) {
        let written = component.serialize().map_err(io::Error::other).and_then(|compiled| {
            let path = self.path(digest);
            let draft = path.with_extension(format!("draft-{}", std::process::id()));
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&Sha256::digest(&compiled))?;
            file.write_all(&compiled)?;
            std::fs::rename(&draft, &path)
        });
        if let Err(error) = written {
            tracing::warn!(%error, directory = %self.directory.display(), "compiled plugin not cached");
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}-{:016x}.cwasm", self.engine))
    }
}

fn is_private(directory: &Path) -> io::Result<bool> {
    let metadata = std::fs::metadata(directory)?;
    let owner = rustix::process::geteuid().as_raw();
    Ok(metadata.is_dir() && metadata.uid() == owner && metadata.mode() & 0o077 == 0)
}
