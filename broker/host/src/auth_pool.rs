//! Instances that answer `authenticate` and `auth-exchange`, for callers on any thread.
//! What must not live here: the threads, which are the caller's.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::active::Active;
use crate::breaker::Admission;
use crate::clock::{monotonic, thread_cpu};
use crate::fault::{Fault, FaultKind};
use crate::instance::Instance;
use crate::manifest::Hook;
use crate::stats::Counters;

/// A bounded number of instances; who comes when all are busy waits for a bounded time.
pub(crate) struct AuthPool {
    pool: Mutex<Pool>,
    freed: Condvar,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Instance>,
    /// Instances in use, or being started.
    busy: usize,
}

/// A place among the busy; given back when dropped, also by a panic.
struct Place<'a> {
    pool: &'a AuthPool,
    instance: Option<Instance>,
    /// When the answer has to be there, on the monotonic clock.
    until: Duration,
}

impl AuthPool {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { pool: Mutex::default(), freed: Condvar::new(), counters }
    }

    /// `ask` gets an instance and what is left of the time that the client may wait.
    pub(crate) fn call<R>(
        &self,
        active: &Active,
        hook: Hook,
        ask: impl FnOnce(&mut Instance, Duration) -> Result<R, Fault>,
    ) -> Result<R, FaultKind> {
        self.counters.call(hook);
        let admission = active.admit();
        if admission == Admission::Quarantined {
            self.counters.fault(hook, FaultKind::Quarantined);
            return Err(FaultKind::Quarantined);
        }
        let answer = self.place(active).and_then(|mut place| {
            let start = thread_cpu();
            let answer = place.answer(active, ask);
            self.counters.timed(hook, thread_cpu().saturating_sub(start));
            answer
        });
        match &answer {
            Ok(_) if admission == Admission::Probe => active.close_breaker(),
            Ok(_) => {}
            Err(fault) => {
                self.counters.fault(hook, fault.kind);
                active.fault(admission, Some(hook), fault);
            }
        }
        answer.map_err(|fault| fault.kind)
    }

    fn place(&self, active: &Active) -> Result<Place<'_>, Fault> {
        let limits = &active.identity.limits;
        let wall = limits.authenticate_wall;
        let until = monotonic() + wall;
        let is_full = |pool: &mut Pool| pool.busy >= limits.authenticate_instances_max;
        let waited = self.freed.wait_timeout_while(self.pool(), wall, is_full);
        let (mut pool, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Fault::new(FaultKind::NotReady, "all instances stayed busy"));
        }
        pool.busy += 1;
        let instance = pool.idle.pop();
        Ok(Place { pool: self, instance, until })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    fn answer<R>(
        &mut self,
        active: &Active,
        ask: impl FnOnce(&mut Instance, Duration) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => active.start_instance()?,
        };
        let answer = ask(&mut instance, self.until.saturating_sub(monotonic()))?;
        self.instance = Some(instance);
        Ok(answer)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut pool = self.pool.pool();
        pool.busy -= 1;
        pool.idle.extend(self.instance.take());
        self.pool.freed.notify_one();
    }
}
