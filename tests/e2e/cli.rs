//! The commands of `wasmqtt`: what they print, what they answer, what they leave.
//! What must not live here: what a connected client sees of it (`access`), refusals at start (`startup`).

use std::process::Command;

use crate::support::broker::is_foreign;
use crate::support::instance::{component, run};
use crate::support::{Case, Instance, Version};

/// Every command, on the files alone and through the running broker.
fn offline_and_online(case: impl Fn(&Instance)) {
    if is_foreign() {
        return;
    }
    case(&Instance::create());
    let instance = Instance::create();
    let _broker = instance.run(&[]);
    case(&instance);
}

#[test]
fn create_prints_passwords_that_work_and_three_commands_to_go_on_with() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ran = run(&["create", "here"], directory.path(), "");
    assert_eq!(ran.code, 0, "{ran:?}");
    for word in ["admin", "demo", "wasmqtt pub"] {
        assert!(ran.stdout.contains(word), "{word:?} in:\n{}", ran.stdout);
    }
    for file in ["broker.toml", "directory.db"] {
        assert!(directory.path().join("here").join(file).exists(), "{file}");
    }
    let again = run(&["create", "here"], directory.path(), "");
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("here"), "{again:?}");
}

#[test]
fn files_of_an_instance_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    let _broker = instance.run(&[]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    let closed = mode(&instance.path()) & 0o077 == 0;
    for entry in std::fs::read_dir(instance.path()).unwrap() {
        let path = entry.unwrap().path();
        let private =
            path.extension().is_some_and(|end| ["db", "sock", "key"].iter().any(|e| end == *e));
        let others = mode(&path) & 0o077;
        assert!(closed || !private || others == 0, "{} is {others:o} to others", path.display());
    }
}

#[test]
fn users_are_added_listed_and_removed() {
    offline_and_online(|instance| {
        instance.user_with("carol", &["--role", "operator", "--kind", "user"]);
        let list = instance.cli(&["user", "list"]);
        for word in ["carol", "operator", "demo", "admin"] {
            assert!(list.contains(word), "{word:?} in:\n{list}");
        }
        let json = instance.json(&["user", "list"]).to_string();
        assert!(json.contains("\"carol\""), "{json}");
        assert!(!json.contains("argon2"), "no hashes: {json}");
        let again = instance.try_cli(&["user", "add", "carol", "--password-stdin"], "x\n");
        assert_eq!(again.code, 1, "{again:?}");
        assert!(again.stderr.contains("carol"), "{again:?}");
        instance.cli(&["user", "rm", "carol"]);
        assert!(!instance.cli(&["user", "list"]).contains("carol"));
        for gone in [&["user", "rm", "carol"][..], &["user", "passwd", "carol", "--password-stdin"]]
        {
            let ran = instance.try_cli(gone, "x\n");
            assert_eq!(ran.code, 1, "{ran:?}");
        }
    });
}

#[test]
fn an_empty_password_is_refused() {
    offline_and_online(|instance| {
        for stdin in ["", "\n"] {
            let ran = instance.try_cli(&["user", "add", "carol", "--password-stdin"], stdin);
            assert_ne!(ran.code, 0, "{ran:?}");
        }
        assert!(!instance.cli(&["user", "list"]).contains("carol"));
    });
}

#[test]
fn rules_are_added_listed_and_removed() {
    offline_and_online(|instance| {
        instance.acl("allow publish shop/${username}/# --to role:shop");
        instance.acl("deny all shop/secret --to all");
        let list = instance.cli(&["acl", "list"]);
        for word in ["shop/${username}/#", "role:shop", "shop/secret", "deny"] {
            assert!(list.contains(word), "{word:?} in:\n{list}");
        }
        let json = instance.json(&["acl", "list"]);
        let rules = json.as_array().or_else(|| json.get("rules")?.as_array()).expect("a list");
        let rule = rules.iter().find(|rule| rule.to_string().contains("shop/secret")).unwrap();
        let id = rule["id"].to_string();
        instance.cli(&["acl", "rm", &id]);
        assert!(!instance.cli(&["acl", "list"]).contains("shop/secret"));
        assert_eq!(instance.try_cli(&["acl", "rm", &id], "").code, 1);
    });
}

