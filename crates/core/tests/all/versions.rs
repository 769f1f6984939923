//! Every version of the collections' trait that is compiled in, in one form, so that a rule is tested once for all.

use std::{alloc::Layout, ptr::NonNull};

use terrace_core::{Allocator, Bridge};

use crate::strict::Strict;

/// The error of whichever version.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

/// What the versions have in common: all but the name of the error.
pub trait Api2 {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, Refused>;
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, Refused>;
    /// # Safety
    /// As each version's.
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout);
    /// # Safety
    /// As each version's.
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Refused>;
    /// # Safety
    /// As each version's.
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Refused>;
    /// # Safety
    /// As each version's.
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Refused>;
}

/// A version's name with a form, and an allocator spoken to in it.
pub type Form = (&'static str, for<'a> fn(&'a Strict) -> Box<dyn Api2 + 'a>);

macro_rules! versions {
    ($(#[$cfg:meta] $name:ident: $api2:path;)+) => {
        $(
            #[$cfg]
            mod $name {
                use super::*;

                pub struct Spoken<A>(pub A);

                impl<A: $api2> Api2 for Spoken<A> {
                    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, Refused> {
                        <A as $api2>::allocate(&self.0, layout).map_err(|_| Refused)
                    }

                    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, Refused> {
                        <A as $api2>::allocate_zeroed(&self.0, layout).map_err(|_| Refused)
                    }

                    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                        // SAFETY: the caller's promise, passed on unchanged.
                        unsafe { <A as $api2>::deallocate(&self.0, block, layout) }
                    }

                    unsafe fn grow(
                        &self,
                        block: NonNull<u8>,
                        old: Layout,
                        new: Layout,
                    ) -> Result<NonNull<[u8]>, Refused> {
                        // SAFETY: the caller's promise, passed on unchanged.
                        unsafe { <A as $api2>::grow(&self.0, block, old, new) }.map_err(|_| Refused)
                    }

                    unsafe fn grow_zeroed(
                        &self,
                        block: NonNull<u8>,
                        old: Layout,
                        new: Layout,
                    ) -> Result<NonNull<[u8]>, Refused> {
                        // SAFETY: the caller's promise, passed on unchanged.
                        unsafe { <A as $api2>::grow_zeroed(&self.0, block, old, new) }.map_err(|_| Refused)
                    }

                    unsafe fn shrink(
                        &self,
                        block: NonNull<u8>,
                        old: Layout,
                        new: Layout,
                    ) -> Result<NonNull<[u8]>, Refused> {
                        // SAFETY: the caller's promise, passed on unchanged.
                        unsafe { <A as $api2>::shrink(&self.0, block, old, new) }.map_err(|_| Refused)
                    }
                }
            }
        )+

        /// Each version, by value and through `dyn`.
        pub const FORMS: &[Form] = &[$(
            #[$cfg]
            (concat!(stringify!($name), " through a bridge"), |strict| Box::new($name::Spoken(Bridge::new(strict)))),
            #[$cfg]
            (concat!(stringify!($name), " through dyn"), |strict| Box::new($name::Spoken(strict as &dyn Allocator))),
        )+];
    };
}

versions! {
    #[cfg(feature = "allocator-api2-02")] api2_02: allocator_api2_02::alloc::Allocator;
    #[cfg(feature = "allocator-api2-03")] api2_03: allocator_api2_03::alloc::Allocator;
    #[cfg(feature = "allocator-api2-04")] api2_04: allocator_api2_04::alloc::Allocator;
    #[cfg(terrace_nightly)] std_nightly: std::alloc::Allocator;
}

/// What this run covers, so that its output says so.
#[test]
fn every_version_asked_for_is_among_the_forms() {
    let asked = [
        cfg!(feature = "allocator-api2-02"),
        cfg!(feature = "allocator-api2-03"),
        cfg!(feature = "allocator-api2-04"),
        cfg!(terrace_nightly),
    ];
    println!("{:?}", FORMS.iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert_eq!(FORMS.len(), 2 * asked.iter().filter(|asked| **asked).count());
}
