//! Atomics behind one seam: `core`'s, or loom's where a model checks what stands on them.
#![no_std]
