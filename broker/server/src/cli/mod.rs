//! The command line: from arguments to a command and its exit code.
//! What must not live here: what a command does.

use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) mod acl;
pub(crate) mod arguments;
pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod create;
pub(crate) mod failure;
pub(crate) mod format;
pub(crate) mod output;
pub(crate) mod password;
pub(crate) mod plugin;
pub(crate) mod publish;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod subscribe;
pub(crate) mod user;

use arguments::{Arguments, Command, Plugin};
use failure::Failure;
use session::Session;

/// The tenant that commands work on.
pub(crate) const TENANT: &str = "default";

/// Does what the arguments say; the exit code where that is no failure.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { directory, json, command } = arguments;
    match command {
        Command::Run(run) => run::run(run, directory, json).map(|()| ExitCode::SUCCESS),
        Command::Create(create) => {
            block_on(create::create(&create.directory, json)).map(|()| ExitCode::SUCCESS)
        }
        Command::Plugin(Plugin::Check { file }) => {
            plugin::check(&file, json).map(|()| ExitCode::SUCCESS)
        }
        Command::Plugin(Plugin::List) => {
            let directory = find(directory)?;
            block_on(async move {
                let session = Session::open(&directory, session::Needs::Plugins).await?;
                plugin::list(&session, json).await
            })
            .map(|()| ExitCode::SUCCESS)
        }
        Command::Status => block_on(status::status(&find(directory)?, json)),
        Command::Reload => block_on(reload::reload(&find(directory)?, json)),
        Command::User(command) => {
            let directory = find(directory)?;
            block_on(user::run(&directory, command, json)).map(|()| ExitCode::SUCCESS)
        }
        Command::Acl(command) => {
            let directory = find(directory)?;
            block_on(acl::run(&directory, command, json))
        }
        Command::Pub(arguments) => block_on(publish::run(*arguments, directory)),
        Command::Sub(arguments) => block_on(subscribe::run(*arguments, directory, json)),
        Command::Bench(command) => bench::run(*command, directory, json),
    }
}

/// Commands wait for one thing at a time: no threads.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start: {error}")))?
        .block_on(command)
}

/// `-C DIR`, or the working directory where that is a broker's.
fn find(directory: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(directory) = directory {
        return Ok(directory);
    }
    if PathBuf::from("broker.toml").is_file() {
        return Ok(PathBuf::from("."));
    }
    Err(Failure::start("which broker? The working directory has no broker.toml")
        .hint("name its directory: wasmqtt -C DIR …"))
}
