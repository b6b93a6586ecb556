//! The wasmtime engine of the process and the ticks that deadlines are checked at.
//! What must not live here: anything about a single plugin or call.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle, Thread};

use thiserror::Error;
use wasmtime::Config;

use crate::limits::{TICK, TICKS_BEFORE_REST, WASM_STACK_BYTES};
use crate::trusted::code_cache::CodeCache;

/// The process-wide engine: a cheap clone. The thread that ticks ends with the last clone and the
/// last plugin; while no plugin is called it rests.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    cache: Option<CodeCache>,
    ticker: Arc<Ticker>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no engine.
#[derive(Debug, Error)]
pub enum EngineError {
    /// This machine can't run WebAssembly that way.
    #[error("the WebAssembly engine does not start: {0}")]
    Unsupported(String),
    /// The directory for compiled plugins can't be used.
    #[error("directory for compiled plugins: {0}")]
    Cache(io::Error),
    /// The ticking thread can't be started.
    #[error("the thread that watches plugins does not start: {0}")]
    Thread(io::Error),
}

impl Engine {
    /// An engine that compiles each plugin anew.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new() -> Result<Self, EngineError> {
        Self::start(None)
    }

    /// An engine that keeps compiled plugins in `directory`, which is created with mode 0700.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn with_code_cache(directory: &Path) -> Result<Self, EngineError> {
        Self::start(Some(directory))
    }

    fn start(cache: Option<&Path>) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config.concurrency_support(false).epoch_interruption(true).max_wasm_stack(WASM_STACK_BYTES);
        let wasmtime = wasmtime::Engine::new(&config)
            .map_err(|error| EngineError::Unsupported(format!("{error:#}")))?;
        let cache = cache
            .map(|directory| CodeCache::open(directory, &wasmtime))
            .transpose()
            .map_err(EngineError::Cache)?;
        let ticker = Arc::new(Ticker::default());
        let thread = thread::Builder::new()
            .name("plugin-ticks".to_owned())
            .spawn({
                let (ticker, wasmtime) = (Arc::clone(&ticker), wasmtime.clone());
                move || ticker.run(&wasmtime)
            })
            .map_err(EngineError::Thread)?;
        Ok(Self(Arc::new(Inner { wasmtime, cache, ticker, thread: Some(thread) })))
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(crate) fn cache(&self) -> Option<&CodeCache> {
        self.0.cache.as_ref()
    }

    /// A flag for one caller of plugins: ticks come while it says that a call is running.
    pub(crate) fn caller(&self) -> Caller {
        let calling = Arc::new(AtomicBool::new(false));
        self.0.ticker.callers().push(Arc::downgrade(&calling));
        let thread = self.0.thread.as_ref().map(|thread| thread.thread().clone());
        Caller { calling, ticker: Arc::clone(&self.0.ticker), thread }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ticker.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A ticker that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

/// One caller's side of the ticker.
pub(crate) struct Caller {
    calling: Arc<AtomicBool>,
    ticker: Arc<Ticker>,
    thread: Option<Thread>,
}

impl Caller {
    /// Runs `call` with ticks.
    pub(crate) fn call<R>(&self, call: impl FnOnce() -> R) -> R {
        /// Ends the ticks, also when `call` panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        // Both sides store, then load, sequentially consistent: either this sees that the ticker
        // rests and wakes it, or the ticker sees this call and does not rest.
        self.calling.store(true, Ordering::SeqCst);
        if self.ticker.resting.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
        let _end = End(&self.calling);
        call()
    }
}

#[derive(Default)]
struct Ticker {
    callers: Mutex<Vec<Weak<AtomicBool>>>,
    resting: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    fn run(&self, engine: &wasmtime::Engine) {
        let mut quiet_ticks = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if self.is_any_calling() {
                quiet_ticks = 0;
            } else if quiet_ticks < TICKS_BEFORE_REST {
                quiet_ticks += 1;
            } else {
                self.resting.store(true, Ordering::SeqCst);
                if !self.is_any_calling() && !self.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.resting.store(false, Ordering::SeqCst);
                quiet_ticks = 0;
            }
            thread::park_timeout(TICK);
            engine.increment_epoch();
        }
    }

    fn is_any_calling(&self) -> bool {
        let mut any = false;
        self.callers().retain(|caller| {
            let caller = caller.upgrade();
            any |= caller.as_ref().is_some_and(|calling| calling.load(Ordering::SeqCst));
            caller.is_some()
        });
        any
    }

    fn callers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<AtomicBool>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Engine;
    use crate::clock::{Clock, SystemClock};
    use std::sync::atomic::Ordering;
    use std::thread;

    /// Waits until `is_so`, for a bounded time.
    #[track_caller]
    fn wait(what: &str, is_so: impl Fn() -> bool) {
        let give_up = SystemClock.monotonic().plus_seconds(60);
        while !is_so() {
            assert!(SystemClock.monotonic() < give_up, "{what}");
            thread::yield_now();
        }
    }

    #[test]
    fn the_ticker_rests_without_calls_and_wakes_for_one() {
        let engine = Engine::new().unwrap();
        let caller = engine.caller();
        let is_resting = || engine.0.ticker.resting.load(Ordering::SeqCst);
        for _ in 0..3 {
            wait("it rests", is_resting);
            caller.call(|| wait("it wakes", || !is_resting()));
        }
    }
}
