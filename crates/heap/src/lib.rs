//! Allocators of bytes over any backing.
#![no_std]
