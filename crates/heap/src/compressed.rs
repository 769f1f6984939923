//! [`Compressed`]: large bytes that nobody looks at, kept small.
//!
//! ```text
//!   store(bytes) ──▶ Stored ──▶ hot:  [ bytes, as they are      ]    a block of `backing`
//!                      │  ▲            evict │  ▲ get
//!                      │  └ get              ▼  │
//!                      └─────────▶ cold: [ packed ]                  a shorter block of `backing`
//! ```
//!
//! No allocator: an allocator's blocks stay where they are, and what is packed has no address. So this hands out
//! handles. [`Stored::get`] borrows the bytes, unpacked first where they are cold; as long as that borrow lives they
//! cannot be evicted. [`Stored::evict`] packs them, and keeps them as they are where that would save nothing. When to
//! evict is the program's knowledge: by age, or from the hook of a [`PressureAllocator`](crate::PressureAllocator).
//!
//! How bytes are packed is a [`Codec`]'s business; [`Lz4`] is there with the feature `lz4`.
//!
//! Costs: a handle of five words. `evict` needs room for the codec's worst case while it runs, `get` room for
//! the bytes; each walks over them once for zeroes and once for the codec.

#[cfg(feature = "lz4")]
mod lz4;

use core::{
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

#[cfg(feature = "lz4")]
pub use lz4::Lz4;
use terrace_core::{Alignment, AllocError, Allocator};

use crate::bump::MAX_LEN;

/// Packs bytes and unpacks them. What it answers is checked, so that a wrong one costs bytes, not soundness.
pub trait Codec {
    /// The most bytes that `len` bytes may be packed into.
    fn bound(&self, len: usize) -> usize;

    /// Packs `plain` into the beginning of `packed`, which has [`bound`](Self::bound) bytes, and says how many it took;
    /// `None` where it cannot.
    fn pack(&self, plain: &[u8], packed: &mut [u8]) -> Option<usize>;

    /// Unpacks what `pack` gave into `plain`, which is as long as it was then; `false` where it cannot.
    fn unpack(&self, packed: &[u8], plain: &mut [u8]) -> bool;
}

/// A store of bytes over `backing`, of which the cold ones are packed by `codec`.
///
/// Use it for what is large, seldom read and not to be thrown away: undo histories, levels not shown, old log pages.
///
/// - **I1** `hot` and `cold` are the sums of the lengths of the blocks that handles hold as they are and packed.
///
/// ```
/// # #[cfg(feature = "lz4")] {
/// use terrace_core::SystemAllocator;
/// use terrace_heap::{Compressed, Lz4};
///
/// let pages = Compressed::new(SystemAllocator, Lz4);
/// let mut page = pages.store(&b"all work and no play ".repeat(1000))?;
/// assert!(page.evict()?);
/// assert!(pages.cold_bytes() < 1000 && pages.hot_bytes() == 0);
/// assert!(page.get()?.starts_with(b"all work"));
/// assert_eq!(pages.hot_bytes(), 21_000);
/// # }
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// What is borrowed cannot be evicted:
///
/// ```compile_fail,E0499
/// # use terrace_core::SystemAllocator;
/// # use terrace_heap::{Codec, Compressed};
/// fn evict_under_a_reader<C: Codec>(pages: &Compressed<SystemAllocator, C>) {
///     let mut page = pages.store(b"text").unwrap();
///     let bytes = page.get().unwrap();
///     page.evict().unwrap();
///     bytes[0] = b'T';
/// }
/// ```
pub struct Compressed<A, C> {
    hot: AtomicUsize,
    cold: AtomicUsize,
    codec: C,
    backing: A,
}

/// Bytes in a [`Compressed`]; dropped, they are gone.
///
/// - **I1** `block` is a live block of the store's backing with `held` bytes, all initialised, aligned to one, or dangling
///   where `held` is 0; nobody else has it.
/// - **I2** Where `packed`, `held` bytes are what the codec made of `len` bytes; else `held` is `len`.
pub struct Stored<'a, A: Allocator, C: Codec> {
    block: NonNull<u8>,
    held: usize,
    len: usize,
    packed: bool,
    store: &'a Compressed<A, C>,
}

// SAFETY: by I1 the block is this handle's alone; the store, which ends it, may be shared.
unsafe impl<A: Allocator + Sync, C: Codec + Sync> Send for Stored<'_, A, C> {}
// SAFETY: a shared handle gives no way to the block.
unsafe impl<A: Allocator + Sync, C: Codec + Sync> Sync for Stored<'_, A, C> {}

impl<A: Allocator, C: Codec> Compressed<A, C> {
    /// An empty store; asks `backing` for nothing yet.
    pub const fn new(backing: A, codec: C) -> Self {
        Self { hot: AtomicUsize::new(0), cold: AtomicUsize::new(0), codec, backing }
    }

    /// Keeps a copy of `bytes`, hot at first.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses.
    #[track_caller]
    pub fn store(&self, bytes: &[u8]) -> Result<Stored<'_, A, C>, AllocError> {
        let block = self.alloc(bytes.len())?;
        // SAFETY: a new block of that length, or none of them.
        unsafe { block.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        self.hot.fetch_add(bytes.len(), Relaxed);
        Ok(Stored { block, held: bytes.len(), len: bytes.len(), packed: false, store: self })
    }

    /// Bytes held as they are.
    pub fn hot_bytes(&self) -> usize {
        self.hot.load(Relaxed)
    }

    /// Bytes held packed: what they take, not what they stand for.
    pub fn cold_bytes(&self) -> usize {
        self.cold.load(Relaxed)
    }

