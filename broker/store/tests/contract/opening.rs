//! Creating and opening the file: what is refused, in which words, and that nothing is harmed.
//! What must not live here: what is in the tables.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{Directory, StoreError};

use crate::{directory, place, user};

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn execute(path: &Path, sql: &'static str) {
    let mut connection = raw(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Opens what must be refused; the file has to be the same afterwards.
#[track_caller]
fn check_unchanged(path: &Path, before: &[u8]) {
    assert!(fs::read(path).unwrap() == before, "the refused file was changed");
}

#[tokio::test]
async fn a_new_file_has_the_schema_the_default_tenant_and_safe_settings() {
    let (_folder, directory) = directory().await;
    assert_eq!(directory.tenant_by_name("default").await, Ok(TenantId::DEFAULT));
    let mut connection = raw(directory.path()).await;
    let text = |row: sqlx::sqlite::SqliteRow| row.get::<String, _>(0);
    let mode = sqlx::query("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
    assert_eq!(text(mode), "wal");
    let loose = "SELECT name FROM pragma_table_list \
                 WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%' AND NOT strict";
    let loose = sqlx::query(loose).fetch_all(&mut connection).await.unwrap();
    assert_eq!(
        loose.into_iter().map(text).collect::<Vec<_>>(),
        [""; 0],
        "tables that are not STRICT"
    );
    let id = sqlx::query("PRAGMA application_id").fetch_one(&mut connection).await.unwrap();
    assert_eq!(id.get::<i64, _>(0), 0x774d_5154);
}

#[tokio::test]
async fn only_the_owner_can_read_any_of_the_files() {
    let (folder, directory) = directory().await;
    directory.user_add(TenantId::DEFAULT, user("a", None)).await.unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its write-ahead log and its shared memory");
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let (_folder, directory) = directory().await;
    directory.user_add(TenantId::DEFAULT, user("a", None)).await.unwrap();
    let generation = directory.generation().await.unwrap();
    let path = directory.path().to_path_buf();
    directory.close().await;
    let directory = Directory::open(&path).await.unwrap();
    assert!(directory.user_find(TenantId::DEFAULT, "a").await.unwrap().is_some());
    assert_eq!(directory.generation().await, Ok(generation), "opening is no change");
}

#[tokio::test]
async fn creating_never_touches_what_exists() {
    let (_folder, path) = place();
    fs::write(&path, b"precious").unwrap();
    let error = Directory::create(&path).await.unwrap_err();
    assert_eq!(error, StoreError::AlreadyExists { path: path.clone() });
    check_unchanged(&path, b"precious");
}

#[tokio::test]
async fn creating_in_a_folder_that_is_not_there_says_so() {
    let (folder, _) = place();
    let path = folder.path().join("no/directory.db");
    let error = Directory::create(&path).await.unwrap_err();
    assert!(error.to_string().contains("its folder does not exist"), "{error}");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let (_folder, path) = place();
    let error = Directory::open(&path).await.unwrap_err();
    assert_eq!(error, StoreError::Missing { path: path.clone() });
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_not_changed() {
    let (_folder, directory) = directory().await;
    let path = directory.path().to_path_buf();
    directory.close().await;
    execute(&path, "PRAGMA user_version = 7; CREATE TABLE from_the_future (x)").await;
    let before = fs::read(&path).unwrap();
    let error = Directory::open(&path).await.unwrap_err();
    assert_eq!(error, StoreError::Newer { found: 7, known: 1, path: path.clone() });
    assert!(error.to_string().contains("schema version 7, this program knows up to 1"), "{error}");
    check_unchanged(&path, &before);
}

#[tokio::test]
async fn a_foreign_database_is_refused_and_not_changed() {
    let (_folder, path) = place();
    SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    execute(&path, "PRAGMA application_id = 42; CREATE TABLE t (x)").await;
    let before = fs::read(&path).unwrap();
    let error = Directory::open(&path).await.unwrap_err();
    assert!(matches!(&error, StoreError::Foreign { detail, .. } if detail.contains("0x0000002a")));
    check_unchanged(&path, &before);
}

#[tokio::test]
async fn what_is_no_database_at_all_is_refused() {
    let (folder, path) = place();
    for content in [&b"x"[..], &[b'#'; 5000]] {
        fs::write(&path, content).unwrap();
        let error = Directory::open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        check_unchanged(&path, content);
    }
    let error = Directory::open(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn an_empty_file_is_not_mistaken_for_a_new_directory() {
    let (_folder, path) = place();
    fs::write(&path, b"").unwrap();
    let error = Directory::open(&path).await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { detail, .. } if detail.contains("empty")));
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_named() {
    let (_folder, directory) = directory().await;
    let path = directory.path().to_path_buf();
    directory.close().await;
    let whole = fs::read(&path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[4096..12288].fill(0xa5);
    let mut half = whole.clone();
    half.truncate(whole.len() / 8192 * 4096);
    for damaged in [scribbled, half] {
        fs::write(&path, &damaged).unwrap();
        let error = Directory::open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
    }
}

#[tokio::test]
async fn a_file_without_permission_says_what_to_do() {
    let (_folder, directory) = directory().await;
    let path = directory.path().to_path_buf();
    directory.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        return; // root may do everything
    }
    let error = Directory::open(&path).await.unwrap_err();
    assert_eq!(error, StoreError::Permission { action: "open", path });
}

#[tokio::test]
async fn two_who_open_at_the_same_moment_both_succeed() {
    let (_folder, directory) = directory().await;
    let path = directory.path().to_path_buf();
    directory.close().await;
    let (one, other) = tokio::join!(Directory::open(&path), Directory::open(&path));
    assert_eq!(one.unwrap().generation().await, other.unwrap().generation().await);
}
