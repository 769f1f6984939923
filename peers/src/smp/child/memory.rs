//! The work whose figure is memory: fragmentation, and what is left when all is freed.
//!
//! ```text
//! fragmentation: |AAAAAAAAAAAAAAAA| grow   |A.......A.......| 7 of 8 freed   |A.......A.......BBBBBBBB| grow another size
//! ```

use std::{ffi::CStr, ptr, thread, time::Duration};

use super::{
    calls::{Calls, Plain},
    one::{touch, write},
    os,
    table::{Random, Sizes, Table, mixture, taken},
};
use crate::smp::cells::{Cell, Kind};

/// The figure of one run: resident over live bytes, or MiB left.
pub fn figure(cell: &Cell) -> f64 {
    match cell.kind {
        Kind::FragmentRegular | Kind::FragmentRandom => fragmentation(cell),
        _ => left(cell),
    }
}

fn fragmentation(cell: &Cell) -> f64 {
    let (sizes, mut random) = (Sizes::new(cell), Random::new(cell.seed));
    let mut first = Table::new(cell.bytes / cell.size);
    let mut second = Table::new(cell.bytes / cell.second);
    let mut lengths = Random::new(cell.seed + 1);
    let mut held = grow(first.entries(), cell.bytes, || sizes.pick(lengths.next()));
    lengths = Random::new(cell.seed + 1);
    for (index, entry) in first.entries().iter_mut().enumerate() {
        let size = sizes.pick(lengths.next());
        let kept = if cell.kind == Kind::FragmentRegular { index % 8 == 0 } else { random.below(8) == 0 };
        if !kept && !entry.is_null() {
            // SAFETY: made by `grow`.
            unsafe { Plain.free(*entry) };
            held -= size;
        }
    }
    held += grow(second.entries(), cell.bytes - held, || cell.second);
    os::resident().saturating_sub(taken()) as f64 / held as f64
}

/// Makes blocks until `bytes` are held, and says how many bytes are.
fn grow(entries: &mut [*mut u8], bytes: usize, mut size: impl FnMut() -> usize) -> usize {
    let mut held = 0;
    for entry in entries {
        let size = size();
        if held + size > bytes {
            break;
        }
        *entry = Plain.malloc(size);
        write(*entry, 0, size);
        held += size;
    }
    held
}

fn left(cell: &Cell) -> f64 {
    let sizes = mixture(cell.seed);
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    let mut table = Table::new(2 * cell.bytes / mean);
    let mut random = Random::new(cell.seed);
    let mut made = 0;
    let mut held = 0;
    while held < cell.bytes && made < table.entries().len() {
        let size = sizes[(random.next() >> 56) as usize];
        let block = Plain.malloc(size);
        touch(block, 0, size, made);
        table.entries()[made] = block;
        made += 1;
        held += size;
    }
    let entries = &mut table.entries()[..made];
    for index in (1..made).rev() {
        entries.swap(index, random.below(index + 1));
    }
    for entry in entries {
        // SAFETY: made above, each once.
        unsafe { Plain.free(*entry) };
    }
    match cell.kind {
        Kind::LeftTrim => trim(),
        Kind::LeftIdle => thread::sleep(Duration::from_secs(1)),
        _ => {}
    }
    os::resident().saturating_sub(taken()) as f64 / f64::from(1 << 20)
}

/// Asks whoever serves `malloc` to give back what it can, in its own words; who has none keeps what it has.
fn trim() {
    if let Some(collect) = symbol(c"mi_collect") {
        // SAFETY: mimalloc's `void mi_collect(bool force)`.
        let collect: extern "C" fn(bool) = unsafe { std::mem::transmute(collect) };
        return collect(true);
    }
    if let Some(control) = symbol(c"mallctl") {
        type Control =
            extern "C" fn(*const libc::c_char, *mut libc::c_void, *mut usize, *mut libc::c_void, usize) -> libc::c_int;
        // SAFETY: jemalloc's `int mallctl(const char *, void *, size_t *, void *, size_t)`.
        let control: Control = unsafe { std::mem::transmute(control) };
        // 4096 is MALLCTL_ARENAS_ALL.
        for name in [c"thread.tcache.flush", c"arena.4096.purge"] {
            control(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0);
        }
        return;
    }
    if let Some(release) = symbol(c"MallocExtension_ReleaseFreeMemory") {
        // SAFETY: gperftools' `void MallocExtension_ReleaseFreeMemory(void)`.
        let release: extern "C" fn() = unsafe { std::mem::transmute(release) };
        return release();
    }
    if let Some(flush) = symbol(c"MallocExtension_Internal_ReleaseCpuMemory") {
        // SAFETY: tcmalloc's `size_t MallocExtension_Internal_ReleaseCpuMemory(int cpu)`.
        let flush: extern "C" fn(libc::c_int) -> usize = unsafe { std::mem::transmute(flush) };
        for cpu in 0..thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) {
            flush(cpu as libc::c_int);
        }
    }
    // tcmalloc's `malloc_trim` is there, but releases nothing.
    if let Some(release) = symbol(c"MallocExtension_Internal_ReleaseMemoryToSystem") {
        // SAFETY: tcmalloc's `size_t MallocExtension_Internal_ReleaseMemoryToSystem(size_t bytes)`.
        let release: extern "C" fn(usize) -> usize = unsafe { std::mem::transmute(release) };
        release(1 << 40);
        return;
    }
    if let Some(trim) = symbol(c"malloc_trim") {
        // SAFETY: `int malloc_trim(size_t pad)`, ours or the C library's.
        let trim: extern "C" fn(usize) -> libc::c_int = unsafe { std::mem::transmute(trim) };
        trim(0);
    }
}

fn symbol(name: &CStr) -> Option<*mut libc::c_void> {
    // SAFETY: the name ends with a zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
