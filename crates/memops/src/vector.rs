//! [`Vector`]: what the operations need of a register, and the one that every machine has.
//!
//! - **V1** A value of a vector's type comes from `load` or `splat` on a machine that has it, so its methods run there alone.
//!
//! Costs: a method is an instruction or two of the function of a level that it is used in; hence `#[inline(always)]`.

/// Bytes in a register.
pub(crate) trait Vector: Copy {
    /// Bytes.
    const LEN: usize;

    /// `LEN` bytes from `at`, of any alignment.
    ///
    /// # Safety
    /// They can be read, and the machine has this vector.
    unsafe fn load(at: *const u8) -> Self;

    /// Writes the bytes to `at`, of any alignment.
    ///
    /// # Safety
    /// `LEN` bytes from there can be written.
    unsafe fn store(self, at: *mut u8);

    /// `byte` everywhere.
    ///
    /// # Safety
    /// The machine has this vector.
    unsafe fn splat(byte: u8) -> Self;

    /// What differs.
    fn xor(self, other: Self) -> Self;

    /// What is set in either.
    fn or(self, other: Self) -> Self;

    /// Whether every byte is zero.
    fn is_zero(self) -> bool;

    /// The index of the first byte that is not zero, in the order of memory. One is not.
    fn first_nonzero(self) -> usize;
}

/// 16 bytes in two words, least significant byte first, whatever the machine's order.
#[derive(Clone, Copy)]
pub(crate) struct Pair(u64, u64);

impl Vector for Pair {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: the caller's promise; an array of bytes has no alignment.
        let [low, high] = unsafe { at.cast::<[[u8; 8]; 2]>().read() };
        Self(u64::from_le_bytes(low), u64::from_le_bytes(high))
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        let bytes = [self.0.to_le_bytes(), self.1.to_le_bytes()];
        // SAFETY: the caller's promise; an array of bytes has no alignment.
        unsafe { at.cast::<[[u8; 8]; 2]>().write(bytes) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        let word = u64::from_le_bytes([byte; 8]);
        Self(word, word)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(self.0 ^ other.0, self.1 ^ other.1)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0, self.1 | other.1)
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        self.0 | self.1 == 0
    }

    #[inline(always)]
    fn first_nonzero(self) -> usize {
        let (word, before) = if self.0 == 0 { (self.1, 8) } else { (self.0, 0) };
        before + word.trailing_zeros() as usize / 8
    }
}
