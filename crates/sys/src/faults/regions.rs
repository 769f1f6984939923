//! Tests: every system call of `Reservation`, `ReservedAllocator` and `MappedFile` counted, and made to fail.

use core::ptr::NonNull;

use terrace_core::{Alignment, Allocator, Reset, ResetMode};

use super::{ENOMEM, bytes, made, nothing_is_left, pages};
use crate::{
    Reservation, ReservedAllocator, page_size,
    prim::fault::{Call, Session},
};

/// Writes to a page and reads from it.
fn touch(start: NonNull<u8>, at: usize, expected: u8) {
    // SAFETY: every caller names an offset of a reservation that it has committed.
    let place = unsafe { start.add(at) };
    // SAFETY: as above.
    assert_eq!(unsafe { place.read() }, expected);
    // SAFETY: as above.
    unsafe { place.write(7) };
}

/// Whether all of `contents` is `byte`, by comparing pieces, which is quick without optimisation too.
fn all_are(contents: &[u8], byte: u8) -> bool {
    let piece = [byte; 4096];
    contents.chunks(piece.len()).all(|chunk| chunk == &piece[..chunk.len()])
}

/// A reservation with every kind of call.
fn life_of_a_reservation(alignment: usize) {
    let alignment = Alignment::new(alignment).unwrap();
    let Ok(table) = Reservation::with_alignment(bytes(pages(64)), alignment) else { return };
    assert!(alignment.is_aligned(table.start().addr().get()));
    if table.commit(pages(2)..pages(5)).is_ok() {
        touch(table.start(), pages(4), 0);
        // What is committed keeps its contents when more is committed, or is refused to be.
        let _ = table.commit(0..pages(8));
        touch(table.start(), pages(4), 7);
        // SAFETY: nobody uses the page.
        if unsafe { table.decommit(pages(4)..pages(5)) } && table.commit(pages(4)..pages(5)).is_ok() {
            touch(table.start(), pages(4), 0);
        }
    }
    if table.commit(pages(63)..pages(64)).is_ok() {
        touch(table.start(), pages(64) - 1, 0);
    }
}

/// Blocks that come, grow, and end, in any allocator; every refusal leaves them as they were.
fn life_in<A: Allocator + Reset>(allocator: &mut A, modes: &[ResetMode]) {
    for &mode in modes {
        for len in [1000, 300_000, 2_000_000] {
            let alignment = Alignment::of::<u64>();
            let Ok(start) = allocator.alloc_zeroed(bytes(len), alignment) else { continue };
            let mut memory = NonNull::slice_from_raw_parts(start, len);
            // SAFETY: live, of that length.
            let contents = unsafe { memory.as_mut() };
            assert!(all_are(contents, 0));
            contents.fill(7);
            // SAFETY: live, with its alignment.
            if unsafe { allocator.resize(memory, alignment, bytes(len + 1_500_000)) } {
                memory = NonNull::slice_from_raw_parts(start, len + 1_500_000);
                // SAFETY: within the block.
                let more = unsafe { start.add(len) };
                // SAFETY: as above, to its end.
                unsafe { more.write_bytes(7, 1_500_000) };
            }
            // SAFETY: live, of that length, all of it written.
            assert!(all_are(unsafe { memory.as_ref() }, 7));
            // SAFETY: live, with its alignment, not used again.
            unsafe { allocator.free(memory, alignment) };
        }
        allocator.reset(mode);
    }
}

const MODES: [ResetMode; 3] = [ResetMode::RetainWithLimit(300_000), ResetMode::RetainCapacity, ResetMode::FreeAll];

fn lives() {
    life_of_a_reservation(1);
    life_of_a_reservation(64 * page_size());
    if let Ok(mut reserved) = ReservedAllocator::new(bytes(8 << 20)) {
        life_in(&mut reserved, &MODES);
    }
}

