//! Who may connect, publish and subscribe on a created instance, and what the refused client sees.
//! What must not live here: plugins that misbehave (`plugin_faults`), the commands' own manners (`cli`).

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use crate::support::broker::is_foreign;
use crate::support::client::DEADLINE;
use crate::support::{
    Ack, Case, Client, Connack, Instance, Packet, Property, Publish, Subscribe, Version, Will, each,
};

/// Runs the case for both versions on an instance that `prepare` filled, with rules only.
#[track_caller]
fn with_rules(prepare: impl Fn(&Instance), case: impl Fn(&Case<'_>)) {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    prepare(&instance);
    each(&instance.run(&["access.order=[\"rules\"]"]), case);
}

/// Connects as that user, whose password is `NAME-password`, with the case's client id of `id`.
#[track_caller]
fn login(case: &Case<'_>, user: &str, id: &str) -> Client {
    case.open(&case.connect(id).login(user, &format!("{user}-password")))
}

fn refused(case: &Case<'_>, user: &str, password: &str) -> Connack {
    let (mut client, connack) = case.try_open(&case.connect("refused").login(user, password));
    if connack.code != 0 {
        assert_eq!(client.rest(), [], "[MQTT-3.2.2-7]");
    }
    connack
}

/// The code of a refused publish, as this version learns it.
fn denied(case: &Case<'_>) -> u8 {
    if case.version.is_v5() { 0x87 } else { 0 }
}

fn denied_filter(case: &Case<'_>) -> u8 {
    if case.version.is_v5() { 0x87 } else { 0x80 }
}

fn two_users(instance: &Instance) {
    for name in ["alice", "bob"] {
        instance.user(name);
    }
    instance.acl("allow all open/# --to all");
}

#[test]
fn the_right_password_connects_and_any_other_is_refused_alike() {
    with_rules(two_users, |case| {
        login(case, "alice", "a").assert_quiet();
        let wrong = if case.version.is_v5() { 0x86 } else { 4 };
        for (user, password) in [
            ("alice", "wrong"),
            ("alice", ""),
            ("alice", "alice-passwor"),
            ("alice", "alice-password\n"),
            ("alice", "bob-password"),
            ("Alice", "alice-password"),
            ("nobody", "nobody-password"),
            ("", ""),
        ] {
            let connack = refused(case, user, password);
            assert_eq!(connack.code, wrong, "{user:?} {password:?}");
            assert!(!connack.session_present);
        }
    });
}

#[test]
fn what_follows_a_refused_login_is_ignored_3_1_4_6_3_1_4_5() {
    with_rules(two_users, |case| {
        let mut watcher = login(case, "bob", "w");
        watcher.subscribe("open/#", 1);
        for password in ["wrong", "", "alice-password "] {
            let packets = [
                case.connect("a").login("alice", password).encode(),
                Publish::new("open/x", "unseen").qos(1, 1).retain().encode(case.version),
                Subscribe::new(2).filter("open/#", 1).encode(case.version),
            ];
            let mut client = case.dial();
            client.send(packets.concat());
            let code = if case.version.is_v5() { 0x86 } else { 4 };
            match client.rest().as_slice() {
                [Packet::Connack(connack)] => assert_eq!(connack.code, code),
                other => panic!("{other:?}"),
            }
        }
        login(case, "alice", "p").publish("open/y", "marker", 1);
        assert_eq!(watcher.texts(1), ["marker"]);
        let mut later = login(case, "bob", "later");
        later.subscribe("open/x", 1);
        later.assert_quiet();
    });
}

#[test]
fn without_credentials_nobody_connects() {
    with_rules(two_users, |case| {
        let codes: &[u8] = if case.version.is_v5() { &[0x86, 0x87] } else { &[4, 5] };
        let (mut client, connack) = case.try_open(&case.connect("a"));
        assert!(codes.contains(&connack.code), "{connack:?}");
        assert_eq!(client.rest(), []);
        let mut no_password = case.connect("a");
        no_password.username = Some(b"alice".to_vec());
        let (_, connack) = case.try_open(&no_password);
        assert!(codes.contains(&connack.code), "{connack:?}");
    });
}

#[test]
fn a_refused_client_does_not_disturb_the_one_that_is_connected() {
    with_rules(two_users, |case| {
        let mut living = login(case, "alice", "same");
        let wrong = case.connect("same").login("alice", "wrong");
        let (_, connack) = case.try_open(&wrong);
        assert_ne!(connack.code, 0);
        living.assert_quiet();
    });
}

#[test]
fn anonymous_clients_connect_when_the_order_says_so() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    two_users(&instance);
    let order = "auth.order=[\"password\", \"anonymous\"]";
    each(&instance.run(&[order, "access.order=[\"rules\"]"]), |case| {
        let mut anonymous = case.client("a");
        anonymous.subscribe("open/x", 1);
        anonymous.publish("open/x", "x", 1);
        assert_eq!(anonymous.texts(1), ["x"]);
        assert_ne!(refused(case, "alice", "wrong").code, 0, "a wrong password is not anonymous");
    });
}

