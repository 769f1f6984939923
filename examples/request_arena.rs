//! One arena per request: a server's worker that gives all of a request's memory back at once.
//!
//! ```console
//! $ cargo run -p terrace-examples --example request_arena
//! 10000 requests served; the backing was asked once; 0 bytes in use at the end
//! ```
//!
//! Each worker keeps one arena. A request parses, builds and answers in it; `reset` then ends all of that in
//! a few instructions and keeps the memory for the next one. After the first requests the worker asks
//! its backing for nothing any more. That a response cannot keep a piece of a request alive by mistake
//! is the borrow checker's work: `reset` takes `&mut`.

use allocator_api2_02::vec::Vec;
use terrace_core::{AllocError, ResetMode, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, StatsAllocator};

/// A request's query, such as `name=terrace&lines=3`, in the arena.
struct Query<'a> {
    pairs: Vec<(&'a str, &'a str), &'a Arena>,
}

type Arena = ArenaAllocator<&'static Backing>;
type Backing = StatsAllocator<SystemAllocator>;

static BACKING: Backing = StatsAllocator::new(SystemAllocator);

fn parse<'a>(arena: &'a Arena, query: &str) -> Result<Query<'a>, AllocError> {
    let mut pairs = Vec::new_in(arena);
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.try_reserve(1).map_err(|_| AllocError)?;
        pairs.push((&*arena.alloc_str(key)?, &*arena.alloc_str(value)?));
    }
    Ok(Query { pairs })
}

/// The response's length; the response itself lives and ends in the arena.
fn handle(arena: &Arena, query: &str) -> Result<usize, AllocError> {
    let query = parse(arena, query)?;
    let mut response = Vec::new_in(arena);
    for (key, value) in &query.pairs {
        for part in [key, ": ", value, "\n"] {
            response.try_reserve(part.len()).map_err(|_| AllocError)?;
            response.extend_from_slice(part.as_bytes());
        }
    }
    Ok(response.len())
}

/// Serves `requests` and says how often the backing was asked, and what is in use afterwards.
fn serve(requests: usize) -> Result<(u64, usize), AllocError> {
    let before = BACKING.stats().total_allocations;
    let mut arena = Arena::new(&BACKING);
    for n in 0..requests {
        let query = format!("user={n}&page={}&sort=name&filter=none", n % 100);
        assert!(handle(&arena, &query)? > query.len());
        arena.reset(ResetMode::RetainCapacity);
    }
    Ok((BACKING.stats().total_allocations - before, arena.used_bytes()))
}

fn main() -> Result<(), AllocError> {
    let (asked, in_use) = serve(10_000)?;
    let asked = if asked == 1 { "once".to_string() } else { format!("{asked} times") };
    println!("10000 requests served; the backing was asked {asked}; {in_use} bytes in use at the end");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_requests_ask_the_backing() {
        let few = serve(10).unwrap();
        let many = serve(2000).unwrap();
        assert!(many.0 <= few.0 + 3, "{} requests to the backing for 2000, {} for 10", many.0, few.0);
        assert_eq!(many.1, 0);
        assert_eq!(BACKING.stats().current_bytes, 0);
    }
}
