//! `wasmqtt create`: a broker's directory that is ready to run, and the next commands to try.
//! What must not live here: where the files are (`instance`), what is in broker.toml (`config`).

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::Serialize;
use wasmqtt_core::access::{Actions, Effect, Subject};
use wasmqtt_core::ids::TenantId;
use wasmqtt_store::{
    Directory, HashPool, NewRule, NewUser, PrincipalKind, generate_password, limits,
};

use crate::cli::failure::Failure;
use crate::cli::output::{json, say};
use crate::config::listener::DEFAULT_ADDRESS;
use crate::config::template;
use crate::instance::{Instance, Layout, write_private};

const ADMIN: &str = "admin";
const DEMO: &str = "demo";

/// What is printed once and kept nowhere.
#[derive(Serialize)]
struct Created<'a> {
    directory: &'a Path,
    users: [CreatedUser; 2],
}

#[derive(Serialize)]
struct CreatedUser {
    name: &'static str,
    kind: &'static str,
    password: String,
}

/// `create DIR`
pub(crate) async fn create(directory: &Path, as_json: bool) -> Result<(), Failure> {
    let bind = DEFAULT_ADDRESS;
    let _instance = make(directory, bind, Next::Start, as_json).await?;
    Ok(())
}

/// What the operator does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Starts the broker.
    Start,
    /// Nothing: it starts by itself.
    Try,
}

/// Makes the directory and says what is in it; `bind` is where the broker will listen.
pub(crate) async fn make(
    directory: &Path,
    bind: SocketAddr,
    next: Next,
    as_json: bool,
) -> Result<Instance, Failure> {
    let passwords = [generate_password()?, generate_password()?];
    let (instance, ()) = Instance::create(directory, |staging| fill(staging, &passwords))
        .await
        .map_err(Failure::from_start)?;
    let [admin, demo] = passwords;
    if as_json {
        let user = |name, kind, password| CreatedUser { name, kind, password };
        let users = [user(ADMIN, "admin", admin), user(DEMO, "device", demo)];
        json(&Created { directory, users })?;
    } else {
        say(welcome(directory, bind, next, &admin, &demo))?;
    }
    Ok(instance)
}

async fn fill(layout: Layout, passwords: &[String; 2]) -> anyhow::Result<()> {
    let [admin, demo] = passwords;
    let pool = HashPool::new(1, limits::HASH_QUEUE_MAX)?;
    let tenant = TenantId::DEFAULT;
    let directory = Directory::create(&layout.directory_db()).await?;
    let users = [
        (ADMIN, PrincipalKind::Admin, vec![ADMIN.to_owned()], admin),
        (DEMO, PrincipalKind::Device, Vec::new(), demo),
    ];
    for (name, kind, roles, password) in users {
        let password = Some(pool.hash(password.as_bytes()).await?);
        directory
            .user_add(tenant, NewUser { name: name.to_owned(), kind, roles, password })
            .await?;
    }
    let everything = NewRule {
        effect: Effect::Allow,
        actions: Actions::ALL,
        pattern: "#".to_owned(),
        subject: Subject::Role(ADMIN.into()),
    };
    directory.rule_add(tenant, everything).await?;
    directory.close().await;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let mut text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    write_private(&layout.secret_key(), text.as_bytes())?;
    write_private(&layout.broker_toml(), template::broker_toml(DEFAULT_ADDRESS).as_bytes())?;
    Ok(())
}

fn welcome(directory: &Path, bind: SocketAddr, next: Next, admin: &str, demo: &str) -> String {
    let shown = shell_word(&directory.display().to_string());
    let program = shell_word(&program(std::env::args_os().next()));
    let publish = format!("{program} pub{} -q 1 -i {DEMO} -u {DEMO} -P {demo}", place(bind));
    let start = match next {
        Next::Start => {
            format!("Start it:\n  {program} run {shown}\n\nThen try it from another terminal:")
        }
        Next::Try => "Try it from another terminal:".to_owned(),
    };
    format!(
        "\
Created {shown} with broker.toml, directory.db and secret.key.

  user    {ADMIN}   password {admin}
          may publish and subscribe to everything
  device  {DEMO}    password {demo}
          may publish below devices/CLIENT-ID/ and subscribe below commands/CLIENT-ID/

The passwords are shown this once. Set another: {program} -C {shown} user passwd {DEMO}

{start}
  {publish} -t devices/{DEMO}/temperature -m 21.5
      # allowed by the plugin own-topics: client {DEMO} publishes below its own devices/{DEMO}/
  {publish} -t devices/other/temperature -m 21.5
      # refused as not authorized: no rule allows it, and own-topics keeps {DEMO} out of others'
  {program} -C {shown} acl check {DEMO} {DEMO} publish devices/other/temperature
      # who decides that, and why
"
    )
}

/// The program as it was called, where that was by its path: the commands can be pasted.
fn program(called: Option<OsString>) -> String {
    let called = called.and_then(|name| name.into_string().ok());
    called.filter(|name| name.contains('/')).unwrap_or_else(|| "wasmqtt".to_owned())
}

/// Where a client on this machine finds that address, as options of `pub`.
fn place(bind: SocketAddr) -> String {
    let ip = bind.ip();
    let host = if ip.is_unspecified() || ip == IpAddr::from([127, 0, 0, 1]) {
        String::new()
    } else {
        format!(" -h {ip}")
    };
    let port = match bind.port() {
        1883 => String::new(),
        0 => " -p PORT".to_owned(),
        port => format!(" -p {port}"),
    };
    host + &port
}

/// As one word of a shell.
fn shell_word(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "/._-+:@%".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{place, program, shell_word};

    #[test]
    fn the_program_is_shown_as_it_was_called() {
        assert_eq!(program(Some("./target/release/wasmqtt".into())), "./target/release/wasmqtt");
        assert_eq!(program(Some("wasmqtt".into())), "wasmqtt");
        assert_eq!(program(None), "wasmqtt");
    }

    #[test]
    fn a_client_is_told_only_what_differs_from_its_defaults() {
        let check = |bind: &str, options| assert_eq!(place(bind.parse().unwrap()), options);
        check("127.0.0.1:1883", "");
        check("0.0.0.0:2883", " -p 2883");
        check("192.0.2.1:1883", " -h 192.0.2.1");
        check("127.0.0.1:0", " -p PORT");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(shell_word("/srv/mq.d"), "/srv/mq.d");
        assert_eq!(shell_word("it's here"), r"'it'\''s here'");
    }
}
