//! Tenants, users, roles, plugins: what can be stored, what is refused, what others notice.
//! What must not live here: logins and rules.

use proptest::prelude::*;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{
    Directory, NameError, NewPlugin, NewUser, PasswordHash, PrincipalKind, StoreError,
};

use crate::{directory, user};

const TENANT: TenantId = TenantId::DEFAULT;

/// A stored hash that was never computed.
fn some_hash() -> PasswordHash {
    let phc = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    PasswordHash::parse(phc).unwrap()
}

async fn names(directory: &Directory, tenant: TenantId) -> Vec<String> {
    directory.user_list(tenant).await.unwrap().into_iter().map(|user| user.name).collect()
}

#[tokio::test]
async fn a_user_comes_back_as_it_was_added() {
    let (_folder, directory) = directory().await;
    let new = NewUser {
        name: "sensor-1".to_owned(),
        kind: PrincipalKind::Device,
        roles: vec!["writers".to_owned(), "readers".to_owned(), "writers".to_owned()],
        password: Some(some_hash()),
    };
    directory.user_add(TENANT, new).await.unwrap();
    let record = directory.user_find(TENANT, "sensor-1").await.unwrap().unwrap();
    assert_eq!(record.user.kind, PrincipalKind::Device);
    assert!(record.user.enabled);
    assert_eq!(record.user.roles, ["readers".into(), "writers".into()]);
    assert!(record.user.created_at > 1_700_000_000, "Unix seconds");
    assert_eq!(record.credentials.len(), 1);
    assert_eq!(record.credentials[0].phc, some_hash().as_str());
    assert!(!format!("{record:?}").contains("argon2id"), "a hash in a log");
    assert_eq!(directory.user_list(TENANT).await.unwrap(), [record.user]);
    assert_eq!(directory.user_find(TENANT, "Sensor-1").await, Ok(None), "names are exact");
    let roles = directory.role_list(TENANT).await.unwrap();
    let roles: Vec<_> = roles.iter().map(|role| (role.name.as_str(), role.principals)).collect();
    assert_eq!(roles, [("readers", 1), ("writers", 1)]);
}

#[tokio::test]
async fn a_name_is_taken_once_in_a_tenant_and_again_in_another() {
    let (_folder, directory) = directory().await;
    directory.user_add(TENANT, user("a", None)).await.unwrap();
    let error = directory.user_add(TENANT, user("a", None)).await.unwrap_err();
    assert_eq!(error, StoreError::UserExists { name: "a".to_owned() });
    let other = directory.tenant_add("other").await.unwrap();
    directory.user_add(other, user("a", None)).await.unwrap();
    directory.user_remove(TENANT, "a").await.unwrap();
    assert_eq!(names(&directory, TENANT).await, [""; 0]);
    assert_eq!(names(&directory, other).await, ["a"]);
}

#[tokio::test]
async fn what_does_not_exist_is_named_in_the_error() {
    let (_folder, directory) = directory().await;
    let no_user = Err(StoreError::NoSuchUser { name: "x".to_owned() });
    assert_eq!(directory.user_remove(TENANT, "x").await.map(drop), no_user);
    assert_eq!(directory.user_set_password(TENANT, "x", &some_hash()).await, no_user);
    assert_eq!(directory.user_set_enabled(TENANT, "x", false).await, no_user);
    assert_eq!(directory.user_set_roles(TENANT, "x", &[]).await, no_user);
    let no_tenant = directory.user_add(TenantId(77), user("a", None)).await.unwrap_err();
    assert_eq!(no_tenant, StoreError::NoSuchTenant { tenant: "77".to_owned() });
    let no_tenant = directory.tenant_by_name("acme").await.unwrap_err();
    assert_eq!(no_tenant, StoreError::NoSuchTenant { tenant: "\"acme\"".to_owned() });
}

#[tokio::test]
async fn roles_and_enabled_can_be_changed() {
    let (_folder, directory) = directory().await;
    directory.user_add(TENANT, user("a", None)).await.unwrap();
    directory.user_set_roles(TENANT, "a", &["r".to_owned(), "s".to_owned()]).await.unwrap();
    directory.user_set_roles(TENANT, "a", &["s".to_owned(), "t".to_owned()]).await.unwrap();
    directory.user_set_enabled(TENANT, "a", false).await.unwrap();
    let found = directory.user_find(TENANT, "a").await.unwrap().unwrap().user;
    assert_eq!(found.roles, ["s".into(), "t".into()]);
    assert!(!found.enabled);
}

#[tokio::test]
async fn nothing_of_a_refused_change_remains() {
    let (_folder, directory) = directory().await;
    let generation = directory.generation().await.unwrap();
    let mut new = user("a", None);
    new.roles = vec!["good".to_owned(), "bad\n".to_owned()];
    let error = directory.user_add(TENANT, new).await.unwrap_err();
    let reason = NameError::Control { character: '\n', at: 3 };
    assert_eq!(error, StoreError::BadName { what: "role", name: "bad\n".to_owned(), reason });
    let mut new = user("a", None);
    new.roles = (0..65).map(|number| format!("r{number}")).collect();
    let error = directory.user_add(TENANT, new).await.unwrap_err();
    assert_eq!(error, StoreError::TooManyRoles { count: 65, max: 64 });
    assert_eq!(names(&directory, TENANT).await, [""; 0]);
    assert_eq!(directory.role_list(TENANT).await, Ok(vec![]));
    assert_eq!(directory.generation().await, Ok(generation));
}

