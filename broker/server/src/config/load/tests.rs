//! What an operator sees of a configuration with a mistake, letter by letter.
//! What must not live here: plugins' files, which are loaded later (`plan`).

use std::path::Path;

use super::{load, parse};
use crate::config::listener::{Transport, WebSocket};
use crate::config::{AccessStep, AuthStep, Config, LogLevel, OnFault, PluginSource, template};

mod listeners;
mod shared;

#[track_caller]
fn read(text: &str, overrides: &[&str]) -> Result<super::Loaded, String> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    parse("broker.toml", text.to_owned(), &overrides, Path::new("dir"))
        .map_err(|problems| problems.render(false))
}

/// The text without its first line break and the trailing spaces that editors take away.
fn trimmed(text: &str) -> String {
    let lines = text.strip_prefix('\n').unwrap_or(text).lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let shown = read(text, &[]).expect_err("a mistake");
    assert_eq!(trimmed(&shown), trimmed(expected), "\n{shown}");
}

#[track_caller]
fn override_refused(setting: &str, expected: &str) {
    let shown = read("", &[setting]).expect_err("a mistake");
    assert_eq!(trimmed(&shown), trimmed(expected), "\n{shown}");
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(read("", &[]).unwrap().config, Config::default());
}

#[test]
fn the_created_file_says_what_the_defaults_say_and_has_own_topics_enforce() {
    let loaded = read(&template::broker_toml("127.0.0.1:1883".parse().unwrap()), &[]).unwrap();
    assert!(loaded.warnings.is_empty());
    let config = loaded.config;
    assert_eq!(config.access_order, [AccessStep::Rules, AccessStep::Plugin("own-topics".into())]);
    let plain =
        Config { access_order: vec![AccessStep::Rules], plugins: Default::default(), ..config };
    assert_eq!(plain, Config::default());
}

#[test]
fn each_default_in_the_created_file_is_the_default() {
    let text = template::broker_toml("127.0.0.1:1883".parse().unwrap());
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| {
            let inner = line.strip_prefix("# ").unwrap_or(line);
            let is_setting = inner.starts_with('[')
                || inner.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            if is_setting { inner } else { line }
        })
        .collect();
    let mut loaded = read(&uncommented.join("\n"), &[]).unwrap();
    // What is no default but an example.
    let local = loaded.config.listeners.remove("local").unwrap();
    assert_eq!(local.bind.to_string(), "unix:dir/mqtt.sock");
    let mqtt = loaded.config.listeners.get_mut("mqtt").unwrap();
    assert_eq!(mqtt.connections_per_address_max.take(), Some(100));
    assert_eq!(mqtt.connect_rate_max.take(), Some(1000));
    assert_eq!(mqtt.connect_timeout_seconds.take(), Some(10));
    assert_eq!(std::mem::take(&mut mqtt.trusted_proxies).len(), 1);
    let example = loaded.config.listeners.remove("mqtts").unwrap();
    assert!(example.tls.is_some_and(|tls| tls.clients.is_some_and(|one| one.revoked.is_some())));
    let plain = Config {
        access_order: vec![AccessStep::Rules],
        plugins: Default::default(),
        ..loaded.config
    };
    assert_eq!(plain, Config::default());
}

#[test]
fn a_listener_for_websocket_has_a_path_and_origins() {
    let text = r#"
        [listeners.plain]
        bind = "127.0.0.1:0"
        transport = "ws"
        [listeners.narrow]
        bind = "127.0.0.1:0"
        transport = "ws"
        path = "/broker/mqtt"
        origins = ["https://app.example", "http://localhost:3000"]
    "#;
    let listeners = read(text, &[]).unwrap().config.listeners;
    let web_socket = |name: &str| match &listeners[name].transport {
        Transport::WebSocket(web_socket) => (**web_socket).clone(),
        Transport::Tcp => panic!("{name} is no WebSocket"),
    };
    assert_eq!(web_socket("plain"), WebSocket { path: "/mqtt".into(), origins: None });
    let origins = ["https://app.example", "http://localhost:3000"].map(str::to_owned);
    let narrow = WebSocket { path: "/broker/mqtt".into(), origins: Some(origins.into()) };
    assert_eq!(web_socket("narrow"), narrow);
}

#[test]
fn what_only_websocket_has_is_refused_elsewhere() {
    refused(
        "[listeners.web]\npath = \"/mqtt\"\n",
        r#"
  × `path` of listener `web` has no meaning here
   ╭─[broker.toml:2:1]
 1 │ [listeners.web]
 2 │ path = "/mqtt"
   · ──┬─
   ·   ╰── only for WebSocket
   ╰────
  help: add `transport = "ws"`, or remove `path`
"#,
    );
}

