//! Nodes of memory: which there are, where pages come from, where they lie, and how they move.
//!
//! ```text
//!  Topology::read     what nodes there are            topology.rs
//!  current_node       the caller's, kept for a while
//!  bind, set_policy   where pages come from when they are touched: of a range, of the thread
//!  places             where pages lie
//!  migrate            brings them to another node
//!  populate_on        touches a range on one node, or refuses: a full node is an error, never a signal
//!  populate           the same without a node
//!  populate_huge_on   the same for huge pages out of the pool
//!  collapse           joins pages to huge ones
//! ```
//!
//! None of these changes what memory holds, but [`populate_on`] and [`populate`], which give back what they cannot have whole.
//!
//! A page that a policy *binds* to a full node is not refused: the kernel ends a process for it. So nothing here binds
//! before it has touched, and [`populate_on`] goes about it so:
//!
//! ```text
//!  room of the node? ── no ──────────────────────────────────────────────▶ NodeFull
//!       │ yes
//!  prefer the node, touch all ── elsewhere? ── move there ── elsewhere? ──▶ give back, NodeFull
//!       │ there                                    │ there
//!       └──────────────────────────────────────────┴──▶ Ok
//! ```
//!
//! A preferred node that is full passes a page on to others, and a move asks for that node alone, where the kernel frees what it can and
//! ends nobody.
//!
//! Cost: the system calls. [`current_node`] is a load and a count; each 1024th call asks.

mod topology;

use core::{cell::Cell, error::Error, fmt, ptr::NonNull};
use std::{fs::File, io::Read as _, io::Write as _, thread_local};

pub use topology::{Node, Topology};

use crate::prim::{self, Errno, Mode, NodeBits, page_size};

/// What cannot be done about nodes here, and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumaUnavailable {
    /// The kernel knows no nodes, or not this call.
    Kernel,
    /// The process may not do it.
    Permission,
    /// The node is not there, has no memory, or the process may not use it.
    Node,
    /// The node has no room for these pages.
    NodeFull {
        /// Its number.
        node: usize,
    },
    /// The pool of huge pages has too few on that node.
    NoHugePages {
        /// Its number.
        node: usize,
    },
    /// The range is not of whole pages, or not all of it is mapped.
    Range,
    /// The system has no memory left for this, or could not get hold of the pages now.
    Memory,
    /// The files that describe the nodes do not say what they should.
    Unreadable,
}

impl fmt::Display for NumaUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kernel => f.write_str(
                "this kernel knows no nodes of memory, or not this call: CONFIG_NUMA brings them, Linux 6.1 the joining of huge \
                 pages; without them the machine is one node",
            ),
            Self::Permission => f.write_str(
                "this process may not do that: a container's filter of system calls forbids it, or CAP_SYS_NICE is missing",
            ),
            Self::Node => f.write_str(
                "there is no such node with memory, or the process's set of nodes (Mems_allowed in /proc/self/status) lacks it; \
                 /sys/devices/system/node/has_memory lists those with memory",
            ),
            Self::NodeFull { node } => write!(
                f,
                "node {node} has no room for these pages; /sys/devices/system/node/node{node}/meminfo tells how much it has"
            ),
            Self::NoHugePages { node } => write!(
                f,
                "node {node} has too few huge pages free; their number is set in nr_hugepages of the folder for their size below \
                 /sys/devices/system/node/node{node}/hugepages"
            ),
            Self::Range => f.write_str("the range is not of whole pages, or not all of it is mapped"),
            Self::Memory => f.write_str("the system has no memory for this now; it may be tried again"),
            Self::Unreadable => {
                f.write_str("the files below /sys/devices/system/node do not say what they should; they may be read again")
            }
        }
    }
}

impl Error for NumaUnavailable {}

impl From<Errno> for NumaUnavailable {
    fn from(why: Errno) -> Self {
        match why {
            why if why.is_not_allowed() => Self::Permission,
            why if why.is_no_memory() => Self::Memory,
            why if why.is_no_range() => Self::Range,
            why if why.is_no_call() => Self::Kernel,
            _ => Self::Node,
        }
    }
}

/// Where pages come from when they are touched for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryPolicy {
    /// From the node of the thread that touches them; or as the thread's policy says, for a range.
    #[default]
    Local,
    /// From that node, else from others.
    Preferred(usize),
    /// From the nodes with these numbers alone. When they are full the kernel ends a process.
    Bind(Nodes),
    /// From the nodes with these numbers in turn, a page each.
    Interleave(Nodes),
}

/// Numbers of nodes, from 0 to 1023.
///
/// ```
/// use terrace_sys::numa::Nodes;
///
/// let nodes: Nodes = [0, 2].into_iter().collect();
/// assert!(nodes.iter().eq([0, 2]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nodes(NodeBits);

