//! The combinators: what each decides where the testkit, which knows only the contract, has no opinion.

#[path = "../support/mod.rs"]
mod support;

mod affix;
mod bucketize;
mod compressed;
mod fallback;
mod free_list;
mod limit;
mod lock;
mod on_oom;
mod pressure;
mod segregate;
mod stats;
mod transparent;
mod zeroed;

use std::sync::{Arc, Mutex};

use terrace_core::SystemAllocator;
use terrace_heap::{Call, LogAllocator, Sink};

/// A backing with a hook, which does in the middle of a call what it was told, once.
type Hooked = LogAllocator<SystemAllocator, Hook>;

#[derive(Clone, Default)]
struct Hook(Arc<Mutex<Option<Action>>>);

type Action = Box<dyn FnOnce() + Send>;

impl Hook {
    fn over_system(&self) -> Hooked {
        LogAllocator::new(SystemAllocator, self.clone())
    }

    /// In the middle of the next call of the backing.
    fn at_next_call(&self, action: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(action));
    }

    fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

impl Sink for Hook {
    fn record(&self, _: &Call) {
        let action = self.0.lock().unwrap().take();
        action.into_iter().for_each(|action| action());
    }
}
