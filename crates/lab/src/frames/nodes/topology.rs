//! [`Topology`]: a machine with nodes of memory, read from a TOML file.
//!
//! ```toml
//! distances = [[10, 40], [40, 10]]   # a row for each node; 10 is the node itself, 255 out of reach
//!
//! [[node]]
//! memory = "4GiB"                    # none, where it is left out
//! cpus = 8                           # none, where it is left out: memory alone
//!
//! [[node]]
//! memory = "16GiB"
//! ```
//!
//! - **T1** Each row has a distance for each node, which `Distances` takes; there are 1 to 64 nodes.
//! - **T2** Some node has processors and some node memory; all memory together is at most 1 TiB, each in whole frames.
//!
//! A file is a text from outside: what it should not say is an error with its line and column, never a panic.
#![forbid(unsafe_code)]

use std::{fs::File, io::Read as _, ops::Range, path::Path};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use terrace_frame::numa::{Distances, MAX_NODES, NumaError};
use toml::Spanned;

use crate::stack::{self, frames::FRAME};

/// No topology is written in a longer text.
const LONGEST: u64 = 1 << 20;
/// A node's memory is one block of 2 MiB at least.
const LEAST: u64 = 2 << 20;
/// Of all nodes together: the lists of what is held have to fit into a usual machine.
const MOST: u64 = 1 << 40;
/// Processors of one node.
const MOST_CPUS: u32 = 1 << 16;

/// A simulated machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Topology {
    pub nodes: Vec<Node>,
    /// Row by row.
    pub distances: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its memory.
    pub frames: usize,
    pub cpus: u32,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    distances: Spanned<Vec<Spanned<Vec<Spanned<u8>>>>>,
    node: Spanned<Vec<WrittenNode>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNode {
    memory: Option<Spanned<String>>,
    cpus: Option<Spanned<u32>>,
}

impl Topology {
    /// That of a file.
    ///
    /// # Errors
    /// Where it cannot be read or is no topology: with the place and what helps.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let mut text = String::new();
        let file = File::open(path).with_context(|| format!("cannot open {name}; check the path"))?;
        let read = file.take(LONGEST + 1).read_to_string(&mut text);
        read.with_context(|| format!("cannot read {name}; name a TOML file of nodes"))?;
        ensure!(text.len() as u64 <= LONGEST, "{name} is longer than 1 MiB; name a TOML file of nodes");
        Self::parse(&text).map_err(|why| anyhow!("{name}, {why}"))
    }

    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let at = |span: Option<Range<usize>>| place(text, span.map_or(0, |span| span.start));
        let written: Written = toml::from_str(text).map_err(|why| {
            let message = why.message().replace('\n', ", ");
            anyhow!("{}: {message}; `cargo lab help frames` shows the form", at(why.span()))
        })?;
        let nodes = written.node.get_ref();
        let found = nodes.len();
        ensure!(
            (1..=MAX_NODES).contains(&found),
            "{}: {found} nodes; write 1 to {MAX_NODES}",
            at(Some(written.node.span()))
        );
        let nodes: Vec<Node> = nodes.iter().map(|node| node.checked(&at)).collect::<anyhow::Result<_>>()?;
        let place = at(Some(written.node.span()));
        ensure!(nodes.iter().any(|node| node.cpus > 0), "{place}: no node has processors; give one `cpus = 4`");
        ensure!(nodes.iter().any(|node| node.frames > 0), "{place}: no node has memory; give one `memory = \"4GiB\"`");
        let all: u64 = nodes.iter().map(|node| node.frames as u64 * FRAME).sum();
        ensure!(all <= MOST, "{place}: the nodes have more than 1TiB together; write less memory");
        Ok(Self { nodes, distances: distances(&written.distances, found, &at)? })
    }

    /// Frames of all nodes.
    pub fn frames(&self) -> usize {
        self.nodes.iter().map(|node| node.frames).sum()
    }

    /// The nodes of so many threads: each goes where the fewest are for the processors.
    pub fn spread(&self, threads: usize) -> Vec<usize> {
        let mut on = vec![0; self.nodes.len()];
        let mut spread = Vec::new();
        for _ in 0..threads {
            let load = |&node: &usize| (on[node] << 20) / u64::from(self.nodes[node].cpus);
            let with_cpus = (0..self.nodes.len()).filter(|&node| self.nodes[node].cpus > 0);
            let Some(node) = with_cpus.min_by_key(load) else { break };
            on[node] += 1;
            spread.push(node);
        }
        spread
    }
}

impl WrittenNode {
    fn checked(&self, at: &dyn Fn(Option<Range<usize>>) -> String) -> anyhow::Result<Node> {
        let cpus = self.cpus.as_ref().map_or(0, |cpus| *cpus.get_ref());
        if let Some(wrong) = self.cpus.as_ref().filter(|_| cpus > MOST_CPUS) {
            bail!("{}: {cpus} processors; write {MOST_CPUS} at most", at(Some(wrong.span())));
        }
        let Some(memory) = &self.memory else { return Ok(Node { frames: 0, cpus }) };
        let (text, place) = (memory.get_ref(), at(Some(memory.span())));
        let bytes = stack::parse_size(text).map_err(|why| anyhow!("{place}: {why}"))?;
        ensure!(
            (LEAST..=MOST).contains(&bytes) && bytes.is_multiple_of(FRAME),
            "{place}: a node's memory of {text}; write 2MiB to 1TiB in whole frames of 4KiB, or leave memory out"
        );
        Ok(Node { frames: (bytes / FRAME) as usize, cpus })
    }
}

