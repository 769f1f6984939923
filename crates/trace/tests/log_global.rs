//! A sink under the global allocator hears the program, not itself: what it allocates while it writes is
//! neither logged nor waits for its own lock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::OnceLock;

use terrace_core::Alignment;
use terrace_heap::{Call, CallOp, Sink};
use terrace_trace::{Header, Reader, Summary, TraceSink};

static SINK: OnceLock<TraceSink<Vec<u8>>> = OnceLock::new();

struct Logged;

fn tell(op: impl FnOnce(NonZeroUsize, Alignment) -> CallOp, layout: Layout) {
    let (Some(sink), Some(len)) = (SINK.get(), NonZeroUsize::new(layout.size())) else { return };
    let alignment = Alignment::new(layout.align()).unwrap();
    sink.record(&Call { op: op(len, alignment), site: Location::caller() });
}

// SAFETY: every call is the system's, unchanged; telling does not unwind.
unsafe impl GlobalAlloc for Logged {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on unchanged.
        let block = unsafe { System.alloc(layout) };
        let result = NonNull::new(block).ok_or(terrace_core::AllocError);
        tell(|len, alignment| CallOp::Alloc { len, alignment, zeroed: false, result }, layout);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let memory = NonNull::slice_from_raw_parts(NonNull::new(block).unwrap(), layout.size());
        tell(|_, alignment| CallOp::Free { memory, alignment }, layout);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GLOBAL: Logged = Logged;

#[test]
fn the_sink_does_not_hear_itself() {
    assert!(SINK.set(TraceSink::new(Vec::new(), Header::default()).unwrap()).is_ok());
    const BLOCKS: u64 = 40_000; // Enough for whole frames to be written and tables to grow.
    let boxes: Vec<Box<u64>> = (0..BLOCKS).map(Box::new).collect();
    std::thread::spawn(move || drop(boxes)).join().unwrap();
    let file = SINK.get().unwrap().finish().unwrap().unwrap();
    let sum = Summary::of_stream(Reader::from_bytes(file).unwrap().stream()).unwrap();
    // Beside the boxes: the vector, the thread, and the test harness, which runs at the same time.
    assert!((BLOCKS..BLOCKS + 1000).contains(&sum.allocs), "{}", sum.allocs);
    assert!(sum.cross_frees >= BLOCKS, "{}", sum.cross_frees);
    assert!(sum.frees <= sum.allocs + 1000);
}
