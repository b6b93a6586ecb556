//! A thread that starts instances of plugins whose `init` is too slow for a worker.
//! What must not live here: instances of other plugins, which workers start by themselves.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::active::Active;
use crate::breaker::Admission;
use crate::instance::Instance;
use crate::limits::SPARE_INSTANCES;

pub(crate) struct Builder {
    requests: Arc<Requests>,
    thread: Option<JoinHandle<()>>,
}

/// Plugins that need an instance; each at most once, so the number of plugins is the bound.
#[derive(Default)]
pub(crate) struct Requests {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    plugins: VecDeque<usize>,
    is_over: bool,
}

impl Requests {
    /// Has a spare instance of the `plugin`th plugin made, unless that is asked for already.
    pub(crate) fn ask(&self, plugin: usize) {
        let mut queue = self.queue();
        if !queue.plugins.contains(&plugin) {
            queue.plugins.push_back(plugin);
            self.changed.notify_one();
        }
    }

    fn next(&self) -> Option<usize> {
        let queue = self.queue();
        let is_idle = |queue: &mut Queue| queue.plugins.is_empty() && !queue.is_over;
        let mut queue =
            self.changed.wait_while(queue, is_idle).unwrap_or_else(PoisonError::into_inner);
        if queue.is_over { None } else { queue.plugins.pop_front() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Builder {
    /// None: no plugin needs one.
    pub(crate) fn start(plugins: &[Arc<Active>]) -> io::Result<Option<Self>> {
        if plugins.iter().all(|active| active.has_fast_init) {
            return Ok(None);
        }
        let requests = Arc::new(Requests::default());
        let thread = thread::Builder::new().name("plugin-start".to_owned()).spawn({
            let (plugins, requests) = (plugins.to_vec(), Arc::clone(&requests));
            move || {
                while let Some(index) = requests.next() {
                    make_spares(&plugins[index]);
                }
            }
        })?;
        Ok(Some(Self { requests, thread: Some(thread) }))
    }

    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }
}

fn make_spares(active: &Active) {
    let spares = || active.spares.lock().unwrap_or_else(PoisonError::into_inner);
    while spares().len() < SPARE_INSTANCES {
        match Instance::start(&active.plugin, &active.identity, active.identity.limits.init_cpu) {
            Ok(instance) => spares().push(instance),
            Err(fault) => {
                active.fault(Admission::Call, None, &fault);
                return;
            }
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.requests.queue().is_over = true;
        self.requests.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}