/// Fails each call, and the one behind it, and the five behind it, of whatever `lives` makes.
fn sweep(session: &Session, lives: impl Fn()) {
    let before = made(session);
    lives();
    let calls = made(session) - before;
    assert!(calls > 5, "there is something to fail: {calls}");
    nothing_is_left(session);
    for first in 1..=calls {
        for last in [first, first + 1, first + 5] {
            session.fail(None, first..=last, ENOMEM);
            lives();
            nothing_is_left(session);
        }
    }
    for call in Call::ALL {
        for first in 1..10 {
            session.fail(Some(call), first.., libc::EINVAL);
            lives();
            nothing_is_left(session);
        }
    }
}

#[test]
fn whichever_call_fails_nothing_stays_mapped_and_nothing_is_lost() {
    let session = Session::start();
    sweep(&session, lives);
}

#[test]
fn a_reservation_that_cannot_be_unmapped_is_unmapped_later_and_its_note_too() {
    let session = Session::start();
    for refused in 1..4 {
        let table = Reservation::new(bytes(pages(8))).unwrap();
        assert_eq!(session.mapped(), pages(9), "and a page for its note");
        session.fail(Some(Call::Unmap), 1..=refused, ENOMEM);
        drop(table);
        assert!(session.mapped() >= pages(1));
        nothing_is_left(&session);
    }
}

#[test]
fn a_refused_commit_or_decommit_leaves_what_is_committed() {
    let session = Session::start();
    let table = Reservation::new(bytes(pages(8))).unwrap();
    table.commit(0..pages(2)).unwrap();
    touch(table.start(), 0, 0);
    session.fail(Some(Call::Protect), 1..=1, ENOMEM);
    assert!(table.commit(0..pages(4)).is_err());
    touch(table.start(), 0, 7);
    session.heal();
    session.fail(Some(Call::Decommit), 1..=1, libc::EINVAL);
    // SAFETY: nobody uses the pages meanwhile.
    assert!(!unsafe { table.decommit(0..pages(2)) });
    touch(table.start(), 0, 7);
    session.heal();
    session.fail(Some(Call::Protect), 1..=1, ENOMEM);
    // SAFETY: as above.
    assert!(!unsafe { table.decommit(0..pages(2)) });
    touch(table.start(), 0, 0); // Empty, and committed still.
}

#[test]
fn what_is_not_whole_pages_within_the_reservation_is_refused_without_a_call() {
    let session = Session::start();
    let table = Reservation::new(bytes(pages(8))).unwrap();
    let before = made(&session);
    let reversed = core::ops::Range { start: pages(2), end: pages(1) };
    for range in [0..1, 1..pages(1), 0..pages(9), pages(9)..pages(9), 0..usize::MAX & !(page_size() - 1), reversed] {
        assert!(table.commit(range.clone()).is_err());
        // SAFETY: nobody uses any page.
        assert!(!unsafe { table.decommit(range) });
    }
    assert!(table.commit(pages(8)..pages(8)).is_ok(), "nothing, within it");
    for len in [usize::MAX, isize::MAX as usize] {
        assert!(Reservation::new(bytes(len)).is_err());
    }
    assert!(Reservation::with_alignment(bytes(1), Alignment::new(1 << 63).unwrap()).is_err());
    assert_eq!(made(&session), before);
}

#[test]
fn a_refused_commit_refuses_the_block_and_changes_nothing() {
    let session = Session::start();
    let region = ReservedAllocator::new(bytes(8 << 20)).unwrap();
    let start = region.alloc(bytes(100), Alignment::ONE).unwrap();
    let before = (region.end_index(), region.committed());
    session.fail(Some(Call::Protect), .., ENOMEM);
    assert!(region.alloc(bytes(1 << 20), Alignment::ONE).is_err());
    let memory = NonNull::slice_from_raw_parts(start, 100);
    // SAFETY: live, with its alignment.
    assert!(!unsafe { region.resize(memory, Alignment::ONE, bytes(1 << 20)) });
    assert_eq!((region.end_index(), region.committed()), before);
    session.heal();
    // SAFETY: live, with its alignment.
    assert!(unsafe { region.resize(memory, Alignment::ONE, bytes(1 << 20)) });
}

