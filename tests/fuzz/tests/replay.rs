//! The corpora once more, and all that is one byte short of them.
//! What must not live here: what must hold.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::PathBuf;

use wasmqtt_fuzz::{TARGETS, Target};

/// Fewer would be a corpus that was lost.
const INPUTS_MIN: usize = 15;

#[test]
fn every_target_holds_for_its_corpus() {
    for Target { name, run } in TARGETS {
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{name}: {error}"));
        let inputs: Vec<Vec<u8>> =
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(inputs.len() >= INPUTS_MIN, "{name}: only {} inputs", inputs.len());
        for input in &inputs {
            run(input);
            run(&input[..input.len().saturating_sub(1)]);
        }
    }
}
