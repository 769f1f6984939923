//! `MappedFile` from outside: what is written lies in the file, leaves memory, comes back, and what a file cannot
//! promise.
#![cfg(feature = "mapped-file")]

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{
    env, fs, io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output},
};

use terrace_core::{Alignment, Allocator, AllocatorExt, Owns, Reset, ResetMode};
use terrace_sys::{MappedFile, page_size};

const MIB: usize = 1 << 20;
const CHILD: &str = "TERRACE_SYS_CHILD";

const _: () = {
    const fn goes_to_any_thread<T: Send>() {}
    goes_to_any_thread::<MappedFile>();
};

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

/// A file without a name, or `None`, which is said.
fn scratch(len: usize) -> Option<MappedFile> {
    let made = MappedFile::scratch(env::temp_dir(), bytes(len));
    made.inspect_err(|why| eprintln!("{:?}: {why}: nothing tried", env::temp_dir())).ok()
}

/// Opens a file that only this test knows.
fn open(path: &Path, capacity: usize) -> io::Result<MappedFile> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    // SAFETY: every caller's file is its own, and written by nobody else while this lives.
    unsafe { MappedFile::new(file, bytes(capacity)) }
}

/// Bytes of the map at `address` that are in this process's memory.
fn resident(address: usize) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut within = false;
    for line in maps.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let number = |hex| usize::from_str_radix(hex, 16).unwrap();
            within = (number(start)..number(end)).contains(&address);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| within) {
            return size.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
        }
    }
    panic!("no map at {address:x}");
}

#[test]
fn what_is_written_to_a_block_is_in_the_file() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = open(path.path(), 3 * MIB + 5).unwrap();
    assert_eq!(file.capacity(), 3 * MIB + 5);
    let words = file.dupe(b"words in a file").unwrap();
    let numbers = file.alloc_slice_zeroed::<u64>(1000).unwrap();
    // SAFETY: live, zeroed, of this test alone.
    unsafe { numbers.cast::<u64>().write(0x0102_0304) };
    file.flush().unwrap();
    let (start, at) = (words.cast::<u8>().addr().get(), numbers.cast::<u8>().addr().get());
    drop(file);
    let written = fs::read(path.path()).unwrap();
    assert_eq!(written.len(), 3 * MIB + 5);
    assert_eq!(&written[..15], b"words in a file");
    assert_eq!(written[at - start..][..8], 0x0102_0304u64.to_ne_bytes());
}

#[test]
fn a_later_run_finds_what_an_earlier_one_wrote() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = open(path.path(), 2 * page_size()).unwrap();
    file.dupe(b"kept").unwrap();
    drop(file);
    let mut file = open(path.path(), page_size()).unwrap();
    let found = file.bytes().unwrap();
    assert_eq!(found.len(), page_size());
    // SAFETY: the file has brought these bytes.
    assert_eq!(found[..4].iter().map(|byte| unsafe { byte.assume_init() }).collect::<Vec<u8>>(), b"kept");
    drop(file);
    assert_eq!(fs::metadata(path.path()).unwrap().len(), 2 * page_size() as u64, "a longer file is not cut");
}

#[test]
fn zeroed_blocks_are_zero_over_what_the_file_held() {
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), vec![7; page_size() + 10]).unwrap();
    let mut file = open(path.path(), 8 * page_size()).unwrap();
    for _round in 0..2 {
        let block = file.alloc_slice_zeroed::<u8>(8 * page_size()).unwrap();
        // SAFETY: live, zeroed.
        assert!(unsafe { block.as_ref() }.iter().all(|&byte| byte == 0));
        // SAFETY: live, of this test alone.
        unsafe { block.cast::<u8>().write_bytes(9, 8 * page_size()) };
        assert!(file.reset(ResetMode::FreeAll));
    }
    file.bytes().unwrap().fill(core::mem::MaybeUninit::new(3));
    let block = file.alloc_slice_zeroed::<u8>(8 * page_size()).unwrap();
    // SAFETY: live, zeroed.
    assert!(unsafe { block.as_ref() }.iter().all(|&byte| byte == 0), "what was lent was written to");
}

#[test]
fn evicted_pages_leave_memory_and_come_back_with_their_bytes() {
    let Some(file) = scratch(64 * MIB) else { return };
    let block = file.alloc(bytes(16 * MIB), Alignment::ONE).unwrap();
    // SAFETY: live, of that length.
    unsafe { block.write_bytes(7, 16 * MIB) };
    assert!(resident(block.addr().get()) >= 16 * MIB);
    for flushed in [false, true] {
        if flushed {
            file.flush().unwrap();
        }
        file.evict().unwrap();
        assert_eq!(resident(block.addr().get()), 0);
        let memory = NonNull::slice_from_raw_parts(block, 16 * MIB);
        // SAFETY: live, written.
        assert!(unsafe { memory.as_ref() }.chunks(4096).all(|chunk| chunk == [7; 4096]));
    }
}

#[test]
fn a_fresh_scratch_file_takes_neither_memory_nor_disk() {
    let Some(file) = scratch(1 << 36) else { return };
    assert_eq!(file.capacity(), 1 << 36, "64 GiB");
    let block = file.alloc_zeroed(bytes(MIB), Alignment::ONE).unwrap();
    assert_eq!(resident(block.addr().get()), 0, "zeroed without being touched");
    assert!(file.owns(block));
}

#[cfg(feature = "allocator-api2-02")]
#[test]
fn a_vector_grows_in_the_file_without_moving() {
    use allocator_api2_02::vec::Vec;

    let Some(file) = scratch(64 * MIB) else { return };
    let mut numbers = Vec::new_in(&file);
    numbers.push(0u64);
    let first = numbers.as_ptr();
    numbers.extend(1..1_000_000);
    assert_eq!(numbers.as_ptr(), first);
    file.evict().unwrap();
    assert!((0..1_000_000).all(|n| numbers[n as usize] == n));
    drop(numbers);
    assert_eq!(file.end_index(), 0);
}

