//! Logins: who gets in, what it costs, and what a stranger learns.
//! What must not live here: how hashes are computed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{
    Authenticator, Directory, HashPool, LoginError, NewUser, PrincipalKind, Verified,
};

use crate::{directory, user};

const TENANT: TenantId = TenantId::DEFAULT;

struct House {
    directory: Directory,
    pool: Arc<HashPool>,
    authenticator: Arc<Authenticator>,
    _folder: TempDir,
}

impl House {
    /// With a user "anna" whose password is "right".
    async fn new(queue_max: usize) -> Self {
        let (folder, directory) = directory().await;
        // A deadline that no machine under load reaches.
        let pool = HashPool::new(1, queue_max).unwrap().with_deadline(Duration::from_secs(60));
        let pool = Arc::new(pool);
        let hash = pool.hash(b"right").await.unwrap();
        let anna = NewUser {
            name: "anna".to_owned(),
            kind: PrincipalKind::Admin,
            roles: vec!["b".to_owned(), "a".to_owned()],
            password: Some(hash),
        };
        directory.user_add(TENANT, anna).await.unwrap();
        let authenticator = Authenticator::new(directory.clone(), Arc::clone(&pool)).unwrap();
        Self { directory, pool, authenticator: Arc::new(authenticator), _folder: folder }
    }

    async fn login(&self, name: &str, password: &str) -> Result<Verified, LoginError> {
        self.authenticator.verify(TENANT, name, password.as_bytes()).await
    }

    /// Logs in and checks how many hashes that took.
    async fn check(&self, name: &str, password: &str, good: bool, hashes: u64) {
        let before = self.pool.hashes();
        let result = self.login(name, password).await;
        let what = format!("{name} with {password}: {result:?}");
        assert_eq!(result.is_ok(), good, "{what}");
        assert!(good || result == Err(LoginError::WrongCredential), "{what}");
        assert_eq!(self.pool.hashes() - before, hashes, "hashes for {what}");
    }
}

#[tokio::test]
async fn the_right_password_tells_who_it_is_and_costs_one_hash_once() {
    let house = House::new(8).await;
    house.check("anna", "right", true, 1).await;
    house.check("anna", "right", true, 0).await;
    let anna = house.login("anna", "right").await.unwrap();
    let roles = Arc::from(["a".into(), "b".into()]);
    assert_eq!(anna, Verified { name: "anna".into(), kind: PrincipalKind::Admin, roles });
}

#[tokio::test]
async fn every_refusal_is_the_same_and_costs_the_same() {
    let house = House::new(8).await;
    house.directory.user_add(TENANT, user("bare", None)).await.unwrap();
    let hash = house.pool.hash(b"right").await.unwrap();
    house.directory.user_add(TENANT, user("off", Some(&hash))).await.unwrap();
    house.directory.user_set_enabled(TENANT, "off", false).await.unwrap();
    for (name, password) in [
        ("anna", "wrong"),
        ("nobody", "right"),
        ("bare", "right"),
        ("bare", ""),
        ("off", "right"),
        ("off", "wrong"),
        ("ANNA", "right"),
        ("", "right"),
        ("anna\0", "right"),
    ] {
        house.check(name, password, false, 1).await;
        house.check(name, password, false, 0).await;
    }
}

#[tokio::test]
async fn the_password_of_one_tenant_is_none_in_another() {
    let house = House::new(8).await;
    house.check("anna", "right", true, 1).await;
    let other = house.directory.tenant_add("other").await.unwrap();
    for tenant in [other, TenantId(77)] {
        let result = house.authenticator.verify(tenant, "anna", b"right").await;
        assert_eq!(result, Err(LoginError::WrongCredential));
    }
}

#[tokio::test]
async fn a_change_holds_from_the_next_login() {
    let house = House::new(8).await;
    house.check("anna", "right", true, 1).await;
    house.check("anna", "new", false, 1).await;
    let hash = house.pool.hash(b"new").await.unwrap();
    // By another process, as far as the authenticator can tell.
    let other = Directory::open(house.directory.path()).await.unwrap();
    other.user_set_password(TENANT, "anna", &hash).await.unwrap();
    house.check("anna", "right", false, 1).await;
    house.check("anna", "new", true, 1).await;
    other.user_set_roles(TENANT, "anna", &["c".to_owned()]).await.unwrap();
    let anna = house.login("anna", "new").await.unwrap();
    assert_eq!(anna.roles, Arc::from(["c".into()]));
    other.user_set_enabled(TENANT, "anna", false).await.unwrap();
    house.check("anna", "new", false, 0).await;
    other.user_set_enabled(TENANT, "anna", true).await.unwrap();
    house.check("anna", "new", true, 0).await;
    other.user_remove(TENANT, "anna").await.unwrap();
    house.check("anna", "new", false, 1).await;
}

