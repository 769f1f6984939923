//! A seam for models of whole allocators: atomics and cells that lie in plain memory, and loom's in their place beside it.
//!
//! ```text
//!   production file ── terrace_sync::atomic, ::cell ──▶ this module, which the model's root names `terrace_sync`
//!        its memory, as large as in production, zeroed or not     │ by address
//!                                                                 ▼
//!                                              an atomic, a cell of loom's      made anew for each execution
//! ```
//!
//! Loom's own types are made one by one and are larger than what they stand for; slots that begin as zeroed memory, or an
//! atomic in a table that the backing gave, cannot be such. Here every access goes by its address to one of loom's, which
//! decides what is seen, and whether two accesses race. Atomics begin with zero. Outside of a model they are core's.
//!
//! Loom cannot order a store behind another thread's exchange that failed to lock, and lets that one be read for ever. So a store
//! to an `AtomicBool` is an exchange here, whose answer nobody looks at.
//!
//! A test names a line of a production file and an ordering: there it is Relaxed, and the model must fail.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic,
    rc::Rc,
};

use loom::model::Builder;

/// As many atomics as any model here touches; made by the first thread, before the others are.
const ATOMICS: usize = 96;

#[derive(Default)]
struct World {
    running: bool,
    atomics: HashMap<usize, Rc<loom::sync::atomic::AtomicUsize>>,
    spare: Vec<Rc<loom::sync::atomic::AtomicUsize>>,
    cells: HashMap<usize, Rc<loom::cell::UnsafeCell<()>>>,
}

std::thread_local! {
    /// Loom runs the threads of a model one after another in the thread of the test.
    static WORLD: RefCell<World> = RefCell::default();
    static WEAKENED: Cell<Option<Weakened>> = const { Cell::new(None) };
    static MET: Cell<bool> = const { Cell::new(false) };
    static LINES: RefCell<HashMap<&'static str, Vec<String>>> = RefCell::default();
}

/// A piece of a line of a production file, and the ordering that is taken away there. Where the function says `track_caller` the
/// line is not known, and the operation is named instead: `AtomicPtr::swap`.
pub type Weakened = (&'static str, Ordering);

pub use loom::sync::atomic::Ordering;

/// `None`: no model is running.
fn atomic_at(address: usize) -> Option<Rc<loom::sync::atomic::AtomicUsize>> {
    WORLD.with_borrow_mut(|World { running, atomics, spare, .. }| {
        let taken = || spare.pop().expect("no more atomics than a model has");
        running.then(|| Rc::clone(atomics.entry(address).or_insert_with(taken)))
    })
}

/// The cell of the 8 bytes at `address`; the access that makes it is the first. `None`: no model is running.
fn cell_at(address: usize) -> Option<Rc<loom::cell::UnsafeCell<()>>> {
    let make = || Rc::new(loom::cell::UnsafeCell::new(()));
    WORLD.with_borrow_mut(|World { running, cells, .. }| {
        running.then(|| Rc::clone(cells.entry(address / 8).or_insert_with(make)))
    })
}

/// As if this thread wrote to these bytes.
#[allow(dead_code, reason = "each model uses its part")]
pub fn write(start: usize, len: usize) {
    for granule in start / 8..(start + len).div_ceil(8) {
        cell_at(granule * 8).expect("in a model").with_mut(|_| ());
    }
}

/// What is asked, or Relaxed where a test takes it away.
#[track_caller]
fn ordering(what: &str, asked: Ordering) -> Ordering {
    let place = panic::Location::caller();
    match WEAKENED.get() {
        Some((text, ordering)) if ordering == asked && (what == text || line_of(place).contains(text)) => {
            MET.set(true);
            Ordering::Relaxed
        }
        _ => asked,
    }
}

fn line_of(place: &'static panic::Location<'static>) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let read = || {
        let text = std::fs::read_to_string(format!("{root}{}", place.file())).expect("the source of the model");
        text.lines().map(String::from).collect()
    };
    LINES.with_borrow_mut(|lines| lines.entry(place.file()).or_insert_with(read)[place.line() as usize - 1].clone())
}

pub mod atomic {
    //! The atomics of `core` by name and size, loom's by what they do.

    use super::{atomic_at, ordering};

    pub use loom::sync::atomic::Ordering;

