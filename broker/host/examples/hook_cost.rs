//! Prints what one call of each hook costs, and how long misbehaving plugins take to be stopped.
//! What must not live here: a verdict; figures depend on the machine, ratios less so.
//!
//! `cargo run --release -p wasmqtt-host --example hook_cost`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use wasmqtt_core::hook::{
    AccessAction, AuthenticateRequest, AuthorizeRequest, ConnectionFacts, OnPublishRequest,
    Principal,
};
use wasmqtt_core::message::{MessageRef, QoS};
use wasmqtt_core::reason::Version;
use wasmqtt_core::time::Millis;
use wasmqtt_host::active::{ActivePlugins, OnFault, PluginSetup};
use wasmqtt_host::engine::Engine;
use wasmqtt_host::limits::Limits;
use wasmqtt_host::manifest::Hook;
use wasmqtt_host::plugin::Plugin;
use wasmqtt_host::services::Services;

const COST: &str = "fixtures/cost/cost";
const MISBEHAVE: &str = "fixtures/misbehave/misbehave";
const ROUNDS: u32 = 7;

struct Bench {
    engine: Engine,
    connection: Arc<ConnectionFacts>,
    principal: Arc<Principal>,
}

fn main() {
    let bench = Bench {
        engine: Engine::new().unwrap(),
        connection: Arc::new(ConnectionFacts {
            tenant: Arc::from("default"),
            client_id: Arc::from("device-000017"),
            username: Some(Box::from("alice")),
            listener: Arc::from("mqtt"),
            peer: Box::from("127.0.0.1:50000"),
            version: Version::V5,
            clean_start: true,
            keep_alive_seconds: 60,
            tls: None,
        }),
        principal: Arc::new(Principal::default()),
    };
    bench.loading();
    let cost = bench.load(COST);
    println!("calls, best of {ROUNDS} rounds, CPU time");
    for mode in ["pass", "client-id", "ttl", "clock", "kv"] {
        bench.authorize(&cost, mode);
    }
    let own_topics = bench.load("own-topics/own-topics");
    bench.authorize_with("authorize, own-topics", &own_topics, json!({}));
    for mode in ["pass", "client-id"] {
        bench.authenticate(&cost, mode);
    }
    for (mode, payload) in [
        ("pass", 16),
        ("topic", 16),
        ("topic", 65_536),
        ("set-topic", 16),
        ("payload", 16),
        ("payload", 1_024),
        ("payload", 65_536),
        ("set-payload", 16),
        ("set-payload", 65_536),
    ] {
        let text = format!("on-publish, {mode}, {payload} bytes");
        bench.on_publish(&text, &cost, json!({"mode": mode}), &vec![b'x'; payload]);
    }
    let stamp = bench.load("json-stamp/json-stamp");
    bench.on_publish("on-publish, json-stamp, 11 bytes", &stamp, json!({}), b"{\"t\":21.50}");
    bench.fresh_instances(&cost);
    bench.misbehaving();
}

impl Bench {
    fn load(&self, name: &str) -> Arc<Plugin> {
        Plugin::load(&self.engine, &component(name)).unwrap()
    }

    fn activate(
        &self,
        plugin: &Arc<Plugin>,
        config: serde_json::Value,
        limits: Limits,
    ) -> ActivePlugins {
        let name: Arc<str> = Arc::from("plugin");
        let setup = PluginSetup {
            name: Arc::clone(&name),
            plugin: Arc::clone(plugin),
            config,
            on_fault: OnFault::Refuse,
            limits,
            tenant: Arc::from("default"),
            topics: None,
        };
        let chain = plugin.hooks().contains(&Hook::OnPublish).then_some(name);
        ActivePlugins::activate(&Services::new(), vec![setup], chain.as_slice()).unwrap()
    }

    fn loading(&self) {
        let bytes = component(COST);
        println!("loading a plugin of {} KiB, wall time", bytes.len() >> 10);
        let once = |text: &str, engine: &Engine| {
            let start = Instant::now();
            Plugin::load(engine, &bytes).unwrap();
            println!("  {text:<44} {:>10.2?}", start.elapsed());
        };
        once("compiled", &self.engine);
        let directory = std::env::temp_dir().join(format!("hook-cost-{}", std::process::id()));
        let cached = Engine::with_code_cache(&directory).unwrap();
        once("compiled and cached", &cached);
        once("from the cache", &cached);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    fn authorize(&self, plugin: &Arc<Plugin>, mode: &str) {
        self.authorize_with(&format!("authorize, {mode}"), plugin, json!({"mode": mode}));
    }

    fn request(&self) -> AuthorizeRequest<'_> {
        AuthorizeRequest {
            connection: &self.connection,
            principal: &self.principal,
            action: AccessAction::Publish,
            topic: "devices/device-000017/temperature",
            qos: QoS::AtLeastOnce,
            retain: false,
            payload_length: 16,
        }
    }

