//! What a replay asks of the system beyond `terrace-sys`: a limit, so that a stack that keeps too much is
//! refused memory, and counted, before the machine runs out of it.

/// No more than `bytes` of private writable memory for this process; address space that is only reserved is free.
pub fn limit_memory(bytes: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max.min(bytes);
        // SAFETY: `limit` is a readable `rlimit`. Without effect where refused: then the machine is the limit.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) };
    }
}