#[test]
fn a_denied_publish_is_answered_and_neither_delivered_nor_retained_3_3_5_2() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow subscribe # --to user:bob");
    };
    with_rules(prepare, |case| {
        let mut watcher = login(case, "bob", "w");
        watcher.subscribe("closed/#", 2);
        watcher.subscribe("open/#", 1);
        let mut publisher = login(case, "alice", "p");
        for retain in [false, true] {
            for qos in 0..3 {
                let message = Publish { retain, ..Publish::new("closed/x", "secret").qos(qos, 0) };
                let expected = if qos == 0 { 0 } else { denied(case) };
                assert_eq!(publisher.publish_message(message), expected, "QoS {qos}");
            }
        }
        assert!([0, 0x10].contains(&publisher.publish("open/x", "marker", 1)));
        assert_eq!(watcher.texts(1), ["marker"]);
        let mut later = login(case, "bob", "later");
        later.subscribe("closed/#", 1);
        later.assert_quiet();
        publisher.assert_quiet();
    });
}

#[test]
fn a_publish_refused_by_pubrec_is_over_4_3_3_9() {
    with_rules(two_users, |case| {
        if !case.version.is_v5() {
            return;
        }
        let mut publisher = login(case, "alice", "p");
        let denied = Publish::new("closed/x", "x").qos(2, 7);
        assert_eq!(publisher.publish_message(denied), 0x87);
        publisher.send(Ack::Pubrel.encode(7));
        assert_eq!(publisher.expect_ack(Ack::Pubcomp, 7), 0x92);
        publisher.subscribe("open/x", 0);
        let allowed = Publish::new("open/x", "new").qos(2, 7);
        assert!(publisher.publish_message(allowed) < 0x80);
        assert_eq!(publisher.texts(1), ["new"]);
    });
}

#[test]
fn an_empty_retained_publish_without_the_right_deletes_nothing() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow all closed/# --to user:bob");
    };
    with_rules(prepare, |case| {
        let mut owner = login(case, "bob", "o");
        owner.publish_message(Publish::new("closed/t", "kept").qos(1, 0).retain());
        let mut other = login(case, "alice", "p");
        other.publish_message(Publish::new("closed/t", "").qos(1, 0).retain());
        owner.subscribe("closed/t", 1);
        assert_eq!(owner.texts(1), ["kept"]);
    });
}

#[test]
fn a_denied_filter_has_its_code_beside_granted_ones_3_9_3_1() {
    with_rules(two_users, |case| {
        let mut client = login(case, "alice", "a");
        let subscribe =
            Subscribe::new(9).filter("open/a", 1).filter("closed/a", 1).filter("open/b", 2);
        assert_eq!(client.suback(&subscribe, 9), [1, denied_filter(case), 2]);
        client.publish("open/b", "x", 1);
        assert_eq!(client.texts(1), ["x"]);
    });
}

#[test]
fn a_subscription_needs_one_rule_that_covers_all_of_it() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow subscribe a/+/c --to user:alice");
        instance.acl("allow subscribe b/x --to user:alice");
        instance.acl("allow subscribe b/y --to user:alice");
        instance.acl("allow subscribe deep/# --to user:alice");
        instance.acl("deny subscribe deep/secret/# --to user:alice");
    };
    with_rules(prepare, |case| {
        let mut client = login(case, "alice", "a");
        for (filter, granted) in [
            ("a/b/c", true),
            ("a/+/c", true),
            ("a/+/+", false),
            ("a/#", false),
            ("#", false),
            ("b/x", true),
            ("b/+", false),
            ("deep/a/b", true),
            ("deep/a/#", true),
            ("deep", true),
            ("deep/#", false),
            ("deep/+", false),
            ("deep/+/x", false),
            ("deep/secret", false),
            ("deep/secret/x", false),
            ("$share/g/deep/#", false),
            ("$share/g/a/#", false),
            ("$share/g/a/b/c", true),
            ("$share/g/deep/a/#", true),
        ] {
            let code = client.try_subscribe(filter, 1);
            let expected = if granted { 1 } else { denied_filter(case) };
            assert!(code == expected, "{filter}: {code:#04x}");
        }
    });
}

