//! [`Topology`]: the nodes of a machine, as the kernel shows them in files.
//!
//! ```text
//!  /sys/devices/system/node/online           "0-1,3"        the nodes that there are
//!                          /node3/cpulist    "4-7,12"       empty: memory alone
//!                          /node3/meminfo    "Node 3 MemTotal:  262144 kB" …
//!                          /node3/distance   "21 40 10"     to each node that is online, in rising order
//! ```
//!
//! Files are texts from outside: cut off, doubled or of another form they are an error, never a panic and no guess.
#![forbid(unsafe_code)]

use std::{fs, ops::RangeInclusive, path::Path, vec, vec::Vec};

use super::NumaUnavailable;

/// The largest number of a node, or of a processor, that is believed.
const MOST: usize = 1 << 16;

/// A node as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number, by which the system calls name it. Numbers may have gaps.
    pub number: usize,
    /// The processors that are near it; none near a node of memory alone.
    pub processors: Vec<usize>,
    /// Bytes of memory; 0 without any.
    pub bytes: u64,
    /// Of these, bytes that nobody used when it was asked.
    pub free_bytes: u64,
}

/// The nodes of a machine, in rising order of their numbers, and how far they are from one another.
///
/// ```
/// use terrace_sys::numa::Topology;
///
/// let topology = Topology::read().unwrap_or_else(|_| Topology::one_node());
/// for (index, node) in topology.nodes().iter().enumerate() {
///     println!("node {}: {} MiB, processors {:?}, distances {:?}", node.number, node.bytes >> 20, node.processors, topology.row(index));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    nodes: Vec<Node>,
    distances: Vec<u8>,
}

impl Topology {
    /// The machine's.
    ///
    /// # Errors
    /// [`NumaUnavailable::Kernel`], where the kernel shows no nodes: take [`one_node`](Self::one_node) then.
    /// [`NumaUnavailable::Unreadable`], where a file does not say what it should.
    pub fn read() -> Result<Self, NumaUnavailable> {
        Self::read_in(Path::new("/sys/devices/system/node"))
    }

    /// That of the files below `folder`, of the same form: another machine's, kept or written by hand.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_in(folder: &Path) -> Result<Self, NumaUnavailable> {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let online = text("online").ok_or(NumaUnavailable::Kernel)?;
        let numbers = list(&online).filter(|numbers| !numbers.is_empty()).ok_or(NumaUnavailable::Unreadable)?;
        let mut topology = Self { nodes: Vec::new(), distances: Vec::new() };
        for number in &numbers {
            let file = |name: &str| text(&std::format!("node{number}/{name}")).ok_or(NumaUnavailable::Unreadable);
            let node = node(*number, &file("cpulist")?, &file("meminfo")?).ok_or(NumaUnavailable::Unreadable)?;
            let row = distances(&file("distance")?, numbers.len(), topology.nodes.len());
            topology.nodes.push(node);
            topology.distances.extend(row.ok_or(NumaUnavailable::Unreadable)?);
        }
        Ok(topology)
    }

    /// A machine of one node that has all memory, as far as `/proc/meminfo` tells, and no processor by number.
    pub fn one_node() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes = |name| field(&meminfo, name).unwrap_or(0);
        let (all, free) = (bytes("MemTotal:"), bytes("MemFree:"));
        let node = Node { number: 0, processors: Vec::new(), bytes: all, free_bytes: free.min(all) };
        Self { nodes: vec![node], distances: vec![10] }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The place among [`nodes`](Self::nodes) of the one with that number.
    pub fn index_of(&self, number: usize) -> Option<usize> {
        self.nodes.iter().position(|node| node.number == number)
    }

    /// All distances, row by row, by the places of the nodes.
    pub fn distances(&self) -> &[u8] {
        &self.distances
    }

    /// The distances from the node at that place; none, where there is none.
    pub fn row(&self, index: usize) -> &[u8] {
        let count = self.nodes.len();
        self.distances.get(index.saturating_mul(count)..).and_then(|rows| rows.get(..count)).unwrap_or_default()
    }
}

/// The number with that unit behind the name, in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.split_once(name))?.1;
    let mut words = line.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB") && words.next().is_none()).then_some(number)?.checked_mul(1024)
}

fn node(number: usize, cpulist: &str, meminfo: &str) -> Option<Node> {
    let (bytes, free_bytes) = (field(meminfo, "MemTotal:")?, field(meminfo, "MemFree:")?);
    let processors = list(cpulist)?;
    (free_bytes <= bytes).then_some(Node { number, processors, bytes, free_bytes })
}

/// The distances of a row, of which that to itself is 10 and no other is less.
fn distances(text: &str, count: usize, own: usize) -> Option<Vec<u8>> {
    let row: Vec<u8> = text.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let is_row = row.len() == count && row.iter().all(|&distance| distance >= 10) && row.get(own) == Some(&10);
    is_row.then_some(row)
}

/// "0-1,3": the numbers, which rise. An empty line is none.
fn list(text: &str) -> Option<Vec<usize>> {
    let line = text.strip_suffix('\n')?;
    let ranges = line.split(',').filter(|_| !line.is_empty()).map(range).collect::<Option<Vec<_>>>()?;
    let rise = ranges.windows(2).all(|two| two[0].end() < two[1].start());
    rise.then(|| ranges.into_iter().flatten().collect())
}

