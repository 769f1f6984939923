//! What the models of heap share: orderings that can be weakened, and memory that sees races.

use std::panic;

use loom::model::Builder;

/// Loom's atomics, but that one kind of access is Relaxed where a test says so.
///
/// The production file takes its atomics from `crate::atomic`; in a model that is this module. A test names an
/// access, runs the model, and expects it to fail: so the ordering is needed, and the model sees it.
pub mod atomic {
    use std::cell::Cell;

    pub use loom::sync::atomic::Ordering;

    /// An access to an atomic: of which type, by which operation, with which ordering.
    pub type Access = (&'static str, &'static str, Ordering);

    std::thread_local! {
        /// Loom runs the threads of a model one after another in the thread of the test.
        pub static WEAKENED: Cell<Option<Access>> = const { Cell::new(None) };
    }

    fn ordering(kind: &'static str, operation: &'static str, asked: Ordering) -> Ordering {
        if WEAKENED.get() == Some((kind, operation, asked)) { Ordering::Relaxed } else { asked }
    }

    macro_rules! shim {
        ($name:ident $(<$t:ident>)?, $value:ty) => {
            #[derive(Debug)]
            pub struct $name$(<$t>)?(loom::sync::atomic::$name$(<$t>)?);

            #[allow(dead_code, reason = "each model uses its part")]
            impl$(<$t>)? $name$(<$t>)? {
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub fn load(&self, asked: Ordering) -> $value {
                    self.0.load(ordering(stringify!($name), "load", asked))
                }

                pub fn store(&self, value: $value, asked: Ordering) {
                    self.0.store(value, ordering(stringify!($name), "store", asked))
                }

                pub fn swap(&self, value: $value, asked: Ordering) -> $value {
                    self.0.swap(value, ordering(stringify!($name), "swap", asked))
                }

                pub fn compare_exchange(
                    &self, old: $value, new: $value, success: Ordering, failure: Ordering,
                ) -> Result<$value, $value> {
                    let success = ordering(stringify!($name), "compare_exchange", success);
                    let failure = ordering(stringify!($name), "compare_exchange failure", failure);
                    self.0.compare_exchange(old, new, success, failure)
                }

                pub fn compare_exchange_weak(
                    &self, old: $value, new: $value, success: Ordering, failure: Ordering,
                ) -> Result<$value, $value> {
                    let success = ordering(stringify!($name), "compare_exchange_weak", success);
                    self.0.compare_exchange_weak(old, new, success, failure)
                }
            }
        };
    }

    shim!(AtomicUsize, usize);
    shim!(AtomicPtr<T>, *mut T);

    #[allow(dead_code, reason = "each model uses its part")]
    impl AtomicUsize {
        pub fn fetch_or(&self, bits: usize, asked: Ordering) -> usize {
            self.0.fetch_or(bits, ordering("AtomicUsize", "fetch_or", asked))
        }
    }
}

/// Bytes in granules of 8, each with a cell of loom's that finds who reaches it at the same time, or without having
/// seen what was done to it before.
pub struct Shadow {
    origin: usize,
    granules: Vec<loom::cell::UnsafeCell<()>>,
}

// SAFETY: the cells hold nothing; loom watches who enters them.
unsafe impl Sync for Shadow {}
// SAFETY: as above.
unsafe impl Send for Shadow {}

impl Shadow {
    pub fn new(origin: usize, len: usize) -> Self {
        Self { origin, granules: (0..len.div_ceil(8)).map(|_| loom::cell::UnsafeCell::new(())).collect() }
    }

    /// As if this thread wrote to the block.
    pub fn write(&self, start: usize, len: usize) {
        let start = start.checked_sub(self.origin).expect("inside the memory");
        for granule in start / 8..(start + len).div_ceil(8) {
            self.granules[granule].with_mut(|_| ());
        }
    }
}

/// Runs `model` in every order with at most `preemptions` switches away from a thread that could go on.
pub fn check(preemptions: Option<usize>, model: fn()) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

/// Runs `model` with one access weakened: it must fail, by a race that loom sees.
pub fn fails_without(weakened: atomic::Access, preemptions: Option<usize>, model: fn()) {
    atomic::WEAKENED.set(Some(weakened));
    let failure = panic::catch_unwind(|| check(preemptions, model));
    atomic::WEAKENED.set(None);
    let failure = failure.expect_err("the model holds without this ordering");
    let text = failure.downcast_ref::<String>().map_or("", String::as_str);
    assert!(text.contains("Causality violation"), "another failure: {text}");
}

/// The blocks that are live, so that two of them never share a byte.
#[derive(Default)]
pub struct Live(std::sync::Mutex<Vec<(usize, usize)>>);

impl Live {
    pub fn begins(&self, start: usize, len: usize) {
        let mut live = self.0.lock().unwrap();
        let apart = live.iter().all(|&(other, other_len)| start + len <= other || other + other_len <= start);
        assert!(apart, "two live blocks overlap");
        live.push((start, len));
    }

    pub fn ends(&self, start: usize) {
        self.0.lock().unwrap().retain(|&(other, _)| other != start);
    }
}
