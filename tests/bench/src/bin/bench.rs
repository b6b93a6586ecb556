//! The table of benchmarks as one command; `--help` says what it can do.
//! What must not live here: anything but the call.

fn main() -> std::process::ExitCode {
    wasmqtt_bench::table::main(std::env::args().skip(1).collect())
}
