//! [`Machine`]: what a machine is, as far as allocators care.
//!
//! ```text
//!  /sys/devices/system/node        nodes, their memory, processors and distances     terrace_sys::numa::Topology
//!    node0/hugepages               hugetlb pages of that node
//!  /sys/kernel/mm/hugepages        hugetlb pages of the machine, by size
//!    transparent_hugepage          whether the kernel makes huge pages by itself
//!  terrace_memops::features        registers for copying and comparing
//! ```
//!
//! What the system does not say is `None`, and the text says so: nothing is guessed. A kernel without nodes is a machine of one.
#![forbid(unsafe_code)]

use std::{fmt::Write, fs, path::Path, thread};

use serde::Serialize;
use terrace_sys::numa::Topology;

use crate::report::{
    table::{self, WIDTH},
    units,
};

/// A machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub nodes: Vec<Node>,
    /// Why the system does not tell of nodes; all memory is then one.
    pub nodes_unknown: Option<String>,
    /// Row by row, in the order of the nodes: 10 is near.
    pub distances: Vec<Vec<u8>>,
    /// Processors of all nodes, where the system says which there are.
    pub cpus: Option<usize>,
    /// Those that this process may use.
    pub cpus_usable: Option<usize>,
    pub page_bytes: usize,
    /// Sizes of pages that are reserved by number, the smallest first; none where the system has none.
    pub hugetlb: Vec<Pool>,
    pub transparent: Option<Transparent>,
    pub simd: Simd,
}

#[derive(Debug, Serialize)]
pub struct Node {
    pub number: usize,
    /// None near a node of memory alone.
    pub cpus: Vec<usize>,
    pub bytes: u64,
    pub free_bytes: u64,
    /// Those of this node, as in [`Machine::hugetlb`].
    pub hugetlb: Vec<Pool>,
}

/// Huge pages of one size.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Pool {
    pub page_bytes: u64,
    pub pages: u64,
    pub free_pages: u64,
}

/// What the kernel does about huge pages by itself.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Transparent {
    /// `always`, `madvise` or `never`.
    pub enabled: String,
    /// What a fault waits for.
    pub defrag: Option<String>,
    pub page_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Simd {
    pub used: String,
    pub found: Vec<String>,
    pub compiled: Vec<String>,
}

impl Machine {
    /// This machine.
    pub fn read() -> Self {
        Self::read_in(Path::new("/sys"))
    }

    /// That of the files below `sys`; what no file says is this machine's.
    fn read_in(sys: &Path) -> Self {
        let folder = sys.join("devices/system/node");
        let (topology, unknown) = match Topology::read_in(&folder) {
            Ok(topology) => (topology, None),
            Err(why) => (Topology::one_node(), Some(why.to_string())),
        };
        let nodes = topology.nodes().iter().map(|node| Node {
            number: node.number,
            cpus: node.processors.clone(),
            bytes: node.bytes,
            free_bytes: node.free_bytes,
            hugetlb: pools(&folder.join(format!("node{}/hugepages", node.number))),
        });
        let cpus = topology.nodes().iter().map(|node| node.processors.len()).sum();
        Self {
            distances: (0..topology.nodes().len()).map(|node| topology.row(node).to_vec()).collect(),
            nodes: nodes.collect(),
            cpus: unknown.is_none().then_some(cpus),
            nodes_unknown: unknown,
            cpus_usable: thread::available_parallelism().ok().map(Into::into),
            page_bytes: terrace_sys::page_size(),
            hugetlb: pools(&sys.join("kernel/mm/hugepages")),
            transparent: Transparent::read_in(&sys.join("kernel/mm/transparent_hugepage")),
            simd: Simd::found(),
        }
    }
}

/// The word between brackets of `always [madvise] never`.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

/// The number that is all of a file.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Transparent {
    fn read_in(folder: &Path) -> Option<Self> {
        let word = |file: &str| chosen(&fs::read_to_string(folder.join(file)).ok()?).map(str::to_owned);
        Some(Self {
            enabled: word("enabled")?,
            defrag: word("defrag"),
            page_bytes: number(&folder.join("hpage_pmd_size")),
        })
    }
}

