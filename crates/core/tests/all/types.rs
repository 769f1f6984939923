//! Which types go to other threads, which can be cloned: what a field added later could change unnoticed.

use std::{
    alloc::{GlobalAlloc, System},
    marker::PhantomData,
    rc::Rc,
    sync::Arc,
};

use terrace_core::{
    Access, Alignment, AllocError, AllocStats, Allocator, Api2Backing, AsGlobal, Bridge, GlobalBacking, ResetMode,
    SystemAllocator,
};

use crate::strict::Strict;

/// Whether a type implements a trait: where `Of` has the answer itself, that hides the trait's.
macro_rules! implements {
    ($type:ty: $trait:path) => {{
        struct Of<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "one of the two answers is hidden by the other or has no such type")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for Of<T> {}
        impl<T: ?Sized + $trait> Of<T> {
            #[allow(dead_code, reason = "as above")]
            const ANSWER: bool = true;
        }
        <Of<$type>>::ANSWER
    }};
}

/// Send, Sync and Clone, as three letters; a dash where not.
macro_rules! table {
    ($($type:ty => $expected:literal,)+) => {$(
        let answers = [(implements!($type: Send), 'S'), (implements!($type: Sync), 'Y'), (implements!($type: Clone), 'C')];
        let found: String = answers.map(|(yes, letter)| if yes { letter } else { '-' }).iter().collect();
        assert_eq!(found, $expected, stringify!($type));
    )+};
}

/// A `GlobalAlloc` of one thread.
type Lone = dyn GlobalAlloc;
type Anywhere = dyn GlobalAlloc + Send + Sync;

#[test]
fn threads_and_clones() {
    table! {
        AllocError => "SYC",
        Alignment => "SYC",
        AllocStats => "SYC",
        ResetMode => "SYC",
        Access => "SYC",
        SystemAllocator => "SYC",
        GlobalBacking<System> => "SYC",
        GlobalBacking<Anywhere> => "SYC",
        GlobalBacking<Lone> => "--C", // Two threads would call it at once.
        Bridge<SystemAllocator> => "SYC",
        Bridge<Strict> => "---", // An owned allocator: a clone could not free its blocks (clause 9).
        Bridge<&'static Strict> => "--C",
        Bridge<&'static mut Strict> => "---",
        Bridge<Rc<Strict>> => "--C",
        Bridge<Arc<Strict>> => "--C", // An `Arc` does not make it one for many threads.
        Bridge<Arc<SystemAllocator>> => "SYC",
        Bridge<Arc<dyn Allocator + Send + Sync>> => "SYC",
        Bridge<Box<dyn Allocator + Send>> => "S--",
        Api2Backing<allocator_api2_02::alloc::Global> => "SYC",
        Api2Backing<&'static bumpalo::Bump> => "--C",
        Api2Backing<Box<Bridge<Strict>>> => "---", // Owns its state, as theirs may: no clone, no other thread.
        AsGlobal<SystemAllocator> => "SY-",
        AsGlobal<Strict> => "---",
    }
}
