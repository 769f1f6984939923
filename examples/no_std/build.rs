//! Without std nobody else names the C library, whose start-up code calls `main`.

fn main() {
    println!("cargo:rustc-link-lib=c");
}
