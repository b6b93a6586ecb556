//! What a thread asks of the allocator: the sum of all it ever asked for.
//! What must not live here: what is too much.
#![allow(unsafe_code, reason = "an allocator is told so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is done by the system's allocator; counting touches a number of this thread, which is
// neither allocated nor dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes that `run` asked for, freed since or not.
pub(crate) fn during(run: impl FnOnce()) -> usize {
    let before = BYTES.get();
    run();
    BYTES.get().wrapping_sub(before)
}
