//! The program's own manager, from `init` to the end: alone in its process, for it is one of a kind.

use std::sync::Mutex;

use terrace::{
    AllocatorExt, DebugConfig,
    debug::{Handler, Mistake, Report},
    manager::{self, Configured, InitError},
};

struct Collect(Mutex<Vec<Report>>);

impl Handler for Collect {
    fn report(&self, report: &Report) {
        self.0.lock().unwrap().push(*report);
    }
}

static COLLECT: Collect = Collect(Mutex::new(Vec::new()));

#[test]
fn from_init_to_the_end_every_function_does_its_part() {
    let config = DebugConfig { retain_metadata: true, ..DebugConfig::new() };
    assert_eq!(manager::init_with_handler(config, &COLLECT), Ok(()));
    assert_eq!(manager::init(DebugConfig::new()), Err(InitError::AlreadyInitialized));
    let features = manager::features();
    assert_eq!((features.configured, features.config), (Configured::ByInit, config));
    assert!(features.page_size.is_power_of_two() && features.thread_slots > 0);
    assert_eq!(features.simd, terrace::memops::features().used());
    assert_eq!(features.has_simd_support(), features.enable_simd && terrace::memops::features().has_simd());
    assert!(features.to_string().starts_with("manager        configured by init\n"), "{features}");

    let (buffer, line) = (manager::alloc::<u32>(256).unwrap(), line!());
    let name = manager::allocator().dupe(b"terrace").unwrap();
    let block = manager::malloc(100);
    assert_eq!((manager::stats().current_allocations, manager::stats().current_bytes), (3, 1024 + 7 + 100));
    manager::print_stats();

    let check = manager::check_for_leaks();
    assert_eq!((check.leaks, check.leaked_bytes), (3, 1131));
    let mut reports = std::mem::take(&mut *COLLECT.0.lock().unwrap());
    reports.sort_by_key(|report| report.block.unwrap().serial);
    let site = reports[0].block.unwrap().allocated.site;
    assert_eq!((reports[0].mistake, site.file(), site.line()), (Mistake::Leak, file!(), line));
    assert!(reports.iter().all(|report| report.block.unwrap().allocated.site.file() == file!()), "{reports:?}");

    // SAFETY: live, made with 100 bytes.
    let block = unsafe { manager::c_realloc(block, 100, 10) };
    // SAFETY: live, of 10 bytes, not used again.
    unsafe { manager::c_free(block, 10) };
    // SAFETY: live, of the manager, not used again.
    unsafe { manager::free(buffer) };
    assert_eq!(manager::deinit().leaks, 1);
    // SAFETY: live: deinit has not ended it.
    assert_eq!(unsafe { name.as_ref() }, b"terrace");

    let address = name.addr().get();
    assert_ne!(is_mapped(address), Some(false));
    // SAFETY: this is the process's only thread that knows the manager, and `name` is not used again.
    assert_eq!(unsafe { manager::deinit_unchecked() }.leaks, 1);
    assert_ne!(is_mapped(address), Some(true), "the live block has gone, too");
    assert_eq!(manager::features().configured, Configured::NotYet);
    assert_eq!(manager::init(DebugConfig::tracking()), Ok(()), "it begins anew");
}

/// Whether something lies at `address`; `None` where the system does not say.
fn is_mapped(address: usize) -> Option<bool> {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        eprintln!("skipped: this system does not say what is mapped");
        return None;
    };
    Some(maps.lines().any(|line| {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(from)..number(to)).contains(&address)
    }))
}
