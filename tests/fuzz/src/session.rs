//! Whole workers with clients, stores and hooks, step by step as the bytes choose: the simulator's
//! promises hold. The first four bytes are the seed of everything that is not a step.
//! What must not live here: the promises (the simulator's model).

use crate::world;

pub(crate) fn run(bytes: &[u8]) {
    let Some((seed, choices)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let seed = u64::from(u32::from_le_bytes(*seed));
    if let Some(violation) = world::run_choices(seed, choices, false).violation {
        let trace = world::run_choices(seed, choices, true).trace;
        panic!("{violation} after\n{}", trace.join("\n"));
    }
}
