//! What one input may cost: bytes at a time, and time of the processor. Both hold on a busy machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rustix::time::{ClockId, clock_gettime};

/// Counts what a thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

#[expect(clippy::cast_possible_wrap, reason = "no layout is larger than isize::MAX")]
// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What reading an input may cost.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Bytes at a time for each byte of it, beside 256 KiB for whatever it holds.
    pub bytes_per_byte: usize,
}

const BYTES: usize = 256 << 10;
/// Nothing that is read here takes a hundredth of it.
const SECONDS: f64 = 1.0;

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Reads an input and sees that it cost no more than it may. What costs more is read once more: what is made once and kept (the patterns of
/// a country's phone numbers) is no cost of an input.
pub fn bounded<T>(bounds: Bounds, input: &[u8], read: impl Fn(&[u8]) -> T) -> T {
    let most = BYTES + bounds.bytes_per_byte * input.len();
    let (mut value, mut bytes, mut seconds) = measured(input, &read);
    if bytes > most || seconds > SECONDS {
        (value, bytes, seconds) = measured(input, &read);
    }
    assert!(bytes <= most, "{bytes} bytes for an input of {}", input.len());
    assert!(seconds <= SECONDS, "{seconds} s for an input of {}", input.len());
    value
}

fn measured<T>(input: &[u8], read: impl Fn(&[u8]) -> T) -> (T, usize, f64) {
    let before = HELD.get();
    MOST.set(before);
    let began = processor_seconds();
    let value = read(input);
    (value, usize::try_from(MOST.get() - before).unwrap_or(0), processor_seconds() - began)
}