impl Nodes {
    /// The numbers, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let bits = self.0;
        (0..bits.len() * 64).filter(move |node| bits[node / 64] >> (node % 64) & 1 == 1)
    }
}

/// A number above 1023 is passed over.
impl FromIterator<usize> for Nodes {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        let mut bits = NodeBits::default();
        for node in nodes {
            if let Some(word) = bits.get_mut(node / 64) {
                *word |= 1 << (node % 64);
            }
        }
        Self(bits)
    }
}

impl MemoryPolicy {
    fn mode(&self) -> Result<(Mode, NodeBits), NumaUnavailable> {
        let (mode, nodes) = match self {
            Self::Local => return Ok((Mode::Default, NodeBits::default())),
            Self::Preferred(node) => (Mode::Preferred, [*node].into_iter().collect()),
            Self::Bind(nodes) => (Mode::Bind, *nodes),
            Self::Interleave(nodes) => (Mode::Interleave, *nodes),
        };
        // The kernel takes a preference for no node as none, and would say nothing.
        if nodes == Nodes::default() { Err(NumaUnavailable::Node) } else { Ok((mode, nodes.0)) }
    }
}

/// Says where the pages of a range come from that are touched from now on.
///
/// # Errors
/// [`NumaUnavailable`]: with [`Range`](NumaUnavailable::Range) or [`Node`](NumaUnavailable::Node) nothing has changed.
pub fn bind(range: NonNull<[u8]>, policy: &MemoryPolicy) -> Result<(), NumaUnavailable> {
    let (mode, nodes) = policy.mode()?;
    if whole(range)? == 0 {
        return Ok(());
    }
    Ok(prim::bind(range.cast(), range.len(), mode, &nodes)?)
}

/// Says where all pages come from that this thread touches from now on, in ranges without a policy of their own.
///
/// # Errors
/// [`NumaUnavailable`]: nothing has changed.
pub fn set_policy(policy: &MemoryPolicy) -> Result<(), NumaUnavailable> {
    let (mode, nodes) = policy.mode()?;
    Ok(prim::set_policy(mode, &nodes)?)
}

/// What [`set_policy`] has said in this thread. `None`: a policy that has no name here.
///
/// # Errors
/// [`NumaUnavailable::Kernel`], [`NumaUnavailable::Permission`].
pub fn policy() -> Result<Option<MemoryPolicy>, NumaUnavailable> {
    let (mode, nodes) = prim::policy()?;
    let nodes = Nodes(nodes);
    Ok(mode.map(|mode| match mode {
        Mode::Default => MemoryPolicy::Local,
        Mode::Preferred => nodes.iter().next().map_or(MemoryPolicy::Local, MemoryPolicy::Preferred),
        Mode::Bind => MemoryPolicy::Bind(nodes),
        Mode::Interleave => MemoryPolicy::Interleave(nodes),
    }))
}

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// On the node with that number.
    Node(usize),
    /// Nowhere: it was never touched, or was given back, or nothing is mapped there.
    Nowhere,
    /// The system does not say: the page is on its way, say.
    Unknown,
}

impl Place {
    fn of(found: i32) -> Self {
        match usize::try_from(found) {
            Ok(node) => Self::Node(node),
            Err(_) if prim::NOWHERE.contains(&found) => Self::Nowhere,
            Err(_) => Self::Unknown,
        }
    }
}

/// Pages that are asked about by one call.
const AT_ONCE: usize = 128;

/// Tells `look` of each page of a range where it lies, in rising order.
///
/// # Errors
/// [`NumaUnavailable`].
pub fn places(range: NonNull<[u8]>, mut look: impl FnMut(Place)) -> Result<(), NumaUnavailable> {
    each_part(range, |pages, _| {
        let mut found = [0; AT_ONCE];
        prim::move_pages(pages, None, &mut found[..pages.len()])?;
        found[..pages.len()].iter().for_each(|&found| look(Place::of(found)));
        Ok(())
    })
}

/// Moves the pages of a range to the node with that number, and says how many lie there now. Contents and addresses stay. Pages that
/// others use too, or that the node has no room for, stay where they are.
///
/// # Errors
/// [`NumaUnavailable`]; some pages may have been moved.
pub fn migrate(range: NonNull<[u8]>, node: usize) -> Result<usize, NumaUnavailable> {
    let number = i32::try_from(node).map_err(|_| NumaUnavailable::Node)?;
    let mut there = 0;
    each_part(range, |pages, _| {
        let mut found = [0; AT_ONCE];
        let found = &mut found[..pages.len()];
        match prim::move_pages(pages, Some(&[number; AT_ONCE][..pages.len()]), found) {
            Err(why) if !why.is_no_memory() => return Err(why.into()),
            _ => {} // A full node ends the move somewhere.
        }
        // What the move says of a page may be why it failed; where it lies is another question.
        prim::move_pages(pages, None, found)?;
        there += found.iter().filter(|&&found| found == number).count();
        Ok(())
    })?;
    Ok(there)
}