#[test]
fn a_reset_that_the_system_refuses_keeps_the_memory_and_knows_what_is_soiled() {
    let session = Session::start();
    let mut region = ReservedAllocator::new(bytes(1 << 20)).unwrap();
    let start = region.alloc(bytes(1 << 20), Alignment::ONE).unwrap();
    // SAFETY: live, of that length.
    unsafe { start.write_bytes(7, 1 << 20) };
    for call in [Call::Decommit, Call::Protect] {
        session.fail(Some(call), .., ENOMEM);
        assert!(!region.reset(ResetMode::FreeAll));
        assert_eq!((region.end_index(), region.committed()), (0, 1 << 20));
        session.heal();
        let zeroed = region.alloc_zeroed(bytes(1 << 20), Alignment::ONE).unwrap();
        // SAFETY: live, of that length, zeroed.
        let contents = unsafe { NonNull::slice_from_raw_parts(zeroed, 1 << 20).as_mut() };
        assert!(all_are(contents, 0));
        contents.fill(7);
    }
}

#[cfg(feature = "mapped-file")]
mod files {
    use std::{env, fs, io};

    use super::*;
    use crate::MappedFile;

    fn scratch(len: usize) -> io::Result<MappedFile> {
        MappedFile::scratch(env::temp_dir(), bytes(len))
    }

    /// Whether this file system has files without names; says so where not.
    fn can_scratch() -> bool {
        let can = scratch(1).is_ok();
        if !can {
            std::eprintln!("the file system of {:?} has no files without names: nothing tried", env::temp_dir());
        }
        can
    }

    #[test]
    fn whichever_call_about_a_file_fails_nothing_stays_mapped() {
        let session = Session::start();
        if !can_scratch() {
            return;
        }
        sweep(&session, || {
            let Ok(mut file) = scratch(8 << 20) else { return };
            life_in(&mut file, &[ResetMode::FreeAll; 2]);
            let _ = file.flush();
            let _ = file.evict();
            if let Ok(whole) = file.bytes() {
                assert_eq!(whole.len(), 8 << 20);
            }
        });
    }

    #[test]
    fn a_full_disk_refuses_the_block_and_changes_nothing() {
        let session = Session::start();
        if !can_scratch() {
            return;
        }
        let mut file = scratch(8 << 20).unwrap();
        let start = file.alloc(bytes(100), Alignment::ONE).unwrap();
        session.fail(Some(Call::TakeSpace), .., libc::ENOSPC);
        assert!(file.alloc(bytes(2 << 20), Alignment::ONE).is_err());
        let memory = NonNull::slice_from_raw_parts(start, 100);
        // SAFETY: live, with its alignment.
        assert!(!unsafe { file.resize(memory, Alignment::ONE, bytes(2 << 20)) });
        assert_eq!(file.end_index(), 100);
        assert_eq!(file.bytes().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn where_space_cannot_be_taken_in_advance_blocks_are_granted() {
        let session = Session::start();
        if !can_scratch() {
            return;
        }
        session.fail(Some(Call::TakeSpace), .., libc::EOPNOTSUPP);
        let mut file = scratch(8 << 20).unwrap();
        life_in(&mut file, &[ResetMode::FreeAll]);
        assert!(file.bytes().is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_mapped_has_its_old_length() {
        let session = Session::start();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"seven b").unwrap();
        for call in [Call::SetLength, Call::MapFile] {
            session.fail(Some(call), .., ENOMEM);
            let opened = fs::OpenOptions::new().read(true).write(true).open(file.path()).unwrap();
            // SAFETY: nobody else uses the file.
            assert!(unsafe { MappedFile::new(opened, bytes(1 << 20)) }.is_err());
            session.heal();
            assert_eq!(fs::read(file.path()).unwrap(), b"seven b", "{call:?}");
        }
        assert_eq!(session.mapped(), 0);
    }
}