#[tokio::test]
async fn every_change_is_noticed_by_others() {
    let (_folder, directory) = directory().await;
    let other = Directory::open(directory.path()).await.unwrap();
    let mut last = other.generation().await.unwrap();
    let mut check = async |what: &str| {
        let generation = other.generation().await.unwrap();
        assert!(generation > last, "{what}");
        last = generation;
    };
    directory.user_add(TENANT, user("a", None)).await.unwrap();
    check("user_add").await;
    directory.user_set_password(TENANT, "a", &some_hash()).await.unwrap();
    check("user_set_password").await;
    directory.user_set_enabled(TENANT, "a", false).await.unwrap();
    check("user_set_enabled").await;
    directory.user_set_roles(TENANT, "a", &["r".to_owned()]).await.unwrap();
    check("user_set_roles").await;
    directory.user_remove(TENANT, "a").await.unwrap();
    check("user_remove").await;
    directory.tenant_add("t").await.unwrap();
    check("tenant_add").await;
}

#[tokio::test]
async fn tenants_have_plain_names_and_numbers_of_their_own() {
    let (_folder, directory) = directory().await;
    let acme = directory.tenant_add("acme").await.unwrap();
    assert_ne!(acme, TENANT);
    assert_eq!(directory.tenant_by_name("acme").await, Ok(acme));
    let exists = Err(StoreError::TenantExists { name: "acme".to_owned() });
    assert_eq!(directory.tenant_add("acme").await, exists);
    for name in ["", "Acme", "a@b", "a/b", "-a", "ä"] {
        let error = directory.tenant_add(name).await.unwrap_err();
        assert!(matches!(error, StoreError::BadName { what: "tenant", .. }), "{name}: {error}");
    }
    let names: Vec<_> = directory.tenant_list().await.unwrap();
    let names: Vec<_> = names.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["acme", "default"]);
}

#[tokio::test]
async fn the_file_itself_keeps_tenants_apart() {
    let (_folder, directory) = directory().await;
    let other = directory.tenant_add("other").await.unwrap();
    let mut new = user("a", None);
    new.roles = vec!["r".to_owned()];
    directory.user_add(TENANT, new).await.unwrap();
    directory.user_add(other, user("b", None)).await.unwrap();
    let options = SqliteConnectOptions::new().filename(directory.path());
    let mut connection = options.connect().await.unwrap();
    for tenant in [TENANT, other] {
        let sql = "INSERT INTO principal_roles (principal_id, role_id, tenant_id) SELECT p.id, \
                   r.id, ?1 FROM principals p, roles r WHERE p.name = 'b' AND r.name = 'r'";
        let error = sqlx::query(sql).bind(tenant.0).execute(&mut connection).await.unwrap_err();
        assert!(error.as_database_error().unwrap().is_foreign_key_violation(), "{error}");
    }
}

#[tokio::test]
async fn a_plugin_is_recorded_replaced_switched_off_and_forgotten() {
    let (_folder, directory) = directory().await;
    let plugin = NewPlugin {
        name: "stamp".to_owned(),
        sha256: "0a".repeat(32),
        config: "{\"field\":\"at\"}".to_owned(),
        hooks: "[]".to_owned(),
        grants: "[\"clock\"]".to_owned(),
    };
    directory.plugin_put(TENANT, &plugin).await.unwrap();
    directory.plugin_set_enabled(TENANT, "stamp", false).await.unwrap();
    let newer = NewPlugin { sha256: "0b".repeat(32), ..plugin.clone() };
    directory.plugin_put(TENANT, &newer).await.unwrap();
    let rows = directory.plugin_list(TENANT).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].plugin, newer);
    assert!(!rows[0].enabled, "a new file does not switch it on");
    for bad in [
        NewPlugin { sha256: "0A".repeat(32), ..plugin.clone() },
        NewPlugin { config: "{".to_owned(), ..plugin.clone() },
        NewPlugin { grants: format!("\"{}\"", "x".repeat(1 << 20)), ..plugin },
    ] {
        let error = directory.plugin_put(TENANT, &bad).await.unwrap_err();
        assert!(matches!(error, StoreError::BadPlugin { .. }), "{error}");
    }
    directory.plugin_remove(TENANT, "stamp").await.unwrap();
    let gone = Err(StoreError::NoSuchPlugin { name: "stamp".to_owned() });
    assert_eq!(directory.plugin_remove(TENANT, "stamp").await, gone);
    assert_eq!(directory.plugin_set_enabled(TENANT, "stamp", true).await, gone);
}

#[test]
fn any_possible_name_comes_back_unchanged_and_any_other_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_folder, directory) = runtime.block_on(directory());
    let possible_names = prop_oneof![any::<String>(), "\\PC{1,40}", "[a-zäß+#/$%'\"\\\\ ]{1,20}"];
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() };
    proptest!(config, |(name in possible_names)| {
        runtime.block_on(async {
            let added = directory.user_add(TENANT, user(&name, None)).await;
            if wasmqtt_store::check_name(&name).is_ok() {
                prop_assert_eq!(added, Ok(()));
                let found = directory.user_find(TENANT, &name).await.unwrap().unwrap();
                prop_assert_eq!(&found.user.name, &name);
                prop_assert_eq!(names(&directory, TENANT).await, [name.clone()]);
                directory.user_remove(TENANT, &name).await.unwrap();
            } else {
                let is_bad_name = matches!(added, Err(StoreError::BadName { what: "user", .. }));
                prop_assert!(is_bad_name);
            }
            Ok(())
        })?;
    });
}