/// Calls `act` with the addresses of the pages, so many at once, and the number of the first.
fn each_part(
    range: NonNull<[u8]>,
    mut act: impl FnMut(&[usize], usize) -> Result<(), NumaUnavailable>,
) -> Result<(), NumaUnavailable> {
    let (start, count) = (range.cast::<u8>().addr().get(), whole(range)?);
    for first in (0..count).step_by(AT_ONCE) {
        let mut pages = [0; AT_ONCE];
        let part = (count - first).min(AT_ONCE);
        pages[..part].iter_mut().enumerate().for_each(|(at, page)| *page = start + (first + at) * page_size());
        act(&pages[..part], first)?;
    }
    Ok(())
}

/// Pages of a range.
fn whole(range: NonNull<[u8]>) -> Result<usize, NumaUnavailable> {
    let (page, start) = (page_size(), range.cast::<u8>().addr().get());
    let whole = start.is_multiple_of(page) && range.len().is_multiple_of(page);
    // A range is any pointer and any length: what would end behind the last address is not mapped.
    if whole && start.checked_add(range.len()).is_some() { Ok(range.len() / page) } else { Err(NumaUnavailable::Range) }
}

/// Touches every page of a range on the node with that number, of which the pages come later too: all of them, or none. It is an error where
/// the node is full, or the machine would be; no signal, while nobody else takes the room at that moment.
///
/// # Errors
/// [`NumaUnavailable::NodeFull`] and others: the range was given back, and reads as zero.
///
/// # Safety
/// The range is writable, nobody else uses it, and nothing in it is needed any more.
pub unsafe fn populate_on(range: NonNull<[u8]>, node: usize) -> Result<(), NumaUnavailable> {
    if whole(range)? == 0 {
        return Ok(());
    }
    has_room(node, range.len())?;
    bind(range, &MemoryPolicy::Preferred(node))?;
    // SAFETY: a writable range, of nobody else.
    let populated = unsafe { prim::populate(range.cast(), range.len()) };
    let there = populated.map_err(NumaUnavailable::from).and_then(|()| all_on(range, node));
    if there.is_err() {
        // SAFETY: the caller needs nothing of it.
        let _ = unsafe { prim::decommit(range.cast(), range.len()) };
    }
    there
}

/// The same for a machine of one node, or a kernel that knows none: touches every page, wherever it comes from.
///
/// # Errors
/// [`NumaUnavailable::Memory`] and others, where the machine would be full: the range was given back, and reads as zero.
///
/// # Safety
/// As [`populate_on`].
pub unsafe fn populate(range: NonNull<[u8]>) -> Result<(), NumaUnavailable> {
    if whole(range)? == 0 {
        return Ok(());
    }
    if !room_in("/proc/meminfo", range.len())? {
        return Err(NumaUnavailable::Memory);
    }
    // SAFETY: a writable range, of nobody else.
    let populated = unsafe { prim::populate(range.cast(), range.len()) };
    if populated.is_err() {
        // SAFETY: the caller needs nothing of it.
        let _ = unsafe { prim::decommit(range.cast(), range.len()) };
    }
    Ok(populated?)
}

/// As [`populate_on`] for a range of huge pages out of the machine's pool, which is one for all nodes: there the kernel answers with an error
/// where the node has none left.
///
/// ```
/// use core::{num::NonZeroUsize, ptr::NonNull};
/// use terrace_core::{Alignment, Allocator};
/// use terrace_sys::{PageOptions, numa};
///
/// let size = Alignment::new(2 << 20).unwrap();
/// let pages = PageOptions::new().explicit_huge_pages(size).build();
/// if let Ok(start) = pages.alloc(NonZeroUsize::new(size.bytes()).unwrap(), size) {
///     let page = NonNull::slice_from_raw_parts(start, size.bytes());
///     // SAFETY: just made, and empty.
///     if let Err(why) = unsafe { numa::populate_huge_on(page, 0) } {
///         println!("{why}");
///     }
///     // SAFETY: live, and not used again.
///     unsafe { pages.free(page, size) };
/// }
/// ```
///
/// # Errors
/// [`NumaUnavailable::NoHugePages`] and others: some pages may be in memory, and the range must not be touched before it succeeds.
///
/// # Safety
/// As [`populate_on`]; the range consists of whole huge pages of a block by
/// [`PageOptions::explicit_huge_pages`](crate::PageOptions::explicit_huge_pages).
pub unsafe fn populate_huge_on(range: NonNull<[u8]>, node: usize) -> Result<(), NumaUnavailable> {
    bind(range, &MemoryPolicy::Bind([node].into_iter().collect()))?;
    // SAFETY: a writable range, of nobody else.
    let populated = unsafe { prim::populate(range.cast(), range.len()) };
    populated.map_err(|why| match why.is_not_known() {
        true => NumaUnavailable::Kernel,
        false => NumaUnavailable::NoHugePages { node },
    })?;
    let mut elsewhere = false;
    places(range, |place| elsewhere |= place != Place::Node(node))?;
    if elsewhere { Err(NumaUnavailable::NoHugePages { node }) } else { Ok(()) }
}

