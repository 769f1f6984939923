//! What must not compile: ways in which safe code could use an `SmpAllocator` that has ended, or from where it must not be.
//!
//! Compiled for documentation tests alone, as `crate::misuse`.

/// An instance dropped, moved or sent under its blocks, or shared where its backing or its slots cannot be:
///
/// ```compile_fail,E0505
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::SmpAllocator;
/// use terrace_sync::NoSlots;
/// let smp = SmpAllocator::new(SystemAllocator, NoSlots);
/// let mut word = Vec::new_in(&smp);
/// drop(smp);
/// word.push(1u8);
/// ```
///
/// ```compile_fail,E0277
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::SmpAllocator;
/// use terrace_sync::NoSlots;
/// let word = Vec::<u8, _>::new_in(SmpAllocator::new(SystemAllocator, NoSlots));
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::SmpAllocator<terrace_heap::ArenaAllocator<terrace_core::SystemAllocator>, terrace_sync::NoSlots>>();
/// ```
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<terrace_heap::SmpAllocator<terrace_core::SystemAllocator, &'static dyn terrace_sync::Slots>>();
/// ```
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::SmpAllocator<terrace_core::SystemAllocator, terrace_sync::NoSlots>>();
/// ```
///
/// Regions of a size that no region can have:
///
/// ```compile_fail,E0080
/// use terrace_core::SystemAllocator;
/// use terrace_heap::SmpAllocator;
/// use terrace_sync::NoSlots;
/// let smp = SmpAllocator::<_, _, 100_000>::with_region_size(SystemAllocator, NoSlots);
/// ```
///
/// A provider of slots that promises nothing:
///
/// ```compile_fail,E0200
/// struct Always;
/// impl terrace_sync::Slots for Always {
///     fn count(&self) -> usize { 1 }
///     fn enter(&self) -> usize { 1 }
/// }
/// ```
mod instances {}
