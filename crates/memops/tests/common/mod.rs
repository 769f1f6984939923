//! What the tests share: every level in turn.

use std::sync::{Mutex, PoisonError};

use terrace_memops::{Level, features, force};

/// Runs `test` at each level that the machine has, one test at a time: the level is the whole process's.
pub fn at_each_level(test: impl Fn(Level)) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for level in features().found() {
        assert!(force(Some(level)), "{level:?} was found");
        assert_eq!(features().used(), level);
        test(level);
    }
    assert!(force(None));
}
