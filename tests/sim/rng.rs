//! Numbers from a seed, or from bytes as long as there are some: the only source of chance in the
//! simulator.
//! What must not live here: what is decided by them.

/// A small generator (splitmix64): the same seed gives the same run on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
    /// What is decided by bytes before the generator decides, the last first: a fuzzer that changes
    /// one of them changes one decision.
    choices: Vec<u8>,
}

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed, choices: Vec::new() }
    }

    pub(crate) fn with_choices(seed: u64, choices: &[u8]) -> Self {
        Self { state: seed, choices: choices.iter().rev().copied().collect() }
    }

    pub(crate) fn has_choices(&self) -> bool {
        !self.choices.is_empty()
    }

    /// A number below `bound`, which is not 0. It takes the fewest bytes that can tell them apart.
    fn draw(&mut self, bound: u64) -> u64 {
        if !self.has_choices() {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            return scramble(self.state) % bound;
        }
        let (mut value, mut left) = (0, bound - 1);
        while left > 0 {
            value = value << 8 | u64::from(self.choices.pop().unwrap_or(0));
            left >>= 8;
        }
        value % bound
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.draw(bound as u64) as usize
    }

    /// A number from `first` to `last`.
    pub(crate) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.draw(last - first + 1)
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.draw(100) < u64::from(percent)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn scramble(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number that depends on all parts: a decision that can be looked up again.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x5851_f42d_4c95_7f2d, |sum, part| scramble(sum.rotate_left(17) ^ part))
}

/// A text as a part of [`mix`].
pub(crate) fn text(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