#[test]
fn a_deny_rule_beats_an_allow_rule_whichever_came_first() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow publish one/# --to user:alice");
        instance.acl("deny publish one/x --to all");
        instance.acl("deny publish two/x --to all");
        instance.acl("allow publish two/# --to user:alice");
    };
    with_rules(prepare, |case| {
        let mut client = login(case, "alice", "a");
        for topic in ["one/x", "two/x"] {
            assert_eq!(client.publish(topic, "x", 1), denied(case));
        }
        for topic in ["one/y", "two/y"] {
            assert!([0, 0x10].contains(&client.publish(topic, "x", 1)));
        }
    });
}

/// Whether a publish arrives at somebody who may see everything.
#[track_caller]
fn arrives(publisher: &mut Client, watcher: &mut Client, topic: &str) -> bool {
    publisher.publish(topic, topic, 1);
    publisher.publish("open/marker", "marker", 1);
    let first = watcher.message().text();
    if first == "marker" {
        return false;
    }
    assert_eq!((first.as_str(), watcher.message().text().as_str()), (topic, "marker"));
    true
}

#[test]
fn variables_stand_for_the_client_and_its_user() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow subscribe # --to user:bob");
        instance.acl("allow publish id/${clientid}/# --to all");
        instance.acl("allow publish name/${username}/# --to all");
    };
    with_rules(prepare, |case| {
        let mut watcher = login(case, "bob", "w");
        watcher.subscribe("#", 1);
        let mut client = login(case, "alice", "a");
        let own = case.client_id("a");
        for (topic, expected) in [
            (format!("id/{own}/x"), true),
            (format!("id/{own}"), true),
            (format!("id/{}/x", case.client_id("w")), false),
            ("id/${clientid}/x".to_owned(), false),
            ("name/alice/x".to_owned(), true),
            ("name/bob/x".to_owned(), false),
            ("name/ALICE/x".to_owned(), false),
        ] {
            assert_eq!(arrives(&mut client, &mut watcher, &topic), expected, "{topic}");
        }
    });
}