    fn authorize_with(&self, text: &str, plugin: &Arc<Plugin>, config: serde_json::Value) {
        let active = self.activate(plugin, config, Limits::default());
        let index = active.find("plugin", Hook::Authorize).unwrap();
        let mut worker = active.worker();
        measure(text, 50_000, || {
            drop(worker.authorize(index, &self.request()));
        });
    }

    fn authenticate(&self, plugin: &Arc<Plugin>, mode: &str) {
        let active = self.activate(plugin, json!({"mode": mode}), Limits::default());
        let index = active.find("plugin", Hook::Authenticate).unwrap();
        let connection = Arc::clone(&self.connection);
        let password = Some(Box::from(&b"a password"[..]));
        let request = AuthenticateRequest { connection, password };
        measure(&format!("authenticate, {mode}"), 20_000, || {
            drop(active.authenticate(index, &request));
        });
    }

    fn on_publish(
        &self,
        text: &str,
        plugin: &Arc<Plugin>,
        config: serde_json::Value,
        payload: &[u8],
    ) {
        let active = self.activate(plugin, config, Limits::default());
        let mut worker = active.worker();
        let message = MessageRef {
            topic: "devices/device-000017/temperature",
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: &[],
            expires_at: Millis::NEVER,
            publisher: None,
        };
        let calls = if payload.len() > 10_000 { 5_000 } else { 50_000 };
        measure(text, calls, || {
            let chain = worker.chain_mask(message.topic);
            let (connection, principal) = (&self.connection, &self.principal);
            drop(worker.on_publish(&OnPublishRequest { connection, principal, chain, message }));
        });
    }

    fn fresh_instances(&self, plugin: &Arc<Plugin>) {
        let active = self.activate(plugin, json!({}), Limits::default());
        let index = active.find("plugin", Hook::Authorize).unwrap();
        measure("fresh instance with init", 500, || drop(active.worker()));
        measure("fresh instance with init, and authorize", 500, || {
            drop(active.worker().authorize(index, &self.request()));
        });
        let before = resident_kib();
        let workers: Vec<_> = (0..1_000).map(|_| active.worker()).collect();
        let each = (resident_kib() - before) as f64 / workers.len() as f64;
        println!("  {:<44} {each:>10.1} KiB", "memory of an instance");
    }

    fn misbehaving(&self) {
        println!("misbehaving plugins: one authorize, then the next one (fresh instance)");
        let plugin = self.load(MISBEHAVE);
        for mode in ["loop", "alloc", "recurse", "panic", "log-flood", "denial-low", "long-reason"]
        {
            let active = self.activate(&plugin, json!({"mode": mode}), Limits::default());
            let index = active.find("plugin", Hook::Authorize).unwrap();
            let mut worker = active.worker();
            let mut line = format!("  {mode:<12}");
            for _ in 0..2 {
                let (wall, cpu) = (Instant::now(), thread_cpu());
                drop(worker.authorize(index, &self.request()));
                let (wall, cpu) = (wall.elapsed(), thread_cpu().saturating_sub(cpu));
                line += &format!(" {:>8.3} ms wall {:>8.3} ms CPU", ms(wall), ms(cpu));
            }
            println!("{line}  {:?}", active.stats()[0].hooks[1].faults);
        }
    }
}

fn component(name: &str) -> Vec<u8> {
    let plugins = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    std::fs::read(plugins.join(format!("{name}.wasm"))).unwrap()
}

fn measure(text: &str, calls: u32, mut call: impl FnMut()) {
    let round = |_| {
        let start = thread_cpu();
        for _ in 0..calls {
            call();
        }
        thread_cpu().saturating_sub(start)
    };
    let best = (0..ROUNDS).map(round).min().unwrap_or_default();
    println!("  {text:<44} {:>10.0} ns", best.as_nanos() as f64 / f64::from(calls));
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn resident_kib() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4
}