/// Whether each page lies on that node, or could be moved there.
fn all_on(range: NonNull<[u8]>, node: usize) -> Result<(), NumaUnavailable> {
    let mut elsewhere = false;
    places(range, |place| elsewhere |= place != Place::Node(node))?;
    if !elsewhere || migrate(range, node)? == range.len() / page_size() {
        return Ok(());
    }
    Err(NumaUnavailable::NodeFull { node })
}

/// Whether a node, and the machine, may take so many bytes more: as the kernel counts now.
///
/// # Errors
/// [`NumaUnavailable::NodeFull`]; [`NumaUnavailable::Node`], where the kernel shows no such node.
pub fn has_room(node: usize, bytes: usize) -> Result<(), NumaUnavailable> {
    let mut path = [0; 64];
    let mut rest = &mut path[..];
    // In place: an allocator may ask.
    write!(rest, "/sys/devices/system/node/node{node}/meminfo").map_err(|_| NumaUnavailable::Node)?;
    let left = rest.len();
    let path = core::str::from_utf8(&path[..path.len() - left]).map_err(|_| NumaUnavailable::Node)?;
    if room_in(path, bytes)? && room_in("/proc/meminfo", bytes)? {
        Ok(())
    } else {
        Err(NumaUnavailable::NodeFull { node })
    }
}

/// What is left to the kernel: of a small node 4 MiB, of a large one a 64th.
fn reserve(all: u64) -> u64 {
    (all / 64).max(4 << 20)
}

fn room_in(path: &str, bytes: usize) -> Result<bool, NumaUnavailable> {
    let mut text = [0; 4096];
    let mut len = 0;
    let mut file = File::open(path).map_err(|_| NumaUnavailable::Node)?;
    while let Ok(more @ 1..) = file.read(&mut text[len..]) {
        len += more;
    }
    let (room, all) = topology::room(&text[..len]).ok_or(NumaUnavailable::Unreadable)?;
    Ok(room >= (bytes as u64).saturating_add(reserve(all)))
}

/// Joins the pages of a range to huge ones now, where it is made of whole ones: a range of 2 MiB at a multiple of that, where pages have
/// 4 KiB. Contents stay.
///
/// # Errors
/// [`NumaUnavailable::Kernel`]: this kernel cannot, or the map admits none. [`NumaUnavailable::Memory`]: there was no huge page, now;
/// some may have been joined.
pub fn collapse(range: NonNull<[u8]>) -> Result<(), NumaUnavailable> {
    if whole(range)? == 0 {
        return Ok(());
    }
    prim::collapse(range.cast(), range.len()).map_err(|why| match NumaUnavailable::from(why) {
        NumaUnavailable::Node => NumaUnavailable::Kernel,
        why => why,
    })
}

/// Calls that are answered from what is kept.
const KEPT_FOR: u32 = 1024;

thread_local! {
    /// The node that was last told, and for how many calls that will do.
    static CURRENT: Cell<(usize, u32)> = const { Cell::new((0, 0)) };
}

/// The number of the node that this thread runs on, as of up to 1024 calls ago; 0, where the kernel does not say.
///
/// ```
/// let node = terrace_sys::numa::current_node();
/// let topology = terrace_sys::numa::Topology::read();
/// assert!(topology.is_ok_and(|topology| topology.index_of(node).is_some()) || node == 0);
/// ```
#[inline]
pub fn current_node() -> usize {
    let (node, left) = CURRENT.get();
    if left == 0 {
        return ask_current_node();
    }
    CURRENT.set((node, left - 1));
    node
}

#[cold]
fn ask_current_node() -> usize {
    let node = prim::current_node().unwrap_or(0);
    CURRENT.set((node, KEPT_FOR - 1));
    node
}

/// Forgets the thread's node, so that the next call of [`current_node`] asks: for a thread that has been put elsewhere.
pub fn forget_current_node() {
    CURRENT.set((0, 0));
}
