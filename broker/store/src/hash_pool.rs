//! The threads that hash: a fixed number with a bounded queue, so that a storm of logins costs
//! neither memory nor the threads that serve others.
//! What must not live here: which hash belongs to whom.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::limits::{HASH_DEADLINE_MILLISECONDS, HASH_QUEUE_RESERVED, PASSWORD_BYTES_MAX};
use crate::password::{self, BadHash, Memory, PasswordHash, Recipe};

/// Why there is no answer from the pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashPoolError {
    /// The queue is full: try again later.
    #[error("too many logins wait for a hashing thread")]
    Busy,
    /// Not done in time, see [`HashPool::with_deadline`].
    #[error("no hashing thread was free in time")]
    Deadline,
    /// The stored hash cannot be used.
    #[error("the stored hash cannot be used: {0}; set a new password")]
    BadHash(BadHash),
    /// The password is longer than MQTT can carry.
    #[error("a password of {bytes} bytes, at most {PASSWORD_BYTES_MAX} are possible")]
    TooLong {
        /// Its length, bytes.
        bytes: usize,
    },
    /// A fault of the machine: no random numbers, or a hashing thread died.
    #[error("hashing failed: {0}")]
    Failed(String),
}

/// Argon2id on threads of its own: 19 MiB, two passes, one lane for new hashes; what the PHC string
/// says, within bounds, for stored ones. Dropping it ends and joins the threads, which takes as long as
/// the hashes that they have begun.
pub struct HashPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    deadline: Duration,
}

impl HashPool {
    /// Starts `threads` threads (at least one) of 19 MiB each, with places for `queue_max` logins (at
    /// least one) to wait.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(threads: usize, queue_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), stopping: false }),
            wake: Condvar::new(),
            queue_max: queue_max.max(1),
            hashes: AtomicU64::new(0),
        });
        let mut pool = Self {
            shared,
            threads: Vec::new(),
            deadline: Duration::from_millis(HASH_DEADLINE_MILLISECONDS),
        };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name(format!("hash-{number}"));
            // A failure drops `pool`, which ends the threads that did start.
            pool.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// As many threads as pay: all cores but one, at least one.
    #[must_use]
    pub fn threads_default() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
    }

    /// Replaces the time that one hash may take, waiting included.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Hashes a new password. Has some places in the queue to itself and goes first, so that a
    /// password can be changed during a storm of logins.
    ///
    /// # Errors
    /// `Busy` and `Deadline` when overloaded, `TooLong`, `Failed`.
    pub async fn hash(&self, password: &[u8]) -> Result<PasswordHash, HashPoolError> {
        check_length(password)?;
        let (reply, answer) = oneshot::channel();
        self.shared.push(Job { password: password.to_vec(), task: Task::Hash { reply } })?;
        self.wait(answer).await
    }

    /// Whether `password` is the one that `phc` was made from.
    ///
    /// # Errors
    /// `BadHash` (without waiting), `Busy` and `Deadline` when overloaded, `TooLong`, `Failed`.
    pub async fn verify(&self, phc: &str, password: &[u8]) -> Result<bool, HashPoolError> {
        check_length(password)?;
        let recipe = Recipe::parse(phc).map_err(HashPoolError::BadHash)?;
        let (reply, answer) = oneshot::channel();
        let task = Task::Verify { recipe: Box::new(recipe), reply };
        self.shared.push(Job { password: password.to_vec(), task })?;
        self.wait(answer).await
    }

    /// How many hashes were computed since the start.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// How many wait for a thread at this moment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    async fn wait<T>(&self, answer: Answer<T>) -> Result<T, HashPoolError> {
        // When the time is over the receiver is dropped, and a thread skips the job.
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HashPoolError::Failed("the hashing thread died".to_owned())),
            Err(_) => Err(HashPoolError::Deadline),
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.lock();
            queue.stopping = true;
            queue.jobs.clear();
        }
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself; there is nothing left to end.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for HashPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashPool")
            .field("threads", &self.threads.len())
            .field("queue_max", &self.shared.queue_max)
            .finish_non_exhaustive()
    }
}

fn check_length(password: &[u8]) -> Result<(), HashPoolError> {
    match password.len() {
        bytes if bytes > PASSWORD_BYTES_MAX => Err(HashPoolError::TooLong { bytes }),
        _ => Ok(()),
    }
}

type Answer<T> = oneshot::Receiver<Result<T, HashPoolError>>;
type Reply<T> = oneshot::Sender<Result<T, HashPoolError>>;

enum Task {
    Hash { reply: Reply<PasswordHash> },
    Verify { recipe: Box<Recipe>, reply: Reply<bool> },
}

struct Job {
    password: Vec<u8>,
    task: Task,
}

impl Job {
    fn is_abandoned(&self) -> bool {
        match &self.task {
            Task::Hash { reply } => reply.is_closed(),
            Task::Verify { reply, .. } => reply.is_closed(),
        }
    }

    fn run(self, memory: &mut Memory) {
        // Whoever stopped waiting does not want the answer.
        match self.task {
            Task::Hash { reply } => {
                let result = password::hash(&self.password, memory);
                let _ = reply.send(result.map_err(|error| HashPoolError::Failed(error.0)));
            }
            Task::Verify { recipe, reply } => {
                let result = recipe.verify(&self.password, memory);
                let _ = reply.send(result.map_err(HashPoolError::BadHash));
            }
        }
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    stopping: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    queue_max: usize,
    hashes: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that runs under this lock can panic half way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), HashPoolError> {
        let first = matches!(job.task, Task::Hash { .. });
        let places = self.queue_max + if first { HASH_QUEUE_RESERVED } else { 0 };
        let mut queue = self.lock();
        if queue.jobs.len() >= places {
            queue.jobs.retain(|job| !job.is_abandoned());
            if queue.jobs.len() >= places {
                return Err(HashPoolError::Busy);
            }
        }
        if first {
            queue.jobs.push_front(job);
        } else {
            queue.jobs.push_back(job);
        }
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut memory = Memory::new();
        while let Some(job) = self.pop() {
            if !job.is_abandoned() {
                self.hashes.fetch_add(1, Ordering::Relaxed);
                job.run(&mut memory);
            }
        }
    }

    /// Waits for a job; `None` when the pool is dropped.
    fn pop(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.stopping {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::HashPool;

    #[tokio::test]
    async fn its_threads_end_with_it_even_when_work_is_left() {
        let pool = HashPool::new(2, 100).unwrap();
        for _ in 0..50 {
            // Polled once, then given up.
            let _ = tokio::time::timeout(Duration::ZERO, pool.hash(b"x")).await;
        }
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        assert_eq!(shared.strong_count(), 0, "a thread still runs");
    }
}