#[test]
fn a_client_named_like_a_wildcard_gains_nothing() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow all own/${clientid}/# --to all");
    };
    with_rules(prepare, |case| {
        for id in ["+", "#", "+/x", "a/b", "own/+"] {
            let connect = crate::support::Connect::new(case.version, id);
            let (mut client, connack) = case.try_open(&connect.login("alice", "alice-password"));
            if connack.code != 0 {
                continue;
            }
            for filter in ["own/+/x", "own/#", "own/+/#", "own/a/b/x", &format!("own/{id}/x")] {
                let id = client.packet_id();
                client.send(Subscribe::new(id).filter(filter, 0).encode(case.version));
                match client.receive_or_end() {
                    Some(Packet::Suback { codes, .. }) => assert!(codes[0] >= 0x80, "{filter}"),
                    // `own/#/x` is no filter at all.
                    Some(Packet::Disconnect { .. }) | None => break,
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn roles_carry_rules() {
    let prepare = |instance: &Instance| {
        instance.user_with("carol", &["--role", "operator", "--role", "reader"]);
        instance.user("dave");
        instance.acl("allow publish ops/# --to role:operator");
        instance.acl("allow subscribe ops/# --to role:reader");
    };
    with_rules(prepare, |case| {
        let mut carol = login(case, "carol", "c");
        carol.subscribe("ops/#", 1);
        carol.publish("ops/x", "x", 1);
        assert_eq!(carol.texts(1), ["x"]);
        let mut dave = login(case, "dave", "d");
        assert_eq!(dave.publish("ops/x", "x", 1), denied(case));
        assert_eq!(dave.try_subscribe("ops/x", 1), denied_filter(case));
    });
}

#[test]
fn a_will_that_is_not_allowed_is_never_published() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        instance.acl("allow subscribe # --to user:bob");
    };
    with_rules(prepare, |case| {
        let mut watcher = login(case, "bob", "w");
        watcher.subscribe("#", 1);
        let will = Will::new("closed/will", "gone").qos(1).retain();
        let connect = case.connect("a").login("alice", "alice-password").will(will);
        let (client, connack) = case.try_open(&connect);
        if connack.code == 0 {
            client.cut();
        } else {
            assert_eq!(connack.code, if case.version.is_v5() { 0x87 } else { 5 });
        }
        login(case, "alice", "p").publish("open/marker", "marker", 1);
        assert_eq!(watcher.texts(1), ["marker"]);
        let allowed = Will::new("open/will", "gone").qos(1);
        let connect = case.connect("b").login("alice", "alice-password").will(allowed);
        case.open(&connect).cut();
        assert_eq!(watcher.texts(1), ["gone"]);
    });
}

#[test]
fn changes_count_for_the_next_connection_of_a_running_broker() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    two_users(&instance);
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    each(&broker, |case| {
        let user = case.client_id("user");
        let password = format!("{user}-password");
        assert_ne!(refused(case, &user, &password).code, 0);
        instance.user(&user);
        let mut client = login(case, &user, "a");
        assert_eq!(client.publish("news/x", "x", 1), denied(case));
        instance.acl(&format!("allow publish news/# --to user:{user}"));
        let mut client = login(case, &user, "b");
        assert!([0, 0x10].contains(&client.publish("news/x", "x", 1)));
        instance.acl(&format!("deny publish news/x --to user:{user}"));
        let mut client = login(case, &user, "c");
        assert_eq!(client.publish("news/x", "x", 1), denied(case));
        instance.cli_with(&["user", "passwd", &user, "--password-stdin"], "another\n");
        assert_ne!(refused(case, &user, &password).code, 0, "the old password, cached or not");
        assert_eq!(refused(case, &user, "another").code, 0);
        instance.cli(&["user", "rm", &user]);
        assert_ne!(refused(case, &user, "another").code, 0);
    });
}

#[test]
fn what_was_sent_with_connect_counts_also_when_the_client_has_left_before_it_was_let_in() {
    with_rules(two_users, |case| {
        let topic = format!("open/{}", case.client_id("t"));
        let mut watcher = login(case, "alice", "w");
        watcher.subscribe(&topic, 1);
        for number in 0..5 {
            let id = format!("hasty{number}");
            let connect = case.connect(&id).login("bob", "bob-password").encode();
            let publish = Publish::new(&topic, &id).encode(case.version);
            let mut hasty = case.dial();
            hasty.send([connect, publish, vec![0xe0, 0]].concat());
        }
        let mut got = watcher.texts(5);
        got.sort();
        assert_eq!(got, ["hasty0", "hasty1", "hasty2", "hasty3", "hasty4"]);
    });
}

#[test]
fn a_change_is_in_force_also_when_whoever_asked_for_it_has_left() {
    use std::io::Write;
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    two_users(&instance);
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    let case = Case::new(&broker, Version::V5);
    let mut bob = login(&case, "bob", "b");
    let mut heard = 0;
    for number in 0..3000 {
        let topic = format!("open/{number}/x");
        let body = format!(
            r#"{{"effect":"deny","actions":"publish","pattern":"{topic}","to":"user:bob"}}"#
        );
        let head = "POST /v1/tenants/default/rules HTTP/1.1\r\nhost: x\r\ncontent-length:";
        let mut socket = UnixStream::connect(instance.path().join("admin.sock")).unwrap();
        write!(socket, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        // Each leaves a little later than the one before: at another step of the change.
        for _ in 0..number % 30 {
            bob.ping();
        }
        drop(socket);
        if instance.cli(&["acl", "list"]).contains(&topic) {
            heard += 1;
            // Listed a moment before it is in force.
            let begun = Instant::now();
            while bob.publish(&topic, "x", 1) != 0x87 {
                assert!(begun.elapsed() < DEADLINE, "{topic}: a rule denies it");
            }
        }
        if heard == 20 {
            return;
        }
    }
    panic!("{heard} requests were heard");
}

#[test]
fn a_user_that_is_removed_leaves_no_session_to_the_next_of_its_name() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    two_users(&instance);
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    each(&broker, |case| {
        let user = case.client_id("user");
        instance.user(&user);
        let password = format!("{user}-password");
        let persistent = |id: &str| case.connect(id).persistent().login(&user, &password);
        let mut away = case.open(&persistent("away"));
        away.subscribe("open/t", 1);
        away.cut();
        let mut here = case.open(&persistent("here"));
        here.subscribe("open/t", 1);
        instance.cli(&["user", "rm", &user]);
        here.expect_end(&[0x98]);
        instance.user(&user);
        assert_ne!(login(case, "alice", "p").publish("open/t", "x", 1) & 0x80, 0x80);
        for id in ["away", "here"] {
            let (mut client, connack) = case.try_open(&persistent(id));
            assert_eq!((connack.code, connack.session_present), (0, false), "{id}");
            client.assert_quiet();
        }
    });
}

#[test]
fn users_and_rules_are_there_after_a_restart() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    for round in 0..2 {
        let mut broker = instance.run(&["access.order=[\"rules\"]"]);
        if round == 0 {
            two_users(&instance);
        }
        each(&broker, |case| {
            let mut alice = login(case, "alice", "a");
            alice.subscribe("open/#", 1);
            alice.publish("open/x", "x", 1);
            assert_eq!(alice.texts(1), ["x"]);
        });
        broker.terminate();
        assert!(broker.stopped().success());
    }
}

#[test]
fn many_logins_at_once_all_succeed_and_a_connected_client_is_served_meanwhile() {
    let prepare = |instance: &Instance| {
        two_users(instance);
        for number in 0..8 {
            instance.user(&format!("storm{number}"));
        }
    };
    with_rules(prepare, |case| {
        let mut living = login(case, "alice", "living");
        thread::scope(|scope| {
            let storm: Vec<_> = (0..40)
                .map(|number| {
                    let (user, id) = (format!("storm{}", number % 8), format!("storm{number}"));
                    scope.spawn(move || drop(login(case, &user, &id)))
                })
                .collect();
            while storm.iter().any(|login| !login.is_finished()) {
                living.assert_quiet();
            }
        });
    });
}

#[test]
fn the_broker_that_create_makes_lets_a_device_use_its_own_topics_only() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    instance.user_with("device", &["--kind", "device"]);
    each(&instance.run(&[]), |case| {
        let mut device = login(case, "device", "d");
        let own = case.client_id("d");
        assert!([0, 0x10].contains(&device.publish(&format!("devices/{own}/state"), "x", 1)));
        assert_eq!(device.publish("devices/other/state", "x", 1), denied(case));
        assert_eq!(device.publish("elsewhere", "x", 2), denied(case));
        device.subscribe(&format!("commands/{own}/#"), 1);
        assert_eq!(device.try_subscribe("commands/other/#", 1), denied_filter(case));
        assert_eq!(device.try_subscribe("commands/+/x", 1), denied_filter(case));
        assert_eq!(device.try_subscribe("#", 1), denied_filter(case));
        device.assert_quiet();
    });
}