#[tokio::test]
async fn the_same_password_set_again_is_verified_again() {
    let house = House::new(8).await;
    house.check("anna", "right", true, 1).await;
    let hash = house.pool.hash(b"right").await.unwrap();
    house.directory.user_set_password(TENANT, "anna", &hash).await.unwrap();
    house.check("anna", "right", true, 1).await;
}

#[tokio::test]
async fn two_passwords_fit_during_a_rotation_and_an_expired_one_does_not() {
    let house = House::new(8).await;
    let options = SqliteConnectOptions::new().filename(house.directory.path());
    let mut connection = options.connect().await.unwrap();
    for (password, expires) in [("next", "unixepoch() + 3600"), ("late", "unixepoch() - 1")] {
        let hash = house.pool.hash(password.as_bytes()).await.unwrap();
        let sql = format!(
            "INSERT INTO credentials (principal_id, kind, phc, expires_at) \
             SELECT id, 'password', ?1, {expires} FROM principals WHERE name = 'anna'"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(hash.as_str())
            .execute(&mut connection)
            .await
            .unwrap();
    }
    house.check("anna", "next", true, 1).await;
    house.check("anna", "right", true, 2).await;
    house.check("anna", "late", false, 2).await;
}

#[tokio::test]
async fn a_stored_hash_that_cannot_be_used_lets_nobody_in_and_costs_a_hash() {
    let house = House::new(8).await;
    let options = SqliteConnectOptions::new().filename(house.directory.path());
    let mut connection = options.connect().await.unwrap();
    for phc in [
        "plaintext",
        "$argon2id$v=19$m=4194304,t=9,p=1$c29tZXNhbHQ$c29tZXNhbHRzb21lc2FsdHNvbWVzYWx0",
    ] {
        let sql = "UPDATE credentials SET phc = ?1";
        sqlx::query(sql).bind(phc).execute(&mut connection).await.unwrap();
        house.check("anna", phc, false, 1).await;
    }
}

#[tokio::test]
async fn a_hundred_who_ask_the_same_share_one_hash() {
    let house = House::new(4).await;
    for (name, password, good) in
        [("anna", "right", true), ("anna", "wrong", false), ("nobody", "x", false)]
    {
        let before = house.pool.hashes();
        let logins: Vec<_> = (0..100)
            .map(|_| {
                let authenticator = Arc::clone(&house.authenticator);
                tokio::spawn(async move {
                    authenticator.verify(TENANT, name, password.as_bytes()).await
                })
            })
            .collect();
        for login in logins {
            let result = login.await.unwrap();
            assert_eq!(result.is_ok(), good, "{result:?}");
            assert!(good || result == Err(LoginError::WrongCredential), "{result:?}");
        }
        assert_eq!(house.pool.hashes() - before, 1, "{name} with {password}");
    }
}

#[tokio::test]
async fn the_others_get_an_answer_when_the_one_who_asked_first_goes_away() {
    let house = House::new(4).await;
    let login = || {
        let authenticator = Arc::clone(&house.authenticator);
        tokio::spawn(async move { authenticator.verify(TENANT, "anna", b"right").await })
    };
    let logins: Vec<_> = (0..5).map(|_| login()).collect();
    while house.pool.hashes() == 1 {
        tokio::task::yield_now().await; // until a hash is under way
    }
    // Whichever of the first four leads, it goes away.
    for login in &logins[..4] {
        login.abort();
    }
    for (at, login) in logins.into_iter().enumerate() {
        match login.await {
            Ok(result) => assert!(result.is_ok(), "{result:?}"),
            Err(error) => assert!(at < 4 && error.is_cancelled(), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_storm_of_wrong_logins_takes_bounded_memory_and_is_answered_busy() {
    const STORM: usize = 200;
    const QUEUE: usize = 8;
    let house = House::new(QUEUE).await;
    let before = house.pool.hashes();
    let logins: Vec<_> = (0..STORM)
        .map(|number| {
            let authenticator = Arc::clone(&house.authenticator);
            tokio::spawn(async move {
                let name = if number % 2 == 0 { "anna" } else { "nobody" };
                authenticator.verify(TENANT, name, number.to_string().as_bytes()).await
            })
        })
        .collect();
    let (mut busy, mut wrong) = (0, 0);
    for login in logins {
        assert!(house.pool.waiting() <= QUEUE);
        match login.await.unwrap() {
            Err(LoginError::Busy) => busy += 1,
            Err(LoginError::WrongCredential) => wrong += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(busy + wrong, STORM);
    assert!(wrong >= QUEUE && busy >= STORM / 2, "{busy} busy, {wrong} wrong");
    assert_eq!(house.pool.hashes() - before, wrong as u64);
    // In parallel 200 hashes would take 3.8 GB.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(peak_kib) = peak_kib {
        let peak_kib: u64 = peak_kib.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak_kib < 1 << 20, "{peak_kib} KiB at the peak");
    }
    house.check("anna", "right", true, 1).await;
}
