//! Passwords from a person at a terminal, without echo, or from standard input.
//! What must not live here: what becomes of them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::arguments::PasswordFrom;
use crate::cli::failure::Failure;

/// Bytes of a password: what an MQTT packet can carry [MQTT-1.5.6].
const PASSWORD_BYTES_MAX: usize = 65_535;

/// The new password of `name`.
pub(crate) fn read(from: &PasswordFrom, name: &str) -> Result<String, Failure> {
    if from.password_stdin {
        return first_line(io::stdin().lock());
    }
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(Failure::start("there is no terminal to ask for the password on")
            .hint("give it on standard input: --password-stdin"));
    };
    let password = ask(&terminal, &format!("Password for {name}: "))?;
    if password != ask(&terminal, "Again: ")? {
        return Err(Failure::refused("the two passwords differ; nothing was changed"));
    }
    Ok(password)
}

/// The password that `name` has; asked for on the terminal.
pub(crate) fn ask_once(name: &str) -> Result<String, Failure> {
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(Failure::start("there is no terminal to ask for the password on")
            .hint("give it by --password-file FILE or the variable WASMQTT_PASSWORD"));
    };
    ask(&terminal, &format!("Password for {name}: "))
}

/// What stands in the first line.
pub(crate) fn first_line(input: impl Read) -> Result<String, Failure> {
    let most = u64::try_from(PASSWORD_BYTES_MAX + 3).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    BufReader::new(input.take(most))
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::start(format!("can't read the password: {error}")))?;
    let text =
        String::from_utf8(line).map_err(|_| Failure::start("the password is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::start("the password is empty")
            .hint("give at least one character, in the first line"));
    }
    if text.len() > PASSWORD_BYTES_MAX {
        let error = format!("the password has more than {PASSWORD_BYTES_MAX} bytes");
        return Err(Failure::start(error));
    }
    Ok(text.to_owned())
}

fn ask(terminal: &File, prompt: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::start(format!("can't ask for the password: {error}"));
    let mut screen = terminal;
    screen.write_all(prompt.as_bytes()).map_err(failed)?;
    let quiet = Quiet::new(terminal).map_err(failed)?;
    let line = first_line(terminal);
    drop(quiet);
    screen.write_all(b"\n").map_err(failed)?;
    line
}

/// A terminal that does not show what is typed.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that went away.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::{PASSWORD_BYTES_MAX, first_line};

    #[test]
    fn a_password_is_the_first_line_as_it_stands() {
        assert_eq!(first_line(&b" a b \r\nsecond"[..]).unwrap(), " a b ");
        assert_eq!(first_line(&b"no end"[..]).unwrap(), "no end");
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        assert_eq!(first_line(format!("{longest}\r\n").as_bytes()).unwrap(), longest);
    }

    #[test]
    fn an_empty_or_endless_password_is_refused() {
        assert!(first_line(&b"\n"[..]).is_err());
        assert!(first_line(&b"\xff\n"[..]).is_err());
        assert!(first_line(format!("{}y\n", "x".repeat(PASSWORD_BYTES_MAX)).as_bytes()).is_err());
    }
}