#[test]
fn a_refusal_says_why_only_to_clients_that_want_to_know_3_1_2_29() {
    with_rules(two_users, |case| {
        if !case.version.is_v5() {
            return;
        }
        let connect = case.connect("a").login("alice", "alice-password");
        let mut client = case.open(&connect.property(Property::RequestProblemInformation(0)));
        client.send(Publish::new("closed/x", "x").qos(1, 3).encode(case.version));
        match client.receive() {
            Packet::Ack { code: 0x87, properties, .. } => assert_eq!(properties, []),
            other => panic!("{other:?}"),
        }
        client.send(Subscribe::new(4).filter("closed/x", 1).encode(case.version));
        match client.receive() {
            Packet::Suback { codes, properties, .. } => {
                assert_eq!((codes, properties), (vec![0x87], vec![]));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_session_is_its_users_own_whoever_knows_its_client_identifier() {
    with_rules(two_users, |case| {
        let shared = |user: &str| {
            let connect = case.connect("shared").persistent();
            connect.login(user, &format!("{user}-password"))
        };
        let taken = if case.version.is_v5() { 0x87 } else { 5 };
        let mut alice = case.open(&shared("alice"));
        alice.subscribe("open/secret", 1);
        let (_bob, connack) = case.try_open(&shared("bob"));
        assert_eq!((connack.code, connack.session_present), (taken, false));
        alice.assert_quiet(); // still connected
        alice.disconnect();
        let (_bob, connack) = case.try_open(&shared("bob"));
        assert_eq!((connack.code, connack.session_present), (taken, false));
        let (_alice, connack) = case.open_with(&shared("alice"));
        assert!(connack.session_present);
    });
}

#[test]
fn a_rule_that_came_while_the_client_was_away_holds_for_its_session() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    two_users(&instance);
    each(&instance.run(&["access.order=[\"rules\"]"]), |case| {
        let own = case.client_id("away");
        let bob = case.connect("away").persistent().login("bob", "bob-password");
        let mut away = case.open(&bob);
        away.subscribe(&format!("open/{own}/#"), 1);
        away.subscribe(&format!("open/still/{own}"), 1);
        away.disconnect();
        let mut alice = login(case, "alice", "a");
        alice.publish(&format!("open/{own}/before"), "before", 1);
        instance.acl(&format!("deny subscribe open/{own}/# --to user:bob"));
        alice.publish(&format!("open/{own}/after"), "after", 1);
        alice.publish(&format!("open/still/{own}"), "still", 1);
        let (mut back, connack) = case.open_with(&bob);
        assert!(connack.session_present);
        assert_eq!(back.message().text(), "still");
        alice.publish(&format!("open/{own}/live"), "live", 1);
        back.assert_quiet();
    });
}