/// The pools `hugepages-2048kB` and so on of a folder that may not be there.
fn pools(folder: &Path) -> Vec<Pool> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let pool = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = |file: &str| number(&entry.path().join(file));
        Some(Pool {
            page_bytes: kib.checked_mul(1024)?,
            pages: count("nr_hugepages")?,
            free_pages: count("free_hugepages")?,
        })
    };
    let mut pools: Vec<Pool> = entries.filter_map(pool).collect();
    pools.sort_by_key(|pool| pool.page_bytes);
    pools
}

impl Simd {
    fn found() -> Self {
        let features = terrace_memops::features();
        Self {
            used: format!("{:?}", features.used()),
            found: features.found().map(|level| format!("{level:?}")).collect(),
            compiled: features.compiled().map(|level| format!("{level:?}")).collect(),
        }
    }
}

/// The machine as text.
pub fn text(machine: &Machine) -> String {
    let mut text = String::new();
    let mut line = |name: &str, said: String| {
        for (at, part) in table::wrap(&said, usize::from(WIDTH) - 14).lines().enumerate() {
            let _ = writeln!(text, "{:<14}{part}", if at == 0 { name } else { "" });
        }
    };
    let usable = machine.cpus_usable.map_or_else(|| "the system does not say how many".into(), |cpus| cpus.to_string());
    let cpus = machine.cpus.map_or_else(|| "not told by node".into(), |cpus| cpus.to_string());
    line("CPUs", format!("{cpus}; this process may use {usable}"));
    line("pages", format!("{}, and huge ones:", units::bytes(machine.page_bytes as u64)));
    for pool in &machine.hugetlb {
        line("  hugetlb", told(pool));
    }
    if machine.hugetlb.is_empty() {
        line("  hugetlb", "none: this kernel tells of no such pages".into());
    }
    line("  transparent", machine.transparent.as_ref().map_or_else(no_transparent, transparent));
    let simd = &machine.simd;
    line("SIMD", format!("{} in use; found {}", simd.used, simd.found.join(", ")));
    line(
        "nodes",
        machine.nodes_unknown.as_ref().map_or_else(|| machine.nodes.len().to_string(), |why| format!("one: {why}")),
    );
    text + &nodes(machine)
}

fn told(pool: &Pool) -> String {
    let (size, pages) = (units::bytes(pool.page_bytes), units::count(pool.pages));
    format!("{pages} of {size}, {} free", units::count(pool.free_pages))
}

fn no_transparent() -> String {
    "the system does not say whether it makes huge pages by itself".into()
}

fn transparent(state: &Transparent) -> String {
    let size = state.page_bytes.map_or_else(String::new, |bytes| format!(", of {}", units::bytes(bytes)));
    let defrag = state.defrag.as_ref().map_or_else(String::new, |word| format!("; defrag: {word}"));
    format!("{}{size}{defrag}", state.enabled)
}

/// A row for each node, with its distances to all.
fn nodes(machine: &Machine) -> String {
    let mut text = String::new();
    for (node, row) in machine.nodes.iter().zip(&machine.distances) {
        let cpus = match node.cpus.len() {
            _ if machine.nodes_unknown.is_some() => "all CPUs".into(),
            0 => "no CPU".into(),
            _ => format!("CPUs {}", ranges(&node.cpus)),
        };
        let distances: Vec<String> = row.iter().map(u8::to_string).collect();
        let mut said = format!("{} free of {}; {cpus}", units::bytes(node.free_bytes), units::bytes(node.bytes));
        if node.bytes == 0 {
            said = format!("no memory; {cpus}");
        }
        let _ = write!(said, "; distances {}", distances.join(" "));
        for pool in node.hugetlb.iter().filter(|pool| pool.pages > 0) {
            let _ = write!(said, "; {}", told(pool));
        }
        for (at, part) in table::wrap(&said, usize::from(WIDTH) - 14).lines().enumerate() {
            let name = if at == 0 { format!("  node {}", node.number) } else { String::new() };
            let _ = writeln!(text, "{name:<14}{part}");
        }
    }
    text
}