#[test]
fn a_path_and_origins_are_written_as_browsers_send_them() {
    let web = "[listeners.web]\ntransport = \"ws\"\n";
    refused(
        &format!("{web}path = \"mqtt\"\n"),
        r#"
  × `listeners.web.path` is not usable: it must begin with a slash
   ╭─[broker.toml:3:8]
 2 │ transport = "ws"
 3 │ path = "mqtt"
   ·        ───┬──
   ·           ╰── this value
   ╰────
  help: write it like "/mqtt"
"#,
    );
    refused(
        &format!("{web}origins = [\"https://app.example/\"]\n"),
        r#"
  × "https://app.example/" is not an origin
   ╭─[broker.toml:3:12]
 2 │ transport = "ws"
 3 │ origins = ["https://app.example/"]
   ·            ───────────┬──────────
   ·                       ╰── this origin
   ╰────
  help: write it as browsers do: "https://app.example", with a port if it is not the scheme's,
        without a path or a slash at the end
"#,
    );
}

#[test]
fn a_full_file_is_read() {
    let text = r#"
        [listeners.lan]
        bind = "[::1]:0"
        connections_max = 10
        [auth]
        order = ["plugin:token-auth", "password", "anonymous"]
        exchange = ["plugin:mine"]
        [publish]
        order = ["plugin:json-stamp", "plugin:mine"]
        [plugins.token-auth]
        bundled = true
        config = { key = "k", nested = { list = [1, 2.5, true] } }
        [plugins.json-stamp]
        bundled = true
        on_fault = "pass"
        [plugins.mine]
        file = "plugins/mine.wasm"
        topics = ["a/+", "b/#"]
        [workers]
        count = 3
    "#;
    let config = read(text, &["log.level=debug"]).unwrap().config;
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners["lan"].bind.to_string(), "[::1]:0");
    assert_eq!(
        config.auth_order,
        [AuthStep::Plugin("token-auth".into()), AuthStep::Password, AuthStep::Anonymous]
    );
    assert_eq!(config.auth_exchange, ["mine".into()]);
    assert_eq!(config.publish_order, ["json-stamp".into(), "mine".into()]);
    assert_eq!(
        serde_json::Value::from(config.plugins["token-auth"].config.clone()),
        serde_json::json!({ "key": "k", "nested": { "list": [1, 2.5, true] } })
    );
    assert_eq!(config.plugins["json-stamp"].on_fault, OnFault::Pass);
    let mine = &config.plugins["mine"];
    assert_eq!(mine.source, PluginSource::File("dir/plugins/mine.wasm".into()));
    let topics = mine.topics.as_ref().unwrap();
    assert_eq!(topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>(), ["a/+", "b/#"]);
    assert_eq!((config.workers.get(), config.log.level), (3, LogLevel::Debug));
}

#[test]
fn an_override_is_a_toml_value_or_the_text_itself() {
    let settings = [
        "listeners.mqtt.bind=127.0.0.1:2883",
        "limits.queue_messages_max=7",
        "auth.order=[\"anonymous\"]",
        "log.format=\"json\"",
        "plugins.x.file=a b.wasm",
        "plugins.x.config={ key = \"a=b\" }",
        "plugins.x.config.more.deep=1",
    ];
    let config = read("[listeners]\nmqtt.connections_max = 5", &settings).unwrap().config;
    assert_eq!(config.listeners["mqtt"].bind.to_string(), "127.0.0.1:2883");
    assert_eq!(config.listeners["mqtt"].connections_max, 5);
    assert_eq!(config.limits.queue_messages_max, 7);
    assert_eq!(config.auth_order, [AuthStep::Anonymous]);
    assert_eq!(config.plugins["x"].source, PluginSource::File("dir/a b.wasm".into()));
    assert_eq!(
        serde_json::Value::from(config.plugins["x"].config.clone()),
        serde_json::json!({ "key": "a=b", "more": { "deep": 1 } })
    );
}

