//! The operating system as an allocator.
#![no_std]
