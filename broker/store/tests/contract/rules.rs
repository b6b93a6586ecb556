//! Access rules as they are stored.
//! What must not live here: what they decide.

use wasmqtt_core::access::{Actions, Effect, RuleId, Subject};
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{NewRule, StoreError};

use crate::{directory, user};

const TENANT: TenantId = TenantId::DEFAULT;

fn rule(pattern: &str, subject: Subject) -> NewRule {
    let pattern = pattern.to_owned();
    NewRule { effect: Effect::Allow, actions: Actions::PUBLISH, pattern, subject }
}

#[tokio::test]
async fn rules_come_back_in_the_order_they_were_added() {
    let (_folder, directory) = directory().await;
    let rules = [
        rule("a/#", Subject::All),
        rule("u/${username}/+", Subject::User("anna".into())),
        NewRule { effect: Effect::Deny, ..rule("a/#", Subject::Role("writers".into())) },
        NewRule { actions: Actions::SUBSCRIBE, ..rule("a/#", Subject::All) },
    ];
    let mut ids = Vec::new();
    for rule in &rules {
        ids.push(directory.rule_add(TENANT, rule.clone()).await.unwrap());
    }
    let rows = directory.rule_list(TENANT).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    for (row, rule) in rows.into_iter().zip(rules) {
        let wasmqtt_store::RuleRow { effect, actions, pattern, subject, .. } = row;
        assert_eq!(NewRule { effect, actions, pattern, subject }, rule);
    }
    assert_eq!(directory.rule_set(TENANT).await.unwrap().len(), 4);
    assert_eq!(directory.role_list(TENANT).await.unwrap()[0].name, "writers");
}

#[tokio::test]
async fn the_same_rule_again_is_the_same_rule_and_no_change() {
    let (_folder, directory) = directory().await;
    let first = directory.rule_add(TENANT, rule("a", Subject::All)).await.unwrap();
    let generation = directory.generation().await.unwrap();
    assert_eq!(directory.rule_add(TENANT, rule("a", Subject::All)).await, Ok(first));
    assert_eq!(directory.generation().await, Ok(generation));
    let other = directory.tenant_add("other").await.unwrap();
    assert_ne!(directory.rule_add(other, rule("a", Subject::All)).await, Ok(first));
}

#[tokio::test]
async fn a_rule_is_removed_by_its_own_tenant_only_and_its_number_is_not_used_again() {
    let (_folder, directory) = directory().await;
    let other = directory.tenant_add("other").await.unwrap();
    let id = directory.rule_add(TENANT, rule("a", Subject::All)).await.unwrap();
    let no_rule = Err(StoreError::NoSuchRule { id: id.0 });
    assert_eq!(directory.rule_remove(other, id).await, no_rule);
    assert_eq!(directory.rule_remove(TENANT, id).await, Ok(()));
    assert_eq!(directory.rule_remove(TENANT, id).await, no_rule);
    assert_eq!(
        directory.rule_remove(TENANT, RuleId(-1)).await,
        Err(StoreError::NoSuchRule { id: -1 })
    );
    let next = directory.rule_add(TENANT, rule("b", Subject::All)).await.unwrap();
    assert_ne!(next, id);
}

#[tokio::test]
async fn a_rule_that_means_nothing_is_refused() {
    let (_folder, directory) = directory().await;
    for pattern in ["", "a/#/b", "a${username}", "${nonsense}"] {
        let error = directory.rule_add(TENANT, rule(pattern, Subject::All)).await.unwrap_err();
        assert!(matches!(error, StoreError::BadRule { .. }), "{pattern}: {error}");
    }
    let error = directory.rule_add(TENANT, rule("a", Subject::User("".into()))).await.unwrap_err();
    assert!(matches!(error, StoreError::BadName { what: "user", .. }), "{error}");
    let error =
        directory.rule_add(TENANT, rule("a", Subject::Role("\t".into()))).await.unwrap_err();
    assert!(matches!(error, StoreError::BadName { what: "role", .. }), "{error}");
    for subject in [Subject::All, Subject::Role("r".into())] {
        let error = directory.rule_add(TenantId(77), rule("a", subject)).await.unwrap_err();
        assert_eq!(error, StoreError::NoSuchTenant { tenant: "77".to_owned() });
    }
    assert_eq!(directory.rule_list(TENANT).await, Ok(vec![]));
}

#[tokio::test]
async fn removing_a_user_tells_how_many_rules_still_name_it() {
    let (_folder, directory) = directory().await;
    directory.user_add(TENANT, user("anna", None)).await.unwrap();
    for pattern in ["a", "b"] {
        let rule = rule(pattern, Subject::User("anna".into()));
        directory.rule_add(TENANT, rule).await.unwrap();
    }
    directory.rule_add(TENANT, rule("c", Subject::Role("anna".into()))).await.unwrap();
    assert_eq!(directory.user_remove(TENANT, "anna").await.unwrap().rules_left, 2);
    assert_eq!(directory.rule_list(TENANT).await.unwrap().len(), 3);
}
