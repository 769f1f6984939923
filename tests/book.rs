//! The book as a crate: every markdown page is the documentation of one module, so that
//! `cargo test --doc -p terrace-tests` compiles and runs the Rust code in it.
//!
//! `build.rs` finds the pages; `tidy.rs` checks that none was missed.

include!(concat!(env!("OUT_DIR"), "/pages.rs"));