/// `evict` and `flush` take `&self`: they must not change what a borrowed block holds.
#[test]
fn a_borrowed_block_is_the_same_before_and_after_its_pages_leave() {
    let Some(file) = scratch(4 * MIB) else { return };
    let mut block = file.alloc_slice_zeroed::<u64>(MIB / 8).unwrap();
    // SAFETY: live, zeroed, of this test alone.
    let numbers = unsafe { block.as_mut() };
    for round in 1..4u64 {
        numbers.fill(round);
        file.evict().unwrap();
        assert!(numbers.iter().all(|&number| number == round));
        numbers[7] = round + 1;
        file.flush().unwrap();
        file.evict().unwrap();
        assert_eq!((numbers[6], numbers[7]), (round, round + 1));
    }
}

/// A file that others could come by: by its folder, or by a name that it is given later.
#[test]
fn a_scratch_file_has_no_name_and_cannot_be_given_one() {
    use std::os::fd::RawFd;

    let folder = tempfile::tempdir().unwrap();
    let Ok(file) = MappedFile::scratch(folder.path(), bytes(MIB)) else {
        return eprintln!("{:?} has no files without names: nothing tried", folder.path());
    };
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let ours = folder.path().to_str().unwrap();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let of_file = |path: &std::path::PathBuf| fs::read_link(path).is_ok_and(|to| to.starts_with(ours));
    let descriptor: RawFd = descriptors
        .filter(of_file)
        .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .next()
        .unwrap();
    let old = std::ffi::CString::new(format!("/proc/self/fd/{descriptor}")).unwrap();
    let new = std::ffi::CString::new(format!("{ours}/named")).unwrap();
    // SAFETY: strings that end in 0; nothing else is read.
    let linked =
        unsafe { libc::linkat(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    assert_eq!(linked, -1);
    drop(file);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_a_file_is_an_error() {
    let refused = |made: io::Result<MappedFile>| made.unwrap_err();
    refused(MappedFile::scratch("/no/such/folder", bytes(1)));
    assert_eq!(refused(open(Path::new("/dev/null"), usize::MAX)).kind(), io::ErrorKind::InvalidInput);
    refused(open(Path::new("/dev/null"), 4096));
    let path = tempfile::NamedTempFile::new().unwrap();
    let read_only = fs::File::open(path.path()).unwrap();
    // SAFETY: nobody else uses the file.
    refused(unsafe { MappedFile::new(read_only, bytes(4096)) });
    refused(open(path.path(), isize::MAX as usize));
    assert_eq!(fs::metadata(path.path()).unwrap().len(), 0, "its length is as it was");
}

/// Runs test `name` in a child; `None` in the child.
fn in_a_child(name: &str) -> Option<Output> {
    if env::var_os(CHILD).is_some() {
        return None;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    // Under AddressSanitizer a fault is to end the process as it does without.
    Some(child.env("ASAN_OPTIONS", "handle_sigbus=0").output().unwrap())
}

/// The law of the documentation, as it is: no error, but the end.
#[test]
fn a_file_cut_short_by_another_ends_the_process_at_the_next_touch() {
    let name = "a_file_cut_short_by_another_ends_the_process_at_the_next_touch";
    if let Some(output) = in_a_child(name) {
        return assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{}", output.status);
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = open(path.path(), MIB).unwrap();
    let block = file.alloc(bytes(MIB), Alignment::ONE).unwrap();
    // SAFETY: live.
    unsafe { block.write(1) };
    path.as_file().set_len(0).unwrap();
    // SAFETY: none: the promise to `new` is broken, and this is what comes of it.
    unsafe { block.as_ptr().write_volatile(2) };
}

/// In a file system of 4 MiB of its own, where the right to mount one is there.
#[test]
fn a_full_disk_is_an_error_and_no_signal() {
    if let Some(output) = in_a_child("a_full_disk_is_an_error_and_no_signal") {
        let said = String::from_utf8_lossy(&output.stderr);
        eprint!("{}", said.lines().filter(|line| line.contains("nothing tried")).collect::<String>());
        return assert!(output.status.success(), "{}: {said}", output.status);
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = mount_small(folder.path()) else {
        return eprintln!("no right to mount a file system: nothing tried");
    };
    let mut file = MappedFile::scratch(folder.path(), bytes(64 * MIB)).expect("longer than the disk");
    let mut blocks = 0;
    while let Ok(block) = file.alloc(bytes(MIB / 2), Alignment::ONE) {
        // SAFETY: live, of that length.
        unsafe { block.write_bytes(7, MIB / 2) };
        blocks += 1;
    }
    assert!((4..=8).contains(&blocks), "{blocks} blocks of half a MiB on a disk of 4 MiB");
    assert_eq!(file.bytes().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

/// A tmpfs of 4 MiB that this process alone sees, and that ends with it.
fn mount_small(folder: &Path) -> Option<()> {
    use std::{ffi::CString, os::unix::ffi::OsStrExt, ptr};

    let folder = CString::new(folder.as_os_str().as_bytes()).unwrap();
    // SAFETY: takes a number; the test's process has this thread and the harness's only.
    let alone = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    // SAFETY: strings that end in 0; nothing else is read.
    let private = alone
        && unsafe {
            libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null())
        } == 0;
    let options = c"size=4m".as_ptr().cast();
    // SAFETY: as above.
    let mounted =
        private && unsafe { libc::mount(c"tmpfs".as_ptr(), folder.as_ptr(), c"tmpfs".as_ptr(), 0, options) } == 0;
    mounted.then_some(())
}
