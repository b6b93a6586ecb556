//! Two processes that write to one file at the same time.
//! What must not live here: two connections of one process.

use std::path::Path;
use std::process::{Command, Stdio};

use wasmqtt_core::ids::TenantId;
use wasmqtt_store::Directory;

use crate::{directory, user};

const USERS: usize = 25;

/// Tells a copy of this test program to be a writer: "PREFIX PATH".
const WRITER: &str = "WASMQTT_STORE_TEST_WRITER";

#[tokio::test]
async fn neither_loses_a_change_of_its_own_or_of_the_other() {
    if let Ok(order) = std::env::var(WRITER) {
        let (prefix, path) = order.split_once(' ').unwrap();
        let directory = Directory::open(Path::new(path)).await.unwrap();
        for number in 0..USERS {
            let name = format!("{prefix}{number}");
            directory.user_add(TenantId::DEFAULT, user(&name, None)).await.unwrap();
        }
        return;
    }
    let (_folder, directory) = directory().await;
    let before = directory.generation().await.unwrap();
    let itself = "two_processes::neither_loses_a_change_of_its_own_or_of_the_other";
    let writers: Vec<_> = ["a", "b"]
        .iter()
        .map(|prefix| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", itself, "--quiet"])
                .stdout(Stdio::null())
                .env(WRITER, format!("{prefix} {}", directory.path().display()))
                .spawn()
                .unwrap()
        })
        .collect();
    for number in 0..USERS {
        let name = format!("c{number}");
        directory.user_add(TenantId::DEFAULT, user(&name, None)).await.unwrap();
    }
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    assert_eq!(directory.user_list(TenantId::DEFAULT).await.unwrap().len(), 3 * USERS);
    let changes = i64::try_from(3 * USERS).unwrap();
    assert_eq!(directory.generation().await, Ok(before + changes));
}
