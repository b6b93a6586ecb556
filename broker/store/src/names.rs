//! Which names principals, roles, tenants and plugins may have.
//! What must not live here: whether a name is taken.

use crate::error::StoreError;
use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};

/// Why a name cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than allowed.
    #[error("it has {bytes} bytes, at most {max} are possible")]
    TooLong {
        /// Its length, bytes.
        bytes: usize,
        /// What is possible, bytes.
        max: usize,
    },
    /// NUL, a line break, an escape, ...
    #[error("it has the control character U+{:04X} at byte {at}", u32::from(*.character))]
    Control {
        /// The character.
        character: char,
        /// Where, in bytes from the start.
        at: usize,
    },
    /// A character that the name of a tenant or plugin cannot have.
    #[error(
        "it has {character:?} at byte {at}, possible are a-z 0-9 . _ - and a letter or digit first"
    )]
    NotALabel {
        /// The character.
        character: char,
        /// Where, in bytes from the start.
        at: usize,
    },
}

/// Checks the name of a user, device, admin or role: 1 to 256 bytes of UTF-8 without control
/// characters. `+ # / $` are possible here; such a name only never matches as `${username}`.
///
/// # Errors
/// Says what is wrong with it and where.
pub fn check_name(name: &str) -> Result<(), NameError> {
    check_length(name, NAME_BYTES_MAX)?;
    match name.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => Err(NameError::Control { character, at }),
        None => Ok(()),
    }
}

/// Checks the name of a tenant or plugin: 1 to 63 of `a-z 0-9 . _ -`, a letter or digit first, so
/// that it is unmistakable in `user@tenant`, a host name, a file name and a shell.
///
/// # Errors
/// Says what is wrong with it and where.
pub fn check_label(name: &str) -> Result<(), NameError> {
    check_length(name, LABEL_BYTES_MAX)?;
    let wrong = name.char_indices().find(|(at, character)| {
        !matches!(character, 'a'..='z' | '0'..='9')
            && (*at == 0 || !matches!(character, '.' | '_' | '-'))
    });
    match wrong {
        Some((at, character)) => Err(NameError::NotALabel { character, at }),
        None => Ok(()),
    }
}

fn check_length(name: &str, max: usize) -> Result<(), NameError> {
    match name.len() {
        0 => Err(NameError::Empty),
        bytes if bytes > max => Err(NameError::TooLong { bytes, max }),
        _ => Ok(()),
    }
}

/// The reason why `name` is no name for `what`, as the error that an operator sees.
pub(crate) fn bad_name(what: &'static str, name: &str, reason: NameError) -> StoreError {
    StoreError::BadName { what, name: shortened(name), reason }
}

/// The beginning of what someone typed, short enough for an error message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARACTERS_SHOWN: usize = 64;
    match text.char_indices().nth(CHARACTERS_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NameError, check_label, check_name};

    #[test]
    fn names_of_people_and_things_are_possible() {
        for name in ["a", "sensor-1", "Jürgen Groß", "温度计", "a/b+c#", "x@y", &"n".repeat(256)]
        {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_error_says_what_is_wrong_and_where() {
        assert_eq!(check_name(""), Err(NameError::Empty));
        let bytes = 257;
        assert_eq!(check_name(&"n".repeat(bytes)), Err(NameError::TooLong { bytes, max: 256 }));
        let error = check_name("ä\0").unwrap_err();
        assert_eq!(error, NameError::Control { character: '\0', at: 2 });
        assert_eq!(error.to_string(), "it has the control character U+0000 at byte 2");
        assert_eq!(check_label("a@b"), Err(NameError::NotALabel { character: '@', at: 1 }));
        assert_eq!(check_label("-a"), Err(NameError::NotALabel { character: '-', at: 0 }));
        assert_eq!(check_label("a.b_c-9"), Ok(()));
    }

    proptest! {
        #[test]
        fn a_name_is_possible_if_and_only_if_it_is_short_and_printable(name in any::<String>()) {
            let possible = (1..=256).contains(&name.len()) && !name.chars().any(char::is_control);
            prop_assert_eq!(check_name(&name).is_ok(), possible);
        }

        #[test]
        fn every_label_is_a_name(name in "\\PC{0,70}") {
            prop_assert!(check_label(&name).is_err() || check_name(&name).is_ok());
        }
    }
}
