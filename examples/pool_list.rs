//! A linked list whose nodes come from a pool.
//!
//! ```console
//! $ cargo run -p terrace-examples --example pool_list
//! 1000 rounds of a queue of 100: 100000 nodes made, in 1 request to malloc
//! ```
//!
//! Each node owns the next one through a handle of the pool, as it would through a `Box`, but a node that ends
//! leaves its place to the next one that is made: nothing is asked of the backing any more. The nodes hold strings,
//! to show that values with destructors are dropped, each once.

use terrace_core::{AllocError, Allocator, Stats, SystemAllocator};
use terrace_heap::{Pool, Pooled, StatsAllocator};

/// What a list's nodes are made of.
struct Node<'p, T, A: Allocator> {
    value: T,
    next: Link<'p, T, A>,
}

type Link<'p, T, A> = Option<Pooled<'p, Node<'p, T, A>, A>>;
type Nodes<'p, T, A> = Pool<Node<'p, T, A>, A>;

/// A list, newest first. Several may share a pool.
struct List<'p, T, A: Allocator> {
    pool: &'p Nodes<'p, T, A>,
    head: Link<'p, T, A>,
}

impl<'p, T, A: Allocator> List<'p, T, A> {
    fn new(pool: &'p Nodes<'p, T, A>) -> Self {
        Self { pool, head: None }
    }

    /// # Errors
    /// [`AllocError`] where the pool has no item and its backing gives none; the list is as it was.
    fn push(&mut self, value: T) -> Result<(), AllocError> {
        // The node is made before the list lets go of its head: a refusal must not drop the list.
        let mut node = self.pool.create(Node { value, next: None })?;
        node.next = self.head.take();
        self.head = Some(node);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        let Node { value, next } = self.head.take()?.into_inner();
        self.head = next;
        Some(value)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        let mut at = &self.head;
        std::iter::from_fn(move || {
            let node = at.as_ref()?;
            at = &node.next;
            Some(&node.value)
        })
    }

    /// Turns the list around, moving no value.
    fn reverse(&mut self) {
        let mut rest = self.head.take();
        while let Some(mut node) = rest {
            rest = node.next.take();
            node.next = self.head.take();
            self.head = Some(node);
        }
    }
}

/// One node after the other: a long list dropped by its nodes would take a stack frame for each.
impl<T, A: Allocator> Drop for List<'_, T, A> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Requests to the backing for so many rounds of filling a list of `len` names and emptying it.
fn serve(rounds: usize, len: usize) -> Result<u64, AllocError> {
    let counted = StatsAllocator::new(SystemAllocator);
    let pool = Pool::new(&counted);
    pool.allocator().add_capacity(len)?;
    let mut names = List::new(&pool);
    for round in 0..rounds {
        for n in 0..len {
            names.push(format!("{round}:{n}"))?;
        }
        names.reverse();
        assert_eq!(names.iter().count(), len);
        for n in 0..len {
            assert_eq!(names.pop(), Some(format!("{round}:{n}")), "first in, first out, once turned around");
        }
    }
    Ok(counted.stats().total_allocations)
}

fn main() -> Result<(), AllocError> {
    let requests = serve(1000, 100)?;
    let plural = if requests == 1 { "" } else { "s" };
    println!("1000 rounds of a queue of 100: 100000 nodes made, in {requests} request{plural} to malloc");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use terrace_heap::FailingAllocator;

    #[test]
    fn nodes_made_ahead_are_all_that_is_asked_for() {
        assert_eq!(serve(20, 100), Ok(1));
    }

    #[test]
    fn two_lists_share_a_pool_and_drop_what_they_hold() {
        let (value, pool) = (Rc::new(()), Pool::new(SystemAllocator));
        let (mut one, mut two) = (List::new(&pool), List::new(&pool));
        for _ in 0..10 {
            one.push(Rc::clone(&value)).unwrap();
            two.push(Rc::clone(&value)).unwrap();
        }
        drop(one);
        assert_eq!((Rc::strong_count(&value), pool.allocator().free_items()), (11, 10));
        drop(two);
        assert_eq!((Rc::strong_count(&value), pool.allocator().free_items()), (1, 20));
    }

    #[test]
    fn a_long_list_is_dropped_without_a_deep_stack() {
        let pool = Pool::new(SystemAllocator);
        let mut long = List::new(&pool);
        for n in 0..300_000 {
            long.push(n).unwrap();
        }
        drop(long);
        assert_eq!(pool.allocator().free_items(), 300_000);
    }

    #[test]
    fn a_refused_push_leaves_the_list_as_it_was() {
        let failing = FailingAllocator::new(SystemAllocator);
        failing.refuse_allocs(1..);
        failing.refuse_resizes(..);
        let pool = Pool::new(&failing);
        let mut list = List::new(&pool);
        let pushed = (0..1000).take_while(|&n| list.push(n).is_ok()).count();
        assert!((1..1000).contains(&pushed));
        assert!(list.iter().copied().eq((0..pushed).rev()));
    }
}
