//! The command line: every command, option and help text.
//! What must not live here: what a command does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) mod bench;
pub(crate) mod clients;

use bench::Bench;
use clients::{EXIT_CODES, PUB_EXAMPLES, Publish, SUB_EXAMPLES, Subscribe};

/// An MQTT broker whose authentication, access control and transforms are sandboxed WebAssembly
/// plugins.
#[derive(Debug, Parser)]
#[command(
    name = "wasmqtt",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done (and for `acl check`: allowed) · 1 refused or failed · 2 wrong usage, \
configuration or start-up · 27 `sub -W` waited in vain.\nTry it: wasmqtt run --dev"
)]
pub(crate) struct Arguments {
    /// The broker's directory, for every command but `create` and `run`
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Print JSON, where a command reads
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One of these.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a broker's directory: settings, users `admin` and `demo`, access rules
    Create(Create),
    /// Run a broker until SIGINT or SIGTERM
    Run(Run),
    /// What a running broker is doing
    Status,
    /// Have a running broker read its certificates anew, as SIGHUP does
    Reload,
    /// Users, devices and their passwords
    #[command(subcommand)]
    User(User),
    /// Access rules: who may publish and subscribe to what
    #[command(subcommand)]
    Acl(Acl),
    /// Plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Publish messages, as mosquitto_pub does
    #[command(disable_help_flag = true, after_help = format!("{PUB_EXAMPLES}\n{EXIT_CODES}"))]
    Pub(Box<Publish>),
    /// Subscribe and print what comes, as mosquitto_sub does
    #[command(disable_help_flag = true, after_help = format!("{SUB_EXAMPLES}\n{EXIT_CODES}"))]
    Sub(Box<Subscribe>),
    /// Load a server with clients and say what it did
    #[command(subcommand)]
    Bench(Box<Bench>),
}

/// `create DIR`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// A new or empty directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `run DIR` and `run --dev`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The broker's directory (or -C DIR)
    #[arg(value_name = "DIR", conflicts_with = "dev")]
    pub root: Option<PathBuf>,
    /// Make the directory first when it is not there
    #[arg(long, conflicts_with = "dev")]
    pub create: bool,
    /// Override one setting of broker.toml, as in listeners.mqtt.bind=127.0.0.1:2883
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A throw-away broker on loopback: no directory, no passwords, everything allowed
    #[arg(long)]
    pub dev: bool,
    /// With --dev: the port; 0 takes a free one
    #[arg(long, requires = "dev", conflicts_with = "root", default_value_t = 1883)]
    pub port: u16,
    /// With --dev: threads that serve connections [default: one a core]
    #[arg(long, requires = "dev", conflicts_with = "root", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// With --dev: a plugin to put in front, in each hook that it has
    #[arg(long, requires = "dev", conflicts_with = "root", value_name = "FILE")]
    pub plugin: Vec<PathBuf>,
}

/// `user …`
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user; the password is asked for
    Add(UserAdd),
    /// Remove a user and its credentials
    Rm {
        /// Whom
        name: String,
    },
    /// Set a user's password; it is asked for
    Passwd {
        /// Whose
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// List the users
    List,
}

/// `user add NAME`
#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// The name it logs in with
    pub name: String,
    /// A role that access rules can name; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// What it is
    #[arg(long, value_enum, default_value_t = Kind::User)]
    pub kind: Kind,
    #[command(flatten)]
    pub password: PasswordFrom,
}

/// Where a password comes from: never from an argument, which other users of the machine can see.
#[derive(Debug, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub password_stdin: bool,
}

/// `--kind`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// A person or program
    User,
    /// A thing in the field
    Device,
    /// Someone who may also use the admin interface
    Admin,
}

/// `acl …`
#[derive(Debug, Subcommand)]
pub(crate) enum Acl {
    /// Allow something; a deny rule that matches too is stronger
    Allow(Rule),
    /// Deny something, whatever else allows it
    Deny(Rule),
    /// List the rules
    List,
    /// Remove a rule
    Rm {
        /// Its number in `acl list`
        id: i64,
    },
    /// Say whether a client may do something, and which rule or plugin decides
    #[command(after_help = "Exit code 0: allowed, 1: denied.")]
    Check {
        /// The user's name; - for a client that gives none
        user: String,
        /// The client id
        client_id: String,
        /// What it wants to do
        #[arg(value_enum)]
        action: CheckAction,
        /// A topic, or for subscribe a topic filter
        topic: String,
    },
}

/// `acl allow|deny`
#[derive(Debug, Args)]
pub(crate) struct Rule {
    /// What
    #[arg(value_enum)]
    pub action: RuleAction,
    /// A topic filter; ${clientid} and ${username} can stand for a whole level (quote it in a shell)
    pub pattern: String,
    /// For whom: user:NAME, role:ROLE or all
    #[arg(long, value_name = "WHO")]
    pub to: String,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RuleAction {
    /// Publish
    Publish,
    /// Subscribe
    Subscribe,
    /// Both
    All,
}

/// What is checked.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CheckAction {
    /// Publish to the topic
    Publish,
    /// Subscribe to the topic filter
    Subscribe,
}

/// `plugin …`
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// List the plugins of the configuration
    List,
    /// Load a plugin file and say what it is, or what is wrong with it
    Check {
        /// A WebAssembly component
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
