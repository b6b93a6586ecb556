//! The event trace of one seed, written only when it is run again after a failure.
//! What must not live here: anything that a run depends on.

/// Appends a line to `trace` of `$owner`, if one is kept; formats nothing otherwise.
#[macro_export]
macro_rules! trace {
    ($owner:expr, $($format:tt)*) => {
        if let Some(trace) = &mut $owner.trace {
            trace.push(format!($($format)*));
        }
    };
}
