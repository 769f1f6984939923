//! Tests: every system call about nodes made to fail.

use std::{eprintln, vec::Vec};

use super::{ENOMEM, bytes};
use crate::{
    PageAllocator, PageOptions, Unavailable,
    numa::{self, MemoryPolicy, NumaUnavailable, Place},
    page_size,
    prim::fault::{Call, Session},
};

use core::ptr::NonNull;
use terrace_core::{Alignment, AllocError, Allocator};

/// Fresh pages.
struct Pages(NonNull<[u8]>);

impl Pages {
    fn new() -> Self {
        let start = PageAllocator.alloc(bytes(4 * page_size()), Alignment::ONE).expect("memory");
        Self(NonNull::slice_from_raw_parts(start, 4 * page_size()))
    }

    fn places(&self) -> Vec<Place> {
        let mut all = Vec::new();
        numa::places(self.0, |place| all.push(place)).expect("nothing is planned");
        all
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: live, and not used again.
        unsafe { PageAllocator.free(self.0, Alignment::ONE) };
    }
}

/// Whether this machine places pages on node 0 at all.
fn places_pages() -> bool {
    let tried = PageOptions::new().on_node(0).check();
    tried.inspect_err(|why| eprintln!("skipped: {why}")).is_ok()
}

#[test]
fn why_a_call_was_refused_is_told() {
    let session = Session::start();
    let pages = Pages::new();
    let refused = |call: Call, errno: i32| {
        session.fail(Some(call), .., errno);
        let why = match call {
            Call::Bind => numa::bind(pages.0, &MemoryPolicy::Preferred(0)).unwrap_err(),
            Call::SetPolicy => numa::set_policy(&MemoryPolicy::Preferred(0)).unwrap_err(),
            Call::GetPolicy => numa::policy().unwrap_err(),
            Call::MovePages => numa::places(pages.0, |_| {}).unwrap_err(),
            _ => numa::collapse(pages.0).unwrap_err(),
        };
        session.heal();
        why
    };
    for call in [Call::Bind, Call::SetPolicy, Call::GetPolicy, Call::MovePages, Call::Collapse] {
        assert_eq!(refused(call, libc::EPERM), NumaUnavailable::Permission);
        assert_eq!(refused(call, libc::ENOSYS), NumaUnavailable::Kernel);
        assert_eq!(refused(call, libc::EFAULT), NumaUnavailable::Range);
        assert_eq!(refused(call, ENOMEM), NumaUnavailable::Memory);
        let unknown = if call == Call::Collapse { NumaUnavailable::Kernel } else { NumaUnavailable::Node };
        assert_eq!(refused(call, libc::EINVAL), unknown);
    }
    session.fail(Some(Call::CurrentNode), .., libc::ENOSYS);
    numa::forget_current_node();
    assert_eq!((numa::current_node(), session.calls(Call::CurrentNode)), (0, 1));
    numa::current_node();
    assert_eq!(session.calls(Call::CurrentNode), 1, "it is kept");
    numa::forget_current_node();
}

#[test]
fn a_range_is_on_its_node_as_a_whole_or_given_back() {
    let session = Session::start();
    if !places_pages() {
        return;
    }
    for call in [Call::Bind, Call::Populate, Call::MovePages] {
        for errno in [libc::EPERM, ENOMEM] {
            let pages = Pages::new();
            session.fail(Some(call), 1.., errno);
            // SAFETY: fresh, of nobody else.
            let refused = unsafe { numa::populate_on(pages.0, 0) };
            session.heal();
            assert!(refused.is_err(), "{call:?}");
            assert_eq!(pages.places(), [Place::Nowhere; 4], "{call:?}");
            // SAFETY: as above.
            assert_eq!(unsafe { numa::populate_on(pages.0, 0) }, Ok(()), "after {call:?} was refused");
            assert_eq!(pages.places(), [Place::Node(0); 4]);
        }
    }
    let pages = Pages::new();
    session.fail(Some(Call::Populate), 1.., ENOMEM);
    // SAFETY: as above.
    assert_eq!(unsafe { numa::populate(pages.0) }, Err(NumaUnavailable::Memory));
    session.heal();
    // SAFETY: as above.
    assert_eq!(unsafe { numa::populate(pages.0) }, Ok(()));
}

#[test]
fn a_refused_block_of_a_node_leaves_nothing_mapped() {
    let session = Session::start();
    if !places_pages() {
        return;
    }
    let pages = PageOptions::new().on_node(0).build();
    for call in [Call::Map, Call::Bind, Call::Populate, Call::MovePages] {
        session.fail(Some(call), 1.., ENOMEM);
        assert_eq!(pages.alloc(bytes(1), Alignment::ONE), Err(AllocError), "{call:?}");
        session.heal();
        assert_eq!(session.mapped(), 0, "{call:?}");
    }
    session.fail(Some(Call::Bind), 1.., libc::EPERM);
    assert_eq!(pages.options().check(), Err(Unavailable::Node { node: 0, why: NumaUnavailable::Permission }));
}
