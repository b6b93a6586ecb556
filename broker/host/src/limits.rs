//! Every bound that the host puts on a plugin, with its unit in its name.
//! What must not live here: the code that enforces a bound.

use std::time::Duration;

/// What an operator lets one plugin use. The defaults suit plugins written in Rust or C; one that
/// brings its language's run time along (Python, JavaScript) needs more memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// CPU time of one `authorize` or `on-publish`.
    pub call_cpu: Duration,
    /// CPU time of one `authenticate`, and of one step of `auth-exchange`.
    pub authenticate_cpu: Duration,
    /// CPU time of `init`.
    pub init_cpu: Duration,
    /// An `init` that took more CPU time when it was proved is never run on a worker: instances of
    /// that plugin are made by a thread of their own.
    pub inline_init_cpu: Duration,
    /// Wall time of one such call, waiting for a free instance included.
    pub authenticate_wall: Duration,
    /// Linear memory of one instance, all its memories together.
    pub memory_bytes: usize,
    /// Longest payload that `set-payload` takes.
    pub payload_bytes_max: usize,
    /// Instances that answer `authenticate` and `auth-exchange` at the same time.
    pub authenticate_instances_max: usize,
    /// Bounds of the key-value store.
    pub kv: KvLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_cpu: Duration::from_millis(10),
            authenticate_cpu: Duration::from_millis(50),
            init_cpu: Duration::from_secs(1),
            inline_init_cpu: Duration::from_millis(2),
            authenticate_wall: Duration::from_secs(2),
            memory_bytes: 32 << 20,
            payload_bytes_max: 16 << 20,
            authenticate_instances_max: 4,
            kv: KvLimits::default(),
        }
    }
}

impl Limits {
    /// These limits, lowered where the plugin's manifest asks for less.
    #[must_use]
    pub fn lowered(self, memory_bytes: Option<usize>, call_cpu: Option<Duration>) -> Self {
        Self {
            call_cpu: call_cpu.map_or(self.call_cpu, |asked| asked.min(self.call_cpu)),
            authenticate_cpu: call_cpu
                .map_or(self.authenticate_cpu, |asked| asked.min(self.authenticate_cpu)),
            memory_bytes: memory_bytes
                .map_or(self.memory_bytes, |asked| asked.min(self.memory_bytes)),
            ..self
        }
    }
}

/// Bounds of one plugin's key-value store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvLimits {
    /// Longest key.
    pub key_bytes_max: usize,
    /// Longest value.
    pub value_bytes_max: usize,
    /// Keys.
    pub keys_max: usize,
    /// Keys and values together.
    pub bytes_max: usize,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { key_bytes_max: 256, value_bytes_max: 64 << 10, keys_max: 10_000, bytes_max: 1 << 20 }
    }
}

/// Largest component that is loaded.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Longest manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Topic filters of one plugin's prefilter.
pub const PREFILTER_TOPICS_MAX: usize = 64;
/// Plugins in the on-publish chain: one bit each.
pub const PUBLISH_CHAIN_MAX: usize = 32;
/// Levels of a configuration schema.
pub const SCHEMA_DEPTH_MAX: usize = 16;
/// Longest error text of `init`; the rest is cut off.
pub const INIT_ERROR_BYTES_MAX: usize = 4 << 10;

/// Stack of WebAssembly code; the calling thread needs more than that.
pub const WASM_STACK_BYTES: usize = 512 << 10;
/// Core instances, memories and tables of one component.
pub const CORE_INSTANCES_MAX: usize = 64;
/// See [`CORE_INSTANCES_MAX`].
pub const MEMORIES_MAX: usize = 8;
/// See [`CORE_INSTANCES_MAX`].
pub const TABLES_MAX: usize = 64;
/// Elements of all tables together.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Bytes that one call of a host function may bring along in strings and lists.
pub const HOST_CALL_BYTES_MAX: usize = 32 << 20;

/// Distance of the ticks that the CPU budget is checked at.
pub const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker waits for one.
pub const TICKS_BEFORE_REST: u32 = 50;
/// How much longer than its CPU budget a call may take on the wall, on a machine that is loaded.
pub const WALL_FACTOR: u32 = 20;

/// Longest Authentication Data that a plugin sends to a client.
pub const EXCHANGE_DATA_BYTES_MAX: usize = 16 << 10;
/// What a plugin may have kept until a client answers.
pub const EXCHANGE_STATE_BYTES_MAX: usize = 4 << 10;
/// Random bytes of one call.
pub const RANDOM_BYTES_MAX: u32 = 1 << 10;

/// Longest reason string of a refusal.
pub const REASON_BYTES_MAX: usize = 1 << 10;
/// Longest time that an answer of `authorize` may be reused.
pub const CACHE_TTL_MS_MAX: u32 = 3_600_000;
/// Longest principal name and role.
pub const NAME_BYTES_MAX: usize = 256;
/// Roles of one principal.
pub const ROLES_MAX: usize = 64;
/// Attributes of one principal.
pub const ATTRIBUTES_MAX: usize = 64;
/// Longest attribute value.
pub const ATTRIBUTE_BYTES_MAX: usize = 4 << 10;

/// Longest line in the log; the rest is cut off.
pub const LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// Lines a second and plugin; more are counted and left out.
pub const LOG_LINES_PER_SECOND_MAX: u32 = 100;

/// Faults within [`BREAKER_WINDOW_MS`] that quarantine a plugin.
pub const BREAKER_FAULTS: usize = 5;
/// See [`BREAKER_FAULTS`].
pub const BREAKER_WINDOW_MS: u64 = 60_000;
/// First quarantine; each further one takes twice as long.
pub const BREAKER_BACK_OFF_MS: u64 = 1_000;
/// Longest quarantine.
pub const BREAKER_BACK_OFF_MS_MAX: u64 = 60_000;
/// Faults are logged once in that time for each plugin.
pub const FAULT_LOG_MS: u64 = 10_000;

/// Instances of a plugin with a slow `init` that are kept ready.
pub const SPARE_INSTANCES: usize = 1;
/// One call in so many is timed, for the statistics.
pub const TIMED_CALL_EVERY: u64 = 32;
