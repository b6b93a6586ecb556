//! Benchmarks: a load generator, and a table that compares brokers by it.
//! What must not live here: tests, and anything that a broker links.

#![allow(
    unsafe_code,
    reason = "epoll and the clock, called once per event and not once per library layer"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its reports")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and clocks of short runs; a wrong figure is seen, a panic would end the run"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "kinds of input and output errors")]

pub mod loadgen;
pub mod table;
