//! What a Store holds: who the plugin is, what it may use, and its answer while a call runs.
//! What must not live here: the functions that plugins call.

use std::sync::Arc;
use std::time::Duration;

use wasmqtt_core::message::QoS;
use wasmtime::ResourceLimiter;

use crate::clock::{monotonic, thread_cpu};
use crate::fault::{FaultKind, Stop};
use crate::limits::{CORE_INSTANCES_MAX, Limits, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::services::PluginServices;

/// One activated plugin as its instances see it.
pub(crate) struct Identity {
    /// The plugin's name in the broker's configuration.
    pub(crate) name: Arc<str>,
    pub(crate) tenant: Arc<str>,
    /// A JSON document.
    pub(crate) config: String,
    pub(crate) limits: Limits,
    pub(crate) services: Arc<PluginServices>,
}

/// The data of one Store.
pub(crate) struct State {
    pub(crate) identity: Arc<Identity>,
    pub(crate) resources: Resources,
    pub(crate) deadline: Deadline,
    pub(crate) reply: Reply,
}

impl State {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        let resources = Resources::new(identity.limits.memory_bytes);
        Self { identity, resources, deadline: Deadline::default(), reply: Reply::default() }
    }
}

/// What a plugin said by setters while a call runs.
#[derive(Default)]
pub(crate) struct Reply {
    /// `cache-hint`.
    pub(crate) ttl_ms: u32,
    /// `message`.
    pub(crate) topic: Option<String>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) qos: Option<QoS>,
    pub(crate) retain: Option<bool>,
    /// `grant`.
    pub(crate) grant: Grant,
    /// `exchange`.
    pub(crate) state: Vec<u8>,
}

/// What `authenticate` and `auth-exchange` give along with an allow.
#[derive(Default)]
pub(crate) struct Grant {
    pub(crate) principal: Option<String>,
    pub(crate) roles: Vec<Arc<str>>,
    pub(crate) attributes: Vec<(Box<str>, Box<str>)>,
    pub(crate) expires_at_unix_seconds: Option<u64>,
}

/// The time that one call may take.
#[derive(Default)]
pub(crate) struct Deadline {
    cpu: Duration,
    wall: Duration,
    /// CPU and wall time at the first tick: reading the CPU clock is a system call, and most calls
    /// are over before a tick comes.
    first_tick: Option<(Duration, Duration)>,
}

impl Deadline {
    pub(crate) fn start(&mut self, cpu: Duration, wall: Duration) {
        *self = Self { cpu, wall, first_tick: None };
    }

    /// Called about once a [`crate::limits::TICK`] while the plugin runs.
    pub(crate) fn tick(&mut self) -> Result<(), Stop> {
        let (cpu, wall) = (thread_cpu(), monotonic());
        let &mut (cpu_start, wall_start) = self.first_tick.get_or_insert((cpu, wall));
        if cpu.saturating_sub(cpu_start) >= self.cpu {
            let text = "the call used up its CPU time";
            return Err(Stop { kind: FaultKind::CpuDeadline, text });
        }
        if wall.saturating_sub(wall_start) >= self.wall {
            let text = "the call used up its wall time";
            return Err(Stop { kind: FaultKind::WallDeadline, text });
        }
        Ok(())
    }
}

/// Memory and tables of one Store.
pub(crate) struct Resources {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    /// Some memory was refused since the instance exists.
    pub(crate) memory_was_refused: bool,
}

impl Resources {
    fn new(memory_bytes_max: usize) -> Self {
        Self { memory_bytes: 0, memory_bytes_max, table_elements: 0, memory_was_refused: false }
    }
}

impl ResourceLimiter for Resources {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes + desired.saturating_sub(current);
        if total > self.memory_bytes_max {
            self.memory_was_refused = true;
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements + desired.saturating_sub(current);
        if total > TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
