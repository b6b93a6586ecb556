//! What logins and rules cost on this machine: `cargo run --release -p wasmqtt-store --example figures`.
//! What must not live here: anything that passes or fails.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "prints figures, or says where it stopped"
)]

use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{Authenticator, Directory, HashPool, NewUser, PasswordHash, PrincipalKind};

#[tokio::main(worker_threads = 1)]
async fn main() {
    logins().await;
    million_rules().await;
}

async fn logins() {
    let tenant = TenantId::DEFAULT;
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::create(&folder.path().join("directory.db")).await.unwrap();
    let pool = Arc::new(HashPool::new(1, 8).unwrap());
    let started = Instant::now();
    let hash = pool.hash(b"right").await.unwrap();
    println!("first hash           {:>9.1?}", started.elapsed());
    directory.user_add(tenant, user("anna", &hash)).await.unwrap();
    let authenticator = Authenticator::new(directory.clone(), Arc::clone(&pool)).unwrap();
    let started = Instant::now();
    for number in 0..20_u32 {
        let password = number.to_le_bytes();
        assert!(authenticator.verify(tenant, "anna", &password).await.is_err());
    }
    println!("login, uncached      {:>9.1?}", started.elapsed() / 20);
    authenticator.verify(tenant, "anna", b"right").await.unwrap();
    let rounds = 20_000;
    let started = Instant::now();
    for _ in 0..rounds {
        authenticator.verify(tenant, "anna", b"right").await.unwrap();
    }
    println!("login, cached        {:>9.1?}", started.elapsed() / rounds);
    let started = Instant::now();
    for _ in 0..rounds {
        directory.generation().await.unwrap();
    }
    println!("generation           {:>9.1?}", started.elapsed() / rounds);
    let started = Instant::now();
    for number in 0..200 {
        directory.user_add(tenant, user(&format!("u{number}"), &hash)).await.unwrap();
    }
    println!("user_add             {:>9.1?}", started.elapsed() / 200);
}

async fn million_rules() {
    let tenant = TenantId::DEFAULT;
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::create(&folder.path().join("directory.db")).await.unwrap();
    let options = SqliteConnectOptions::new().filename(directory.path());
    let mut connection = options.connect().await.unwrap();
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) \
               INSERT INTO rules (tenant_id, effect, actions, pattern, subject_kind, subject) \
               SELECT 1, 'allow', 3, 'devices/' || i || '/#', 'user', 'device-' || (i / 10) FROM n";
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let path = directory.path().to_path_buf();
    directory.close().await;
    let started = Instant::now();
    let directory = Directory::open(&path).await.unwrap();
    println!("open                 {:>9.1?}", started.elapsed());
    let started = Instant::now();
    let rows = directory.rule_list(tenant).await.unwrap().len();
    println!("rule_list            {:>9.1?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(directory.rule_set(tenant).await.unwrap().len(), rows);
    println!("rule_set             {:>9.1?}", started.elapsed());
}

fn user(name: &str, password: &PasswordHash) -> NewUser {
    NewUser {
        name: name.to_owned(),
        kind: PrincipalKind::User,
        roles: Vec::new(),
        password: Some(password.clone()),
    }
}
