//! The load generator as a command; `--help` says what it can do.
//! What must not live here: anything but the call.

fn main() {
    wasmqtt_bench::loadgen::main(std::env::args().skip(1));
}
