//! Instances that answer `authenticate`, for callers on any thread.
//! What must not live here: the threads, which are the caller's.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmqtt_core::hook::AuthenticateRequest;

use crate::active::Active;
use crate::answer::AuthVerdict;
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

    pub(crate) fn call(
        &self,
        active: &Active,
        request: &AuthenticateRequest,
    ) -> Result<AuthVerdict, FaultKind> {
        const HOOK: Hook = Hook::Authenticate;
        self.counters.call(HOOK);
        let admission = active.admit();
        if admission == Admission::Quarantined {
            self.counters.fault(HOOK, FaultKind::Quarantined);
            return Err(FaultKind::Quarantined);
        }
        let answer = self.place(active).and_then(|mut place| {
            let start = thread_cpu();
            let answer = place.answer(active, request);
            self.counters.timed(HOOK, thread_cpu().saturating_sub(start));
            answer
        });
        match &answer {
            Ok(_) if admission == Admission::Probe => active.close_breaker(),
            Ok(_) => {}
            Err(fault) => {
                self.counters.fault(HOOK, fault.kind);
                active.fault(admission, Some(HOOK), fault);
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
    fn answer(
        &mut self,
        active: &Active,
        request: &AuthenticateRequest,
    ) -> Result<AuthVerdict, Fault> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => active.start_instance()?,
        };
        let verdict = instance.authenticate(request, self.until.saturating_sub(monotonic()))?;
        self.instance = Some(instance);
        Ok(verdict)
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
