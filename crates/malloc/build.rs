//! Tells the linker how the library is to be loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // `now`: no symbol is looked up in the midst of a call. `initfirst`: our fork handlers are the first that are
        // registered, so the last that run before a fork, when those of others have allocated what they will.
        // `nodelete`: its blocks and its threads' ends outlive a `dlclose`.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now,-z,initfirst,-z,nodelete");
    }
}