#[test]
fn patterns_that_cannot_be_are_refused_with_what_is_allowed() {
    offline_and_online(|instance| {
        for pattern in ["a/#/b", "a+", "", "${user}/x", "x${clientid}/y", "${clientid", "a/${}"] {
            let arguments = ["acl", "allow", "publish", pattern, "--to", "all"];
            let ran = instance.try_cli(&arguments, "");
            assert!([1, 2].contains(&ran.code), "{pattern:?}: {ran:?}");
            assert!(!ran.stderr.trim().is_empty(), "{pattern:?}: {ran:?}");
        }
        for who in ["alice", "user:", "role:", "group:x", ""] {
            let ran = instance.try_cli(&["acl", "allow", "publish", "a", "--to", who], "");
            assert!([1, 2].contains(&ran.code), "{who:?}: {ran:?}");
        }
    });
}

#[test]
fn acl_check_answers_by_exit_code_and_names_what_decides() {
    offline_and_online(|instance| {
        instance.user("carol");
        instance.acl("allow publish shop/${clientid}/# --to user:carol");
        instance.acl("deny publish shop/+/secret --to all");
        let check = |client: &str, action: &str, topic: &str| {
            instance.try_cli(&["acl", "check", "carol", client, action, topic], "")
        };
        let allowed = check("till", "publish", "shop/till/x");
        assert_eq!(allowed.code, 0, "{allowed:?}");
        assert!(allowed.stdout.contains("shop/${clientid}/#"), "{allowed:?}");
        let denied = check("till", "publish", "shop/till/secret");
        assert_eq!(denied.code, 1, "{denied:?}");
        assert!(denied.stdout.contains("shop/+/secret"), "{denied:?}");
        assert_eq!(check("till", "publish", "shop/other/x").code, 1);
        assert_eq!(check("till", "subscribe", "shop/till/#").code, 1);
    });
}

#[test]
fn status_tells_of_a_running_broker_and_of_one_that_is_not() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    let ran = instance.try_cli(&["status"], "");
    assert!(!(ran.stdout.clone() + &ran.stderr).trim().is_empty(), "{ran:?}");
    let broker = instance.run(&["auth.order=[\"anonymous\"]"]);
    let case = Case::new(&broker, Version::V5);
    let _client = case.client("a");
    let text = instance.cli(&["status"]);
    assert!(text.contains(&broker.address.port().to_string()), "{text}");
    assert!(instance.json(&["status"]).is_object());
}

#[test]
fn plugins_are_listed_and_checked() {
    offline_and_online(|instance| {
        assert!(instance.cli(&["plugin", "list"]).contains("own-topics"));
        instance.json(&["plugin", "list"]);
        let good = instance.cli(&["plugin", "check", &component("fixtures/minimal/minimal.wasm")]);
        assert!(good.contains("minimal") && good.contains("authorize"), "{good}");
        for bad in ["not-wasm", "no-manifest", "missing-export", "wrong-abi", "core-module"] {
            let file = component(&format!("fixtures/minimal/{bad}.wasm"));
            let ran = instance.try_cli(&["plugin", "check", &file], "");
            assert!([1, 2].contains(&ran.code), "{bad}: {ran:?}");
            assert!(ran.stderr.contains(bad), "{bad}: {ran:?}");
        }
    });
}

#[test]
fn passwords_are_never_taken_from_arguments() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    let ran = instance.try_cli(&["user", "add", "carol", "--password", "secret"], "");
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = instance.try_cli(&["user", "add", "carol", "secret"], "");
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn help_and_version_are_answered_everywhere() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for words in ["--help", "--version", "run --help", "acl allow --help", "user add --help"] {
        let words: Vec<&str> = words.split(' ').collect();
        let ran = run(&words, directory.path(), "");
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        assert!(ran.stdout.contains("wasmqtt"), "{words:?}: {ran:?}");
    }
}

#[test]
fn what_the_log_shows_holds_no_password_and_no_payload() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    instance.user("carol");
    instance.acl("allow all # --to user:carol");
    let broker = instance.run(&["log.level=\"trace\"", "access.order=[\"rules\"]"]);
    crate::support::each(&broker, |case| {
        let connect = case.connect("a").login("carol", "carol-password");
        let mut client = case.open(&connect);
        client.subscribe("t", 2);
        client.publish("t", "payload-of-carol", 2);
        client.message();
        let wrong = case.connect("b").login("carol", "wrong-password");
        assert_ne!(case.try_open(&wrong).1.code, 0);
    });
    let log = broker.log();
    for secret in ["carol-password", "wrong-password", "payload-of-carol"] {
        assert!(!log.contains(secret), "{secret:?} in:\n{log}");
    }
}

#[test]
fn a_broken_pipe_is_no_panic() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    let line = format!(
        "'{}' -C '{}' user list | head -c 1 >/dev/null; '{0}' --help | true",
        crate::support::broker::binary(),
        instance.path().display()
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
}
