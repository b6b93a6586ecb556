//! How a command ends when it does not do what it was asked: a text and an exit code.
//! What must not live here: the reasons.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::admin::client::CallError;
use crate::config::problem::{Problem, Problems};
use crate::config::tree::Sources;
use crate::instance::InstanceError;
use crate::service::ServiceError;
use wasmqtt_store::StoreError;

/// Why a command failed; at least one of an error and rendered problems.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    error: String,
    hint: Option<String>,
    problems: Option<Box<Problems>>,
}

impl Failure {
    /// Exit code 1: asked rightly, refused or failed.
    pub(crate) fn refused(error: impl Display) -> Self {
        Self { exit: 1, error: error.to_string(), hint: None, problems: None }
    }

    /// Exit code 2: usage, configuration or start-up.
    pub(crate) fn start(error: impl Display) -> Self {
        Self { exit: 2, ..Self::refused(error) }
    }

    /// Exit code 27, as mosquitto_sub has it: the time is over.
    pub(crate) fn timed_out(error: impl Display) -> Self {
        Self { exit: 27, ..Self::refused(error) }
    }

    /// With some words behind the error.
    pub(crate) fn more(mut self, words: &str) -> Self {
        self.error.push_str(words);
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A broker that did not start, with the place in the configuration where there is one.
    pub(crate) fn from_start(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Problems>() {
            Ok(problems) => return Self::from(Box::new(problems)),
            Err(error) => error,
        };
        let error = match error.downcast::<InstanceError>() {
            Ok(error) => return Self::from(error),
            Err(error) => error,
        };
        match error.downcast::<ServiceError>() {
            Ok(error) => Self { exit: 2, ..Self::from(error) },
            Err(error) => Self::start(format!("{error:#}")),
        }
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        let written = match &self.problems {
            Some(problems) => {
                write!(stderr, "{}", problems.render(std::io::stderr().is_terminal()))
            }
            None => {
                let hint = self.hint.iter().map(|hint| format!("  hint: {hint}\n"));
                write!(stderr, "error: {}\n{}", self.error, hint.collect::<String>())
            }
        };
        // Nobody reads: the exit code still says it.
        let _ = written;
        ExitCode::from(self.exit)
    }
}

impl From<Box<Problems>> for Failure {
    fn from(problems: Box<Problems>) -> Self {
        Self { problems: Some(problems), ..Self::start("the configuration is not usable") }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::from(Box::new(Problems { sources: Sources::default(), list: vec![problem] }))
    }
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        let hint = error.hint();
        let failure = match error {
            // The same command does it a moment later.
            InstanceError::LockedByCommand { .. } => Self::refused(error),
            InstanceError::Missing(_)
            | InstanceError::NotADirectory(_)
            | InstanceError::NotABroker(_)
            | InstanceError::Exists(_)
            | InstanceError::NotEmpty { .. }
            | InstanceError::LockedByBroker { .. }
            | InstanceError::Io { .. } => Self::start(error),
        };
        Self { hint, ..failure }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::start(error)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let failure = Self::refused(&error);
        Self { hint: error.hint, ..failure }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let failure = Self::refused(&error);
        match error {
            CallError::Refused(body) => Self { hint: body.hint, ..failure },
            CallError::Broken(_) | CallError::Late => failure,
        }
    }
}
