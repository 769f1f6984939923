//! The program's own manager without `init`: alone in its process, for it is one of a kind.

use terrace::{
    DebugConfig,
    manager::{self, Configured, InitError},
};

#[test]
fn without_init_the_first_block_settles_the_documented_default_and_it_is_told() {
    assert_eq!((manager::features().configured, manager::stats().total_allocations), (Configured::NotYet, 0));
    let block = manager::calloc(3, 8);
    assert!(!block.is_null());
    let features = manager::features();
    assert_eq!((features.configured, features.config), (Configured::ByDefault, DebugConfig::new()));
    assert!(features.to_string().contains("init was not called before the first block"), "{features}");
    assert_eq!(manager::init(DebugConfig::tracking()), Err(InitError::InUse));
    assert_eq!(manager::features().config, DebugConfig::new(), "nothing has changed");
    // SAFETY: live, of 24 bytes, not used again.
    unsafe { manager::c_free(block, 24) };
    assert!(manager::deinit().is_clean());
}
