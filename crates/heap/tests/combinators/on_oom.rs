//! `OnOomAllocator`: when the hook is called, how often, and what it may do.

use std::{
    cell::{Cell, OnceCell, RefCell},
    process::{Command, Stdio},
    rc::{Rc, Weak},
};

use terrace_core::{Allocator, SystemAllocator};
use terrace_heap::{FailingAllocator, LimitAllocator, OnOomAllocator, OutOfMemory};

use crate::support::{Ground, align, len, slice};

#[test]
fn the_hook_is_asked_as_often_as_it_helps_and_no_more_than_it_may() {
    for (retries, helpful, granted, calls) in [(0, 9, false, 0), (3, 9, false, 3), (5, 2, false, 3), (5, 4, true, 4)] {
        let failing = FailingAllocator::new(SystemAllocator);
        failing.refuse_allocs(..4);
        let asked = Cell::new(0);
        let oom = OnOomAllocator::new(&failing, retries, |refused: &OutOfMemory| {
            assert_eq!(*refused, OutOfMemory { len: len(8), alignment: align(4), attempt: asked.get() });
            asked.set(asked.get() + 1);
            asked.get() <= helpful
        });
        let block = oom.alloc_zeroed(len(8), align(4));
        assert_eq!((block.is_ok(), asked.get()), (granted, calls), "{retries} retries");
        if let Ok(block) = block {
            // SAFETY: live, and not used again.
            unsafe { oom.free(slice(block, 8), align(4)) };
        }
    }
}

#[test]
fn a_refused_change_of_length_is_no_lack_of_memory() {
    let ground = Ground::default();
    let oom = OnOomAllocator::new(&ground, 5, |_: &OutOfMemory| -> bool { unreachable!("nobody lacks memory") });
    let block = oom.alloc(len(8), align(4)).unwrap();
    // SAFETY: live.
    assert!(!unsafe { oom.resize(slice(block, 8), align(4), len(800)) });
    // SAFETY: live.
    assert!(unsafe { oom.remap(slice(block, 8), align(4), len(800)) }.is_none());
    // SAFETY: live, and not used again.
    unsafe { oom.free(slice(block, 8), align(4)) };
}

type Above = OnOomAllocator<LimitAllocator<SystemAllocator>, Cache>;

/// Frees what it holds, through the very allocator that asks, and tries to get memory in between.
#[derive(Default)]
struct Cache {
    /// Weak, since this is a part of it.
    above: Rc<OnceCell<Weak<Above>>>,
    held: Rc<RefCell<Vec<usize>>>,
    calls: Rc<Cell<usize>>,
}

impl terrace_heap::Reclaim for Cache {
    fn reclaim(&self, _: &OutOfMemory) -> bool {
        self.calls.set(self.calls.get() + 1);
        let above = self.above.get().and_then(Weak::upgrade).unwrap();
        assert!(above.alloc(len(1000), align(1)).is_err(), "refused, without another call of this hook");
        let Some(block) = self.held.borrow_mut().pop() else { return false };
        let block = std::ptr::with_exposed_provenance_mut(block);
        let block = std::ptr::NonNull::new(block).unwrap();
        // SAFETY: live, and in nobody's hands now.
        unsafe { above.free(slice(block, 100), align(1)) };
        let small = above.alloc(len(10), align(1)).unwrap();
        // SAFETY: live, and not used again.
        unsafe { above.free(slice(small, 10), align(1)) };
        true
    }
}

#[test]
fn a_hook_frees_and_allocates_through_the_allocator_that_asks() {
    let cache = Cache::default();
    let (above, held, calls) = (Rc::clone(&cache.above), Rc::clone(&cache.held), Rc::clone(&cache.calls));
    let oom = Rc::new(OnOomAllocator::new(LimitAllocator::new(SystemAllocator, 500), 10, cache));
    assert!(above.set(Rc::downgrade(&oom)).is_ok());
    for _ in 0..5 {
        held.borrow_mut().push(oom.alloc(len(100), align(1)).unwrap().expose_provenance().get());
    }
    let large = oom.alloc(len(300), align(1)).unwrap();
    assert_eq!((calls.get(), held.borrow().len()), (3, 2));
    assert!(oom.alloc(len(600), align(1)).is_err());
    assert_eq!((calls.get(), held.borrow().len()), (6, 0), "two more blocks, and then there is nothing");
    // SAFETY: live, and not used again.
    unsafe { oom.free(slice(large, 300), align(1)) };
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn a_hook_that_panics_aborts() {
    if std::env::var_os("TERRACE_PANICKING_RECLAIM").is_some() {
        let limited = LimitAllocator::new(SystemAllocator, 0);
        let oom = OnOomAllocator::new(limited, 1, |_: &OutOfMemory| -> bool { panic!("the hook gave up") });
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| oom.alloc(len(1), align(1))));
        std::process::exit(0); // Not reached: an allocator does not unwind.
    }
    let itself = std::env::current_exe().unwrap();
    let mut child = Command::new(itself);
    child.args(["on_oom::a_hook_that_panics_aborts", "--exact", "--nocapture"]).env("TERRACE_PANICKING_RECLAIM", "1");
    let status = child.stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(!status.success());
}
