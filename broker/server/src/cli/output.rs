//! What commands print: tables and JSON on stdout.
//! What must not live here: what is printed.

use std::fmt::Display;
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use serde::Serialize;

use crate::cli::failure::Failure;

/// Prints a line, or several.
pub(crate) fn say(text: impl Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Says something that is not the answer, on stderr.
pub(crate) fn note(text: impl Display) {
    // Nobody reads: it was only a word.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::refused)?;
    say(text)
}

/// A reader that has seen enough, as `head` has, is no failure.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("can't write the output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Waits until nobody reads a pipe on stdout any more, as after `| head`; for ever where stdout is
/// something else.
pub(crate) async fn reader_gone() {
    let is_pipe = rustix::fs::fstat(io::stdout())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_fifo());
    let (sender, gone) = tokio::sync::oneshot::channel();
    if is_pipe {
        // The thread ends with the process.
        std::thread::spawn(move || {
            let stdout = io::stdout();
            let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
            loop {
                match poll(&mut pipe, None) {
                    Ok(_) => {
                        // Who does not wait any more need not be told.
                        let _ = sender.send(());
                        return;
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        });
        if gone.await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Columns as wide as their widest cell, under their headings.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings)];
    for row in rows {
        lines.push(line(row.each_ref().map(String::as_str)));
    }
    lines.join("\n")
}

/// Unix seconds as `2026-01-31 09:30 UTC`.
pub(crate) fn utc(seconds: i64) -> String {
    let [year, month, day, hour, minute, _] = calendar(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Unix seconds as `2026-01-31T09:30:00Z`, with that fraction.
pub(crate) fn iso(seconds: i64, microseconds: Option<u32>) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    let fraction = microseconds.map_or_else(String::new, |fraction| format!(".{fraction:06}"));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Year, month, day, hour, minute, second in UTC.
fn calendar(seconds: i64) -> [i64; 6] {
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date in the proleptic Gregorian calendar, by eras of 400 years that begin in March.
    let since = days + 719_468;
    let (era, day_of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    [year, month, day, second_of_day / 3_600, second_of_day % 3_600 / 60, second_of_day % 60]
}

/// Seconds as `3 d 4 h`, `5 min 6 s`: the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [
        ("d", seconds / 86_400),
        ("h", seconds / 3_600 % 24),
        ("min", seconds / 60 % 60),
        ("s", seconds % 60),
    ];
    let first = units.iter().position(|(_, count)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(first).take(2).filter(|(_, count)| *count > 0 || seconds == 0);
    shown.map(|(unit, count)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{duration, table, utc};

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [["a".to_owned(), "bb".to_owned()], ["Jürgen".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], &rows), "NAME    X\na       bb\nJürgen");
    }

    #[test]
    fn seconds_are_a_date() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_767_225_599), "2025-12-31 23:59 UTC");
    }

    #[test]
    fn a_duration_has_two_units() {
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3 * 86_400 + 4 * 3_600 + 59), "3 d 4 h");
    }
}