    macro_rules! shim {
        ($name:ident $(<$t:ident>)?, $value:ty, $to:expr, $from:expr) => {
            #[derive(Debug)]
            #[repr(transparent)]
            pub struct $name$(<$t>)?(core::cell::UnsafeCell<$value>);

            // SAFETY: the memory is only looked at for its address.
            unsafe impl$(<$t>)? Send for $name$(<$t>)? {}
            // SAFETY: as above.
            unsafe impl$(<$t>)? Sync for $name$(<$t>)? {}

            #[allow(dead_code, reason = "each model uses its part")]
            impl$(<$t>)? $name$(<$t>)? {
                /// Of zero, null or false.
                pub const fn new(zero: $value) -> Self {
                    Self(core::cell::UnsafeCell::new(zero))
                }

                fn loom(&self) -> Option<std::rc::Rc<loom::sync::atomic::AtomicUsize>> {
                    atomic_at(self.0.get().addr())
                }

                /// For who has no model: a test of a single thread in a production file.
                fn plain(&self) -> &core::sync::atomic::$name$(<$t>)? {
                    // SAFETY: in the memory of `self`; no model is running, so nothing else reaches it.
                    unsafe { core::sync::atomic::$name::from_ptr(self.0.get()) }
                }

                #[track_caller]
                pub fn load(&self, asked: Ordering) -> $value {
                    let asked = ordering(concat!(stringify!($name), "::load"), asked);
                    self.loom().map_or_else(|| self.plain().load(asked), |loom| $from(loom.load(asked)))
                }

                #[track_caller]
                pub fn store(&self, value: $value, asked: Ordering) {
                    let asked = ordering(concat!(stringify!($name), "::store"), asked);
                    match self.loom() {
                        Some(loom) if size_of::<$value>() == 1 => _ = loom.swap($to(value), asked),
                        Some(loom) => loom.store($to(value), asked),
                        None => self.plain().store(value, asked),
                    }
                }

                #[track_caller]
                pub fn swap(&self, value: $value, asked: Ordering) -> $value {
                    let asked = ordering(concat!(stringify!($name), "::swap"), asked);
                    self.loom().map_or_else(|| self.plain().swap(value, asked), |loom| $from(loom.swap($to(value), asked)))
                }

                #[track_caller]
                pub fn compare_exchange(
                    &self, old: $value, new: $value, success: Ordering, failure: Ordering,
                ) -> Result<$value, $value> {
                    let what = concat!(stringify!($name), "::compare_exchange");
                    let (success, failure) = (ordering(what, success), ordering(what, failure));
                    match self.loom() {
                        Some(loom) => {
                            loom.compare_exchange($to(old), $to(new), success, failure).map($from).map_err($from)
                        }
                        None => self.plain().compare_exchange(old, new, success, failure),
                    }
                }

                /// Never fails without a reason: loom tries every order anyway.
                #[track_caller]
                pub fn compare_exchange_weak(
                    &self, old: $value, new: $value, success: Ordering, failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(old, new, success, failure)
                }
            }
        };
    }

    shim!(AtomicBool, bool, usize::from, |value| value != 0);
    shim!(AtomicUsize, usize, |value| value, |value| value);
    shim!(AtomicU64, u64, |value| value as usize, |value| value as u64);
    #[allow(dead_code, reason = "each model uses its part")]
    impl AtomicU64 {
        #[track_caller]
        pub fn fetch_or(&self, bits: u64, asked: Ordering) -> u64 {
            let asked = ordering("AtomicU64::fetch_or", asked);
            match self.loom() {
                Some(loom) => loom.fetch_or(bits as usize, asked) as u64,
                None => self.plain().fetch_or(bits, asked),
            }
        }

        #[track_caller]
        pub fn fetch_and(&self, bits: u64, asked: Ordering) -> u64 {
            let asked = ordering("AtomicU64::fetch_and", asked);
            match self.loom() {
                Some(loom) => loom.fetch_and(bits as usize, asked) as u64,
                None => self.plain().fetch_and(bits, asked),
            }
        }
    }

    shim!(AtomicPtr<T>, *mut T, |value: *mut T| value.expose_provenance(), core::ptr::with_exposed_provenance_mut);
}

pub mod cell {
    //! `UnsafeCell` as large as in production, whose accesses loom hears of.

    use super::cell_at;

    #[derive(Debug)]
    #[repr(transparent)]
    pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    #[allow(dead_code, reason = "each model uses its part")]
    impl<T> UnsafeCell<T> {
        pub const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            if let Some(cell) = cell_at(self.0.get().addr()) {
                cell.with(|_| ());
            }
            read(self.0.get())
        }

        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            if let Some(cell) = cell_at(self.0.get().addr()) {
                cell.with_mut(|_| ());
            }
            write(self.0.get())
        }
    }
}

/// Runs `model` in every order with at most `preemptions` switches away from a thread that could go on.
pub fn check(preemptions: Option<usize>, model: fn()) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(move || {
        let make = |_| Rc::new(loom::sync::atomic::AtomicUsize::new(0));
        WORLD.set(World { running: true, spare: (0..ATOMICS).map(make).collect(), ..World::default() });
        model();
        drop(WORLD.take());
    });
}

/// Runs `model` with one ordering taken away: it must fail, and say so by one of `texts`.
pub fn fails_without(weakened: Weakened, texts: &[&str], preemptions: Option<usize>, model: fn()) {
    WEAKENED.set(Some(weakened));
    let failure = panic::catch_unwind(|| check(preemptions, model));
    WEAKENED.set(None);
    assert!(MET.get(), "no access was weakened: the line is another");
    let failure = failure.expect_err("the model holds without this ordering");
    let text = failure.downcast_ref::<String>().map_or("", String::as_str);
    let text = failure.downcast_ref::<&str>().unwrap_or(&text);
    assert!(texts.iter().any(|expected| text.contains(expected)), "another failure: {text}");
}

/// What loom says of two accesses that race.
#[allow(dead_code, reason = "each model uses its part")]
pub const RACE: &[&str] = &["Causality violation"];