fn range(text: &str) -> Option<RangeInclusive<usize>> {
    let number =
        |text: &str| text.parse().ok().filter(|&number| number < MOST && text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// Bytes that may still be taken, and bytes in all, by a `meminfo` file, perhaps without its end. That of the machine tells what is
/// available, without what the kernel keeps back on each node; that of a node does not, so there it is what nobody uses, and what holds files
/// that can be read again.
pub(super) fn room(meminfo: &[u8]) -> Option<(u64, u64)> {
    let text = core::str::from_utf8(meminfo).ok()?;
    let (all, free) = (field(text, "MemTotal:")?, field(text, "MemFree:")?);
    if let Some(available) = field(text, "MemAvailable:") {
        return Some((available, all));
    }
    let sum = |names: [&str; 2]| names.into_iter().filter_map(|name| field(text, name)).sum::<u64>();
    let files = sum(["Active(file):", "Inactive(file):"]).saturating_sub(sum(["Dirty:", "Writeback:"]));
    Some((free.saturating_add(files), all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "Node 1 MemTotal:        262144 kB\nNode 1 MemFree:         131072 kB\nNode 1 Dirty: 8 kB\n\
                           Node 1 Active(file):    24 kB\nNode 1 Inactive(file):  16 kB\n";

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0\n"), Some(vec![0]));
        assert_eq!(list("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(list("\n"), Some(vec![]));
    }

    #[test]
    fn torn_lists_are_refused() {
        for torn in [
            "",
            "0",
            "0-",
            "0-\n",
            "-1\n",
            "0,\n",
            ",0\n",
            "1-0\n",
            "0,0\n",
            "3,1\n",
            "0-99999999\n",
            "0 1\n",
            "+1\n",
            "a\n",
        ] {
            assert_eq!(list(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn a_node_is_read_whole_or_not_at_all() {
        let whole = node(1, "2-3\n", MEMINFO).expect("a node");
        assert_eq!((whole.processors, whole.bytes, whole.free_bytes), (vec![2, 3], 256 << 20, 128 << 20));
        assert_eq!(node(2, "\n", MEMINFO).expect("memory alone").processors, []);
        // Cut off anywhere before the second figure's end.
        let end = MEMINFO.find("131072 kB").unwrap() + "131072 kB".len();
        for cut in 0..end {
            assert_eq!(node(1, "2-3\n", &MEMINFO[..cut]), None, "{cut}");
        }
        assert_eq!(node(1, "2-3\n", &MEMINFO.replace("262144", "99")), None, "more free than there is");
        assert_eq!(node(1, "2-3\n", &MEMINFO.replace("262144", "18446744073709551615")), None);
    }

    #[test]
    fn the_room_of_a_node_counts_files_but_not_what_must_be_written_first() {
        assert_eq!(room(MEMINFO.as_bytes()), Some(((131_072 + 24 + 16 - 8) * 1024, 256 << 20)));
        assert_eq!(room(b"MemTotal: 5 kB\nMemFree: 4 kB\nMemAvailable: 3 kB\n"), Some((3072, 5120)));
        assert_eq!(room(b"Node 1 MemTotal: 5 kB"), None);
        assert_eq!(room(&[0xFF]), None);
    }

    #[test]
    fn distances_that_are_no_row_are_refused() {
        assert_eq!(distances("10 21\n", 2, 0), Some(vec![10, 21]));
        assert_eq!(distances("21 10", 2, 1), Some(vec![21, 10]));
        for torn in ["", "10", "10 2", "10 256", "10 21 21", "21 10", "10 x"] {
            assert_eq!(distances(torn, 2, 0), None, "{torn:?}");
        }
    }

    /// The machine that Linux shows in numa-vm's `cxl`, with a gap in the numbers.
    fn write(folder: &Path) {
        fs::write(folder.join("online"), "0,2-3\n").unwrap();
        let rows = ["10 21 40\n", "21 10 40\n", "40 40 10\n"];
        for (index, number) in [0, 2, 3].into_iter().enumerate() {
            let node = folder.join(std::format!("node{number}"));
            fs::create_dir(&node).unwrap();
            fs::write(node.join("cpulist"), ["0-1\n", "2-3\n", "\n"][index]).unwrap();
            fs::write(node.join("meminfo"), MEMINFO).unwrap();
            fs::write(node.join("distance"), rows[index]).unwrap();
        }
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Topology::read_in(folder.path()), Err(NumaUnavailable::Kernel));
        write(folder.path());
        let topology = Topology::read_in(folder.path()).expect("a topology");
        assert!(topology.nodes().iter().map(|node| node.number).eq([0, 2, 3]));
        assert_eq!((topology.index_of(3), topology.index_of(1)), (Some(2), None));
        assert_eq!((topology.row(2), topology.row(3)), (&[40, 40, 10][..], &[][..]));
        assert!(topology.nodes()[2].processors.is_empty());
        for file in ["node2/cpulist", "node3/distance", "node0/meminfo"] {
            let path = folder.path().join(file);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 3]).unwrap();
            assert_eq!(Topology::read_in(folder.path()), Err(NumaUnavailable::Unreadable), "a third of {file}");
            fs::remove_file(&path).unwrap();
            assert_eq!(Topology::read_in(folder.path()), Err(NumaUnavailable::Unreadable), "no {file}");
            fs::write(&path, whole).unwrap();
        }
        assert_eq!(Topology::read_in(folder.path()), Ok(topology));
    }

    #[test]
    fn a_machine_without_nodes_is_one() {
        let one = Topology::one_node();
        assert_eq!((one.nodes().len(), one.distances(), one.row(1)), (1, &[10][..], &[][..]));
    }
}