    /// So many zeroes, or a dangling pointer for none.
    #[track_caller]
    fn alloc(&self, len: usize) -> Result<NonNull<u8>, AllocError> {
        match NonZeroUsize::new(len) {
            Some(len) => self.backing.alloc_zeroed(len, Alignment::ONE),
            None => Ok(NonNull::dangling()),
        }
    }

    /// # Safety
    /// `block` came from `alloc` with this length, and is not used again.
    #[track_caller]
    unsafe fn free(&self, block: NonNull<u8>, len: usize) {
        if len != 0 {
            let memory = NonNull::slice_from_raw_parts(block, len);
            // SAFETY: the caller's promise.
            unsafe { self.backing.free(memory, Alignment::ONE) };
        }
    }
}

/// A block that goes back, whatever happens, unless it is kept.
struct Room<'a, A: Allocator, C: Codec> {
    block: NonNull<u8>,
    len: usize,
    store: &'a Compressed<A, C>,
}

impl<'a, A: Allocator, C: Codec> Room<'a, A, C> {
    #[track_caller]
    fn new(store: &'a Compressed<A, C>, len: usize) -> Result<Self, AllocError> {
        Ok(Self { block: store.alloc(len)?, len, store })
    }

    fn bytes(&mut self) -> &mut [u8] {
        let block = NonNull::slice_from_raw_parts(self.block, self.len);
        // SAFETY: a block of that length, all initialised as zeroes, and this room's alone.
        unsafe { &mut *block.as_ptr() }
    }

    /// The block, which is the caller's from now on.
    fn keep(self) -> NonNull<u8> {
        let block = self.block;
        core::mem::forget(self);
        block
    }
}

impl<A: Allocator, C: Codec> Drop for Room<'_, A, C> {
    fn drop(&mut self) {
        // SAFETY: from `alloc` with this length, and not kept.
        unsafe { self.store.free(self.block, self.len) };
    }
}

impl<A: Allocator, C: Codec> Stored<'_, A, C> {
    /// How many bytes were stored.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes were stored.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether they are packed now.
    pub const fn is_cold(&self) -> bool {
        self.packed
    }

    /// The bytes, unpacked first where they are cold. They stay hot until the next [`evict`](Self::evict).
    ///
    /// # Errors
    /// [`AllocError`] where the backing has no room for them, or the codec cannot unpack what it packed; they
    /// stay cold.
    #[track_caller]
    pub fn get(&mut self) -> Result<&mut [u8], AllocError> {
        if self.packed {
            let mut room = Room::new(self.store, self.len)?;
            if !self.store.codec.unpack(self.bytes(), room.bytes()) {
                return Err(AllocError);
            }
            self.replace(room.keep(), self.len, false);
        }
        Ok(self.bytes_mut())
    }

    /// Packs the bytes. `false`: that would save nothing, and they stay hot.
    ///
    /// # Errors
    /// [`AllocError`] where the backing has no room for what is made; they stay hot.
    #[track_caller]
    pub fn evict(&mut self) -> Result<bool, AllocError> {
        if self.packed || self.len == 0 {
            return Ok(self.packed);
        }
        let bound = self.store.codec.bound(self.len);
        if bound > MAX_LEN {
            return Err(AllocError);
        }
        let mut room = Room::new(self.store, bound)?;
        let packed = self.store.codec.pack(self.bytes(), room.bytes());
        let Some(packed) = packed.filter(|&packed| packed < self.len && packed <= bound) else { return Ok(false) };
        let block = self.fitted(room, packed)?;
        self.replace(block, packed, true);
        Ok(true)
    }

    /// The first `len` bytes of `room` in a block of just that length.
    #[track_caller]
    fn fitted(&self, mut room: Room<'_, A, C>, len: usize) -> Result<NonNull<u8>, AllocError> {
        if let Some(new_len) = NonZeroUsize::new(len) {
            let memory = NonNull::slice_from_raw_parts(room.block, room.len);
            // SAFETY: the room's block is live with that length.
            if room.len != 0 && unsafe { self.store.backing.resize(memory, Alignment::ONE, new_len) } {
                room.len = len;
                return Ok(room.keep());
            }
        }
        let mut exact = Room::new(self.store, len)?;
        exact.bytes().copy_from_slice(&room.bytes()[..len]);
        Ok(exact.keep())
    }

    /// Another block in place of the one held.
    fn replace(&mut self, block: NonNull<u8>, held: usize, packed: bool) {
        self.end();
        (self.block, self.held, self.packed) = (block, held, packed);
        self.sum().fetch_add(held, Relaxed);
    }

    /// Gives the block back.
    fn end(&mut self) {
        self.sum().fetch_sub(self.held, Relaxed);
        // SAFETY: by I1 from `alloc` with this length; the caller puts another one in its place, or ends.
        unsafe { self.store.free(self.block, self.held) };
    }

    const fn sum(&self) -> &AtomicUsize {
        if self.packed { &self.store.cold } else { &self.store.hot }
    }

    fn bytes(&self) -> &[u8] {
        let block = NonNull::slice_from_raw_parts(self.block, self.held);
        // SAFETY: by I1 so many initialised bytes, which are this handle's alone.
        unsafe { &*block.as_ptr() }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let block = NonNull::slice_from_raw_parts(self.block, self.held);
        // SAFETY: by I1 so many initialised bytes, which are this handle's alone.
        unsafe { &mut *block.as_ptr() }
    }
}

impl<A: Allocator, C: Codec> Drop for Stored<'_, A, C> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<A, C> fmt::Debug for Compressed<A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed")
            .field("hot", &self.hot.load(Relaxed))
            .field("cold", &self.cold.load(Relaxed))
            .finish_non_exhaustive()
    }
}

impl<A: Allocator, C: Codec> fmt::Debug for Stored<'_, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("len", &self.len).field("held", &self.held).field("cold", &self.packed).finish()
    }
}