/// `0-2,5`, of numbers that rise.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let run = |run: &[usize]| match run {
        [first, .., last] => format!("{first}-{last}"),
        alone => alone.first().map_or_else(String::new, usize::to_string),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// A node with processors and one of memory alone; pools in the machine and in the second node.
    const FILES: [(&str, &str); 16] = [
        ("devices/system/node/online", "0,2\n"),
        ("devices/system/node/node0/cpulist", "0-2,5\n"),
        ("devices/system/node/node0/meminfo", "Node 0 MemTotal: 1048576 kB\nNode 0 MemFree: 524288 kB\n"),
        ("devices/system/node/node0/distance", "10 40\n"),
        ("devices/system/node/node2/cpulist", "\n"),
        ("devices/system/node/node2/meminfo", "Node 2 MemTotal: 2097152 kB\nNode 2 MemFree: 1048576 kB\n"),
        ("devices/system/node/node2/distance", "40 10\n"),
        ("devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages", "8\n"),
        ("devices/system/node/node2/hugepages/hugepages-2048kB/free_hugepages", "3\n"),
        ("kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
        ("kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0\n"),
        ("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8\n"),
        ("kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n"),
        ("kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("kernel/mm/transparent_hugepage/defrag", "always defer [madvise] never\n"),
        ("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"),
    ];

    #[test]
    fn a_machine_is_read_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &FILES);
        let machine = Machine::read_in(folder.path());
        assert_eq!((machine.nodes.len(), machine.cpus, machine.nodes_unknown.clone()), (2, Some(4), None));
        assert_eq!(machine.distances, [[10, 40], [40, 10]]);
        let pool = |page_bytes, pages, free_pages| Pool { page_bytes, pages, free_pages };
        assert_eq!(machine.hugetlb, [pool(2 << 20, 8, 3), pool(1 << 30, 0, 0)]);
        assert_eq!((machine.nodes[0].hugetlb.len(), &machine.nodes[1].hugetlb[..]), (0, &[pool(2 << 20, 8, 3)][..]));
        let text = text(&machine);
        for line in [
            "CPUs          4; this process may use ",
            "  hugetlb     8 of 2.00 MiB, 3 free\n",
            "  transparent madvise, of 2.00 MiB; defrag: madvise\n",
            "nodes         2\n",
            "  node 0      512 MiB free of 1.00 GiB; CPUs 0-2,5; distances 10 40\n",
            "  node 2      1.00 GiB free of 2.00 GiB; no CPU; distances 40 10; 8 of 2.00 MiB,\n              3 free\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH.into()), "{text}");
    }

    #[test]
    fn what_the_system_does_not_say_is_said_to_be_so() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::read_in(folder.path());
        assert_eq!((machine.nodes.len(), machine.cpus, &machine.transparent), (1, None, &None));
        assert_eq!(machine.distances, [[10]]);
        let text = text(&machine);
        for part in
            ["one: this kernel knows no nodes", "not told by node", "tells of no such pages", "the system does not say"]
        {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH.into()), "{text}");
    }

    #[test]
    fn torn_files_are_left_out_and_make_nothing_panic() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &FILES);
        for (path, whole) in FILES {
            for torn in ["", "[", "9", "99999999999999999999999", "]always["] {
                write(folder.path(), &[(path, torn)]);
                let _ = text(&Machine::read_in(folder.path()));
            }
            write(folder.path(), &[(path, whole)]);
        }
        write(folder.path(), &[("kernel/mm/transparent_hugepage/enabled", "always madvise")]);
        assert_eq!(Machine::read_in(folder.path()).transparent, None);
    }

    #[test]
    fn numbers_that_follow_one_another_are_a_range() {
        assert_eq!([&[][..], &[3], &[0, 1, 2, 5, 7, 8]].map(ranges), ["", "3", "0-2,5,7-8"]);
    }
}
