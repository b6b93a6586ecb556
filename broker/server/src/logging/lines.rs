//! Log lines on their way to stderr, which a thread of their own writes.
//! What must not live here: what is worth a line.
//!
//! A terminal that stands still, or a reader that is gone, must not hold a worker up, and a storm of
//! connections should not cost a system call for each line. So lines are gathered, written together
//! a moment later, and lost, with their count, where stderr can't keep up.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the first line waits for others.
const GATHER: Duration = Duration::from_millis(10);

/// Bytes that wait, beyond which lines are lost.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the buffers that are kept between two bursts.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How long [`Lines::finish`] waits for the last of them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Takes lines and never blocks.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
    /// The writing thread sleeps until there is a line.
    is_asleep: bool,
    is_over: bool,
    is_written: bool,
}

impl Lines {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system's, when it makes no more threads.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self::default());
        let writing = Arc::clone(&lines);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.run(out))?;
        Ok(lines)
    }

    /// Lets the lines that wait be written, within a bound; later ones may be lost.
    pub(super) fn finish(&self) {
        let mut waiting = self.lock();
        waiting.is_over = true;
        self.changed.notify_all();
        let _written = self
            .changed
            .wait_timeout_while(waiting, LAST_LINES, |waiting| !waiting.is_written)
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut out: impl Write) {
        let mut bytes = Vec::new();
        while let Some(lost) = self.take(&mut bytes) {
            let _ = out.write_all(&bytes); // there is nobody left to tell
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES_MAX);
            if lost > 0 {
                tracing::warn!(lost, "log lines were lost: stderr does not keep up");
            }
        }
    }

    /// Waits for lines and swaps them for the empty buffer; how many were lost, None at the end.
    fn take(&self, bytes: &mut Vec<u8>) -> Option<u64> {
        let sleeping = |waiting: &mut Waiting| {
            waiting.is_asleep = waiting.bytes.is_empty() && !waiting.is_over;
            waiting.is_asleep
        };
        let waiting = self.changed.wait_while(self.lock(), sleeping);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let gathering = |waiting: &mut Waiting| !waiting.is_over;
        let (mut waiting, _) = self
            .changed
            .wait_timeout_while(waiting, GATHER, gathering)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.is_empty() {
            waiting.is_written = true;
            self.changed.notify_all();
            return None;
        }
        mem::swap(bytes, &mut waiting.bytes);
        Some(mem::take(&mut waiting.lost))
    }
}

impl Write for &Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lock();
        if waiting.bytes.len() >= WAITING_BYTES_MAX {
            waiting.lost += 1;
        } else {
            waiting.bytes.extend_from_slice(line);
            if mem::take(&mut waiting.is_asleep) {
                self.changed.notify_all();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written, and stands still while nobody takes it.
    struct Out(mpsc::SyncSender<Vec<u8>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_together() {
        let (sender, written) = mpsc::sync_channel(1000);
        let lines = Lines::start(Out(sender)).unwrap();
        let mut expected = Vec::new();
        for number in 0..1000 {
            let line = format!("line {number}\n");
            (&*lines).write_all(line.as_bytes()).unwrap();
            expected.extend_from_slice(line.as_bytes());
        }
        lines.finish();
        let writes: Vec<_> = written.iter().collect();
        assert_eq!(writes.concat(), expected);
        assert!(writes.len() < 1000, "a write for each line");
    }

    #[test]
    fn what_a_slow_reader_does_not_take_is_lost_and_counted_and_nobody_waits() {
        let (sender, written) = mpsc::sync_channel(0);
        let lines = Lines::start(Out(sender)).unwrap();
        let line = [b'x'; 1024];
        let count = 4 * WAITING_BYTES_MAX / line.len();
        for _ in 0..count {
            (&*lines).write_all(&line).unwrap();
        }
        let lost = lines.lock().lost;
        assert!(lost > 0);
        let taken = std::thread::spawn(move || written.iter().map(|bytes| bytes.len()).sum());
        lines.finish();
        drop(lines);
        let taken: usize = taken.join().unwrap();
        assert_eq!(taken + usize::try_from(lost).unwrap() * line.len(), count * line.len());
    }

    #[test]
    fn a_reader_that_is_gone_is_no_hindrance() {
        let lines = Lines::start(Out(mpsc::sync_channel(0).0)).unwrap();
        (&*lines).write_all(b"line\n").unwrap();
        lines.finish();
        assert!(lines.lock().is_written, "the writing thread went on to the end");
    }
}