#[test]
fn a_plugin_that_no_order_names_is_a_warning() {
    let loaded = read("[plugins.own-topics]\nbundled = true", &[]).unwrap();
    let shown: String =
        loaded.warnings.iter().map(|one| one.render(&loaded.sources, false)).collect();
    assert_eq!(
        trimmed(&shown),
        trimmed(
            r#"
  ⚠ plugin `own-topics` is not in any order: it is never called
   ╭─[broker.toml:1:10]
 1 │ [plugins.own-topics]
   ·          ─────┬────
   ·               ╰── this plugin
 2 │ bundled = true
   ╰────
  help: add "plugin:own-topics" to `auth.order`, `auth.exchange`, `access.order` or
        `publish.order`
"#
        )
    );
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    refused(
        "[listeners.mqtt]\nbnd = \"127.0.0.1:1883\"\n",
        r#"
  × unknown key `bnd` in [listeners.mqtt]
   ╭─[broker.toml:2:1]
 1 │ [listeners.mqtt]
 2 │ bnd = "127.0.0.1:1883"
   · ─┬─
   ·  ╰── not a known key
   ╰────
  help: did you mean `bind`? known keys: bind, connect_rate_max, connect_timeout_seconds,
        connections_max, connections_per_address_max, origins, path, tls, transport,
        trusted_proxies, unix_mode
"#,
    );
}