/// The matrix, row by row.
fn distances(
    rows: &Spanned<Vec<Spanned<Vec<Spanned<u8>>>>>,
    nodes: usize,
    at: &dyn Fn(Option<Range<usize>>) -> String,
) -> anyhow::Result<Vec<u8>> {
    let (place, rows) = (at(Some(rows.span())), rows.get_ref());
    ensure!(rows.len() == nodes, "{place}: {} rows of distances for {nodes} nodes; write one for each", rows.len());
    for row in rows {
        let (place, found) = (at(Some(row.span())), row.get_ref().len());
        ensure!(
            found == nodes,
            "{place}: {found} distances for {nodes} nodes; write one to each, 10 to the node itself"
        );
    }
    let flat: Vec<u8> = rows.iter().flat_map(|row| row.get_ref()).map(|distance| *distance.get_ref()).collect();
    match Distances::new(nodes, &flat) {
        Err(NumaError::Distance { from, to }) => {
            let wrong = &rows[from].get_ref()[to];
            let remedy = if from == to { "10, for a node is 10 from itself" } else { "10 to 254, or 255 for no way" };
            bail!(
                "{}: a distance of {} from node {from} to node {to}; write {remedy}",
                at(Some(wrong.span())),
                wrong.get_ref()
            )
        }
        Err(why) => bail!("{place}: {why}; write a row for each node"),
        Ok(_) => Ok(flat),
    }
}

/// A place in a text, as people count.
fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    format!("line {}, column {}", before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EIGHT: &str = include_str!("../../../topologies/eight.toml");
    const CXL: &str = include_str!("../../../topologies/cxl.toml");

    #[test]
    fn the_files_that_come_along_are_read() {
        let eight = Topology::parse(EIGHT).expect("eight nodes");
        assert_eq!((eight.nodes.len(), eight.frames(), eight.distances.len()), (8, 8 << 18, 64));
        let cxl = Topology::parse(CXL).expect("three nodes");
        assert_eq!(cxl.nodes[2], Node { frames: 1 << 20, cpus: 0 });
        assert_eq!(cxl.distances, [10, 21, 40, 21, 10, 40, 40, 40, 10]);
    }

    #[test]
    fn threads_go_where_the_fewest_are_for_the_processors() {
        assert_eq!(Topology::parse(CXL).expect("nodes").spread(5), [0, 1, 0, 1, 0]);
        let node = |cpus| Node { frames: 512, cpus };
        let uneven = Topology { nodes: vec![node(0), node(2), node(4)], distances: Vec::new() };
        assert_eq!(uneven.spread(6), [1, 2, 2, 1, 2, 2]);
    }

    #[test]
    fn a_bad_file_is_refused_with_the_place_and_the_remedy() {
        let one = |node: &str| format!("distances = [[10]]\nnode = [{{ {node} }}]\n");
        let good = r#"memory = "1GiB", cpus = 1"#;
        for (text, wanted) in [
            (String::new(), "line 1, column 1: missing field `distances`; `cargo lab help frames`"),
            ("distances = [[10]]".into(), "missing field `node`"),
            ("distances = [[10]\nnode = 3".into(), "line 2, column"),
            (one(r#"memory = "1GiB", cpu = 1"#), "line 2, column 28: unknown field `cpu`"),
            (one(r#"memory = "1GB", cpus = 1"#), "line 2, column 20: "),
            (one(r#"memory = "1GB", cpus = 1"#), "did you mean GiB?"),
            (one(r#"memory = "4097", cpus = 1"#), "line 2, column 20: a node's memory of 4097; write 2MiB to 1TiB"),
            (one(r#"memory = "2048GiB", cpus = 1"#), "write 2MiB to 1TiB"),
            (one(r#"memory = "1GiB", cpus = -1"#), "line 2, column 35"),
            (one(r#"memory = "1GiB", cpus = 70000"#), "line 2, column 35: 70000 processors; write 65536 at most"),
            (one(r#"memory = "1GiB""#), "no node has processors; give one `cpus = 4`"),
            (one("cpus = 1"), "no node has memory"),
            ("distances = []\nnode = []\n".into(), "line 2, column 8: 0 nodes; write 1 to 64"),
            (one(good).replace("[[10]]", "[[10], [10]]"), "line 1, column 13: 2 rows of distances for 1 nodes"),
            (one(good).replace("[[10]]", "[[10, 20]]"), "line 1, column 14: 2 distances for 1 nodes"),
            (one(good).replace("10", "11"), "line 1, column 15: a distance of 11 from node 0 to node 0; write 10"),
            (one(good).replace("10", "300"), "line 1, column 15"),
            (
                format!("distances = [[10, 20], [9, 10]]\nnode = [{{ {good} }}, {{ {good} }}]"),
                "line 1, column 25: a distance of 9 from node 1 to node 0; write 10 to 254",
            ),
        ] {
            let said = Topology::parse(&text).expect_err(&text).to_string();
            assert!(said.contains(wanted), "{wanted:?} is not in {said:?} of\n{text}");
        }
        let many = |count: usize| {
            let row = vec!["10"; count].join(", ");
            let rows = vec![format!("[{row}]"); count].join(", ");
            format!("distances = [{rows}]\nnode = [{}]\n", vec![format!("{{ {good} }}"); count].join(", "))
        };
        assert_eq!(Topology::parse(&many(64)).expect("the most").nodes.len(), 64);
        assert!(Topology::parse(&many(65)).is_err_and(|why| why.to_string().contains("65 nodes; write 1 to 64")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(cut in 0..CXL.len(), put in "\\PC{0,4}", skip in 0usize..9) {
            let rest = CXL.get((cut + skip).min(CXL.len())..).unwrap_or_default();
            let _ = Topology::parse(&format!("{}{put}{rest}", CXL.get(..cut).unwrap_or_default()));
        }
    }
}
