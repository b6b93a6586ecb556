//! Log-linear latency histogram: 64 linear sub-buckets per power of two, less than 1.6 % error.
//! What must not live here: units.

#[derive(Clone)]
pub(crate) struct Hist {
    b: Vec<u64>,
    pub(crate) n: u64,
    pub(crate) max: u64,
    pub(crate) sum: u128,
}
const SUB: u32 = 6;
impl Default for Hist {
    fn default() -> Self {
        Hist { b: vec![0; 64 << SUB], n: 0, max: 0, sum: 0 }
    }
}
fn idx(v: u64) -> usize {
    if v < (1 << SUB) {
        return v as usize;
    }
    let e = 63 - v.leading_zeros();
    let shift = e - SUB;
    (((shift + 1) as usize) << SUB) + ((v >> shift) as usize & ((1 << SUB) - 1))
}
fn low(i: usize) -> u64 {
    let s = i >> SUB;
    let r = (i & ((1 << SUB) - 1)) as u64;
    if s == 0 { r } else { ((1 << SUB) + r) << (s - 1) }
}
impl Hist {
    #[inline]
    pub(crate) fn add(&mut self, v: u64) {
        let i = idx(v);
        self.b[i] += 1;
        self.n += 1;
        self.sum += v as u128;
        if v > self.max {
            self.max = v;
        }
    }
    pub(crate) fn merge(&mut self, o: &Hist) {
        for (a, b) in self.b.iter_mut().zip(&o.b) {
            *a += *b;
        }
        self.n += o.n;
        self.sum += o.sum;
        self.max = self.max.max(o.max);
    }
    pub(crate) fn pct(&self, p: f64) -> u64 {
        if self.n == 0 {
            return 0;
        }
        let want = ((self.n as f64) * p / 100.0).ceil() as u64;
        let mut c = 0;
        for (i, v) in self.b.iter().enumerate() {
            c += v;
            if c >= want.max(1) {
                return low(i + 1).min(self.max);
            }
        }
        self.max
    }
    pub(crate) fn mean(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.sum as f64 / self.n as f64 }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn percentiles() {
        let mut h = Hist::default();
        for i in 1..=100_000u64 {
            h.add(i);
        }
        for p in [1.0, 50.0, 99.0, 99.9] {
            let want = 1000.0 * p;
            let got = h.pct(p) as f64;
            assert!((got - want).abs() / want < 0.02, "{p} {got}");
        }
        assert_eq!(h.pct(100.0), 100_000);
    }
}