#[test]
fn an_unknown_section_is_refused_with_a_suggestion() {
    refused(
        "[acces]\norder = []\n",
        r#"
  × unknown key `acces`
   ╭─[broker.toml:1:2]
 1 │ [acces]
   ·  ──┬──
   ·    ╰── not a known key
 2 │ order = []
   ╰────
  help: did you mean `access`? known keys: access, auth, auto_subscribe, limits, listeners, log,
        plugins, publish, rewrite, shared, topics, workers
"#,
    );
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    refused(
        "[listeners.mqtt\nbind = 1",
        r#"
  × not valid TOML: unclosed table, expected `]`
   ╭─[broker.toml:1:16]
 1 │ [listeners.mqtt
   ·                ▲
   ·                ╰── here
 2 │ bind = 1
   ╰────
  help: text values stand in quotes: bind = "127.0.0.1:1883"
"#,
    );
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    refused(
        "[limits]\npacket_bytes_max = \"many\"",
        r#"
  × `limits.packet_bytes_max` must be a whole number, found a string
   ╭─[broker.toml:2:20]
 1 │ [limits]
 2 │ packet_bytes_max = "many"
   ·                    ───┬──
   ·                       ╰── this value
   ╰────
"#,
    );
}

#[test]
fn a_number_out_of_range_is_refused_with_the_range() {
    refused(
        "[limits]\nreceive_maximum = 0",
        r#"
  × `limits.receive_maximum` is out of range
   ╭─[broker.toml:2:19]
 1 │ [limits]
 2 │ receive_maximum = 0
   ·                   ┬
   ·                   ╰── this number
   ╰────
  help: it can be 1 to 65535
"#,
    );
}

#[test]
fn a_port_out_of_range_is_refused() {
    refused(
        "[listeners.mqtt]\nbind = \"127.0.0.1:70000\"",
        r#"
  × `listeners.mqtt.bind` is not usable: the port `70000` is not a number from 0 to 65535
   ╭─[broker.toml:2:8]
 1 │ [listeners.mqtt]
 2 │ bind = "127.0.0.1:70000"
   ·        ────────┬────────
   ·                ╰── this value
   ╰────
  help: write it like "127.0.0.1:1883"
"#,
    );
}

#[test]
fn a_step_that_is_none_is_refused_with_a_suggestion() {
    refused(
        "[auth]\norder = [\"pasword\"]",
        r#"
  × `auth.order` knows no step "pasword"
   ╭─[broker.toml:2:10]
 1 │ [auth]
 2 │ order = ["pasword"]
   ·          ────┬────
   ·              ╰── not a known step
   ╰────
  help: did you mean `password`? known steps: anonymous, password, and plugins as "plugin:NAME"
"#,
    );
}

#[test]
fn a_plugin_without_a_section_is_refused_with_the_section_to_add() {
    refused(
        "[access]\norder = [\"rules\", \"plugin:own-topics\"]",
        r#"
  × plugin `own-topics` in `access.order` has no section
   ╭─[broker.toml:2:19]
 1 │ [access]
 2 │ order = ["rules", "plugin:own-topics"]
   ·                   ─────────┬─────────
   ·                            ╰── this plugin
   ╰────
  help: add a section:
        [plugins.own-topics]
        bundled = true
"#,
    );
}

#[test]
fn a_step_that_stands_twice_is_refused() {
    refused(
        "[access]\norder = [\"rules\", \"rules\"]",
        r#"
  × "rules" stands twice in `access.order`
   ╭─[broker.toml:2:19]
 1 │ [access]
 2 │ order = ["rules", "rules"]
   ·                   ───┬───
   ·                      ╰── the second one
   ╰────
"#,
    );
}

#[test]
fn a_plugin_has_exactly_one_source() {
    refused(
        "[publish]\norder = [\"plugin:a\"]\n[plugins.a]\nfile = \"a.wasm\"\nbundled = true",
        r#"
  × plugin `a` has two sources
   ╭─[broker.toml:4:8]
 3 │ [plugins.a]
 4 │ file = "a.wasm"
   ·        ────┬───
   ·            ╰── one of them
 5 │ bundled = true
   ╰────
  help: keep `file` or `bundled = true`, not both
"#,
    );
    refused(
        "[publish]\norder = [\"plugin:own-topic\"]\n[plugins.own-topic]\nbundled = true",
        r#"
  × no plugin `own-topic` is bundled
   ╭─[broker.toml:4:11]
 3 │ [plugins.own-topic]
 4 │ bundled = true
   ·           ──┬─
   ·             ╰── this plugin
   ╰────
  help: did you mean `own-topics`? bundled plugins: json-stamp, own-topics, token-auth
"#,
    );
}

#[test]
fn a_policy_for_on_publish_is_refused_elsewhere() {
    refused(
        "[access]\norder = [\"plugin:own-topics\"]\n\
         [plugins.own-topics]\nbundled = true\non_fault = \"pass\"",
        r#"
  × `on_fault` of plugin `own-topics` has no meaning here
   ╭─[broker.toml:5:12]
 4 │ bundled = true
 5 │ on_fault = "pass"
   ·            ───┬──
   ·               ╰── only for on-publish
   ╰────
  help: it is for plugins in `publish.order`; a fault in authentication or access always denies
"#,
    );
}

#[test]
fn a_filter_that_is_none_is_refused() {
    refused(
        "[publish]\norder = [\"plugin:a\"]\n[plugins.a]\nfile = \"a.wasm\"\ntopics = [\"a/#/b\"]",
        r#"
  × "a/#/b" is not a topic filter: level 2: `#` must be the last level
   ╭─[broker.toml:5:11]
 4 │ file = "a.wasm"
 5 │ topics = ["a/#/b"]
   ·           ───┬───
   ·              ╰── this filter
   ╰────
  help: write it like "devices/+/state" or "devices/#"
"#,
    );
}

#[test]
fn two_listeners_at_one_address_are_refused() {
    refused(
        "[listeners.a]\n[listeners.b]\n",
        r#"
  × listeners `a` and `b` both bind 127.0.0.1:1883
   ╭─[broker.toml:2:12]
 1 │ [listeners.a]
 2 │ [listeners.b]
   ·            ┬
   ·            ╰── this listener
   ╰────
  help: give one of them another `bind`
"#,
    );
}

#[test]
fn a_name_that_cannot_be_one_is_refused() {
    refused(
        "[listeners.\"My LAN\"]\n",
        r#"
  × `My LAN` can't be a name
   ╭─[broker.toml:1:12]
 1 │ [listeners."My LAN"]
   ·            ────┬───
   ·                ╰── this name
   ╰────
  help: names are 1 to 64 of a-z, 0-9, `-` and `_`, and start with a letter or digit
"#,
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let shown = read("[log]\nlevel = \"loud\"\nformat = 1\n[x]", &[]).unwrap_err();
    assert_eq!(shown.matches('×').count(), 3, "{shown}");
}

#[test]
fn an_override_with_a_mistake_is_shown_itself() {
    override_refused(
        "listeners.mqtt.bind=localhost:1883",
        r#"
  × `listeners.mqtt.bind` is not usable: `localhost` is not an IP address (127.0.0.1: this machine
  │ only, 0.0.0.0: all)
   ╭─[--set:1:21]
 1 │ listeners.mqtt.bind=localhost:1883
   ·                     ───────┬──────
   ·                            ╰── this value
   ╰────
  help: write it like "127.0.0.1:1883"
"#,
    );
    override_refused(
        "limit.packet_bytes_max=1",
        r#"
  × unknown key `limit`
   ╭─[--set:1:1]
 1 │ limit.packet_bytes_max=1
   · ──┬──
   ·   ╰── not a known key
   ╰────
  help: did you mean `limits`? known keys: access, auth, auto_subscribe, limits, listeners, log,
        plugins, publish, rewrite, shared, topics, workers
"#,
    );
    override_refused(
        "no-equals-sign",
        r#"
  × an override needs a key and a value
   ╭─[--set:1:1]
 1 │ no-equals-sign
   · ───────┬──────
   ·        ╰── no `=` here
   ╰────
  help: write --set listeners.mqtt.bind=127.0.0.1:2883
"#,
    );
}

#[test]
fn what_is_arranged_about_topics_is_read() {
    let text = r#"
        [topics]
        sys_interval_seconds = 0
        response_information = "responses/here"
        [[rewrite]]
        from = "old/+/data"
        to = "new/$1"
        [[rewrite]]
        from = "a"
        to = "b"
        on = ["subscribe"]
        [[auto_subscribe]]
        filter = "devices/${clientid}/commands"
        qos = 1
        no_local = true
        retain_handling = 2
    "#;
    let topics = read(text, &[]).unwrap().config.topics;
    assert_eq!(topics.sys_interval_seconds, 0);
    assert_eq!(topics.response_information.as_deref(), Some("responses/here"));
    let sides: Vec<_> = topics.rewrites.iter().map(|it| (it.publish, it.subscribe)).collect();
    assert_eq!(sides, [(true, true), (false, true)]);
    let [auto] = &topics.auto_subscribe[..] else { panic!("{topics:?}") };
    assert_eq!(auto.filter.as_str(), "devices/${clientid}/commands");
    assert_eq!((auto.qos as u8, auto.no_local, auto.retain_handling), (1, true, 2));
}

#[test]
fn mistakes_in_what_is_arranged_about_topics_are_shown_where_they_are() {
    refused(
        r#"
[[rewrite]]
from = "old/+"
to = "new/$2"
on = ["publsh"]
[[auto_subscribe]]
filter = "devices/${clientid}x"
[[auto_subscribe]]
qos = 3
"#,
        r#"
  × this rewrite is not usable: level 2 of `to`: `$1` to `$9` stand for the wildcards of `from`,
  │ as whole levels; it has 1
   ╭─[broker.toml:4:6]
 3 │ from = "old/+"
 4 │ to = "new/$2"
   ·      ────┬───
   ·          ╰── this value
 5 │ on = ["publsh"]
   ╰────
  help: write it like from = "old/+/data", to = "new/$1/data"

  × a rewrite can't be on "publsh"
   ╭─[broker.toml:5:7]
 4 │ to = "new/$2"
 5 │ on = ["publsh"]
   ·       ────┬───
   ·           ╰── not one of the choices
 6 │ [[auto_subscribe]]
   ╰────
  help: did you mean `publish`? choices: publish, subscribe

  × `auto_subscribe.filter` is not usable: level 2: only `${clientid}` and `${username}` are
  │ variables, each as a whole level
   ╭─[broker.toml:7:10]
 6 │ [[auto_subscribe]]
 7 │ filter = "devices/${clientid}x"
   ·          ───────────┬──────────
   ·                     ╰── this value
 8 │ [[auto_subscribe]]
   ╰────
  help: write it like "devices/${clientid}/commands"

  × this section needs `filter`
   ╭─[broker.toml:8:1]
 7 │ filter = "devices/${clientid}x"
 8 │ [[auto_subscribe]]
   · ─────────┬────────
   ·          ╰── this section
 9 │ qos = 3
   ╰────
  help: write it like filter = "devices/${clientid}/commands"

  × `auto_subscribe.qos` is out of range
   ╭─[broker.toml:9:7]
 8 │ [[auto_subscribe]]
 9 │ qos = 3
   ·       ┬
   ·       ╰── this number
   ╰────
  help: it can be 0 to 2
"#,
    );
    refused(
        "rewrite = 1",
        r#"
  × `rewrite` must be a list of tables: [[rewrite]], found a whole number
   ╭─[broker.toml:1:11]
 1 │ rewrite = 1
   ·           ┬
   ·           ╰── this value
   ╰────
"#,
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let shown = parent.path().display().to_string();
    let check = |path: &Path, expected: &str| {
        let text = load(path, &[]).unwrap_err().render(false);
        // Long paths are wrapped.
        let joined = text.replace("\n  │ ", " ").replace(&shown, "DIR");
        assert_eq!(joined.lines().next().unwrap(), expected);
    };
    check(&parent.path().join("none"), "  × there is no DIR/none");
    check(parent.path(), "  × DIR is a directory, not a file");
    std::fs::write(parent.path().join("bytes"), b"\xff\xfe").unwrap();
    check(&parent.path().join("bytes"), "  × DIR/bytes is not UTF-8 text");
}
