//! What the models of frames share: orderings that can be weakened, words, and memory that sees races.

use std::panic;

use loom::model::Builder;

/// Loom's atomics, but that one kind of access is Relaxed where a test says so.
///
/// The production files take their atomics from `crate::atomic`; in a model that is this module.
pub mod atomic {
    use std::cell::Cell;

    use loom::sync::atomic;
    pub use loom::sync::atomic::Ordering;

    /// An access to a word: by which operation, with which ordering.
    pub type Access = (&'static str, Ordering);

    std::thread_local! {
        /// Loom runs the threads of a model one after another in the thread of the test.
        pub static WEAKENED: Cell<Option<Access>> = const { Cell::new(None) };
    }

    fn ordering(operation: &'static str, asked: Ordering) -> Ordering {
        if WEAKENED.get() == Some((operation, asked)) { Ordering::Relaxed } else { asked }
    }

    /// A step that writes, and the fence behind it that stands for `SeqCst` in loom.
    fn step<R>(operation: &'static str, asked: Ordering, write: impl FnOnce(Ordering) -> R) -> R {
        match ordering(operation, asked) {
            Ordering::SeqCst => {
                let result = write(Ordering::AcqRel);
                atomic::fence(Ordering::SeqCst);
                result
            }
            other => write(other),
        }
    }

    /// Loom's, or none where a test weakens it.
    pub fn fence(asked: Ordering) {
        if ordering("fence", asked) != Ordering::Relaxed {
            atomic::fence(asked);
        }
    }

    #[derive(Debug)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, asked: Ordering) -> u64 {
            self.0.load(match ordering("load", asked) {
                Ordering::SeqCst => Ordering::Acquire,
                other => other,
            })
        }

        pub fn store(&self, value: u64, asked: Ordering) {
            self.0.store(value, ordering("store", asked));
        }

        pub fn swap(&self, value: u64, asked: Ordering) -> u64 {
            step("swap", asked, |ordering| self.0.swap(value, ordering))
        }

        pub fn fetch_or(&self, bits: u64, asked: Ordering) -> u64 {
            step("fetch_or", asked, |ordering| self.0.fetch_or(bits, ordering))
        }

        pub fn fetch_and(&self, bits: u64, asked: Ordering) -> u64 {
            step("fetch_and", asked, |ordering| self.0.fetch_and(bits, ordering))
        }

        pub fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
            step("compare_exchange", success, |success| self.0.compare_exchange(old, new, success, failure))
        }
    }
}

/// So many words, all zero, for an execution of the model; leaked.
pub fn storage(words: usize) -> &'static [atomic::AtomicU64] {
    Box::leak((0..words).map(|_| atomic::AtomicU64::new(0)).collect())
}

/// A cell of loom's for each frame, which finds who reaches it at the same time, or without having seen what was done
/// to it before.
pub struct Shadow(Vec<loom::cell::UnsafeCell<()>>);

// SAFETY: the cells hold nothing; loom watches who enters them.
unsafe impl Sync for Shadow {}
// SAFETY: as above.
unsafe impl Send for Shadow {}

impl Shadow {
    pub fn new(frames: usize) -> Self {
        Self((0..frames).map(|_| loom::cell::UnsafeCell::new(())).collect())
    }

    /// As if this thread wrote to the frame.
    pub fn write(&self, frame: usize) {
        self.0[frame].with_mut(|_| ());
    }
}

/// Runs `model` in every order with at most `preemptions` switches away from a thread that could go on.
pub fn check(preemptions: Option<usize>, model: fn()) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Runs `model` with one access weakened: it must fail, by a race that loom sees or by what the model says is lost.
pub fn fails_without(weakened: atomic::Access, preemptions: Option<usize>, model: fn()) {
    atomic::WEAKENED.set(Some(weakened));
    let failure = panic::catch_unwind(|| check(preemptions, model));
    atomic::WEAKENED.set(None);
    let failure = failure.expect_err("the model holds without this ordering");
    let text = failure.downcast_ref::<String>().map_or("", String::as_str);
    assert!(text.contains("Causality violation") || text.contains("lost"), "another failure: {text}");
}
