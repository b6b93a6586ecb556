//! What the store promises, tried on real files in a temporary folder.
//! What must not live here: tests of private parts; those are beside what they test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail and speak that way")]

mod directory;
mod hash_pool;
mod logins;
mod opening;
mod rules;
mod two_processes;

use std::path::PathBuf;

use tempfile::TempDir;
use wasmqtt_store::{Directory, NewUser, PasswordHash, PrincipalKind};

/// A new directory; the folder is removed when the first part is dropped.
async fn directory() -> (TempDir, Directory) {
    let (folder, path) = place();
    let directory = Directory::create(&path).await.unwrap();
    (folder, directory)
}

/// A folder and the path of a file that is not there yet.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory.db");
    (folder, path)
}

/// A user without roles.
fn user(name: &str, password: Option<&PasswordHash>) -> NewUser {
    NewUser {
        name: name.to_owned(),
        kind: PrincipalKind::User,
        roles: Vec::new(),
        password: password.cloned(),
    }
}
