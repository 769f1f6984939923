//! [`PolicyWord`]: the words of `--policy`, for where a thread's frames come from.
//!
//! ```text
//! local                the thread's node, then the nearest            interleave     all nodes in turn
//! preferred=2          that node, then the nearest to it              interleave=0,2 those in turn
//! bind=0,2             those and no other, the nearest first          weighted=3,0,1 so many of each in turn, of node 0 first
//! ```
#![forbid(unsafe_code)]

use std::fmt;

use terrace_frame::numa::{MAX_NODES, NodeSet, NodeWeights, NumaPolicy};

/// A policy as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyWord {
    Local,
    Preferred(usize),
    Bind(NodeSet),
    /// `None`: all nodes.
    Interleave(Option<NodeSet>),
    Weighted(NodeWeights),
}

impl PolicyWord {
    /// The one that `text` writes.
    ///
    /// # Errors
    /// Where there is none of that form, or a node's number is above 63.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (word, list) = text.split_once('=').map_or((text, None), |(word, list)| (word, Some(list)));
        match (word.trim(), list) {
            ("local", None) => Ok(Self::Local),
            ("interleave", None) => Ok(Self::Interleave(None)),
            ("interleave", Some(list)) => Ok(Self::Interleave(Some(nodes(list)?))),
            ("bind", Some(list)) => Ok(Self::Bind(nodes(list)?)),
            ("preferred", Some(list)) => Ok(Self::Preferred(node(list)?)),
            ("weighted", Some(list)) => Ok(Self::Weighted(weights(list)?)),
            _ => Err("write local, interleave, interleave=0,1, bind=0,1, preferred=1 or weighted=3,1".into()),
        }
    }

    /// For a machine of so many nodes.
    pub fn of(self, nodes: usize) -> NumaPolicy {
        match self {
            Self::Local => NumaPolicy::Local,
            Self::Preferred(node) => NumaPolicy::Preferred(node),
            Self::Bind(set) => NumaPolicy::Bind(set),
            Self::Interleave(set) => NumaPolicy::Interleave(set.unwrap_or(NodeSet::first(nodes))),
            Self::Weighted(weights) => NumaPolicy::WeightedInterleave(weights),
        }
    }
}

fn node(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|&number| number < MAX_NODES);
    number.ok_or_else(|| format!("{text:?} is no node; write a number from 0 to 63"))
}

fn nodes(list: &str) -> Result<NodeSet, String> {
    list.split(',').map(node).collect()
}

/// A weight for each node from node 0 on.
fn weights(list: &str) -> Result<NodeWeights, String> {
    let weight =
        |text: &str| text.trim().parse().map_err(|_| format!("{text:?} is no weight; write a number from 0 to 255"));
    let all: Vec<u8> = list.split(',').map(weight).collect::<Result<_, _>>()?;
    if all.len() > MAX_NODES || all.iter().all(|&weight| weight == 0) {
        return Err(format!(
            "write a weight for each node, {MAX_NODES} at most, of which one is above 0: weighted=3,1"
        ));
    }
    Ok(NodeWeights::new(&all))
}

impl fmt::Display for PolicyWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, set) = match self {
            Self::Local => return f.write_str("local"),
            Self::Interleave(None) => return f.write_str("interleave"),
            Self::Preferred(node) => ("preferred", NodeSet::one(*node)),
            Self::Bind(set) => ("bind", *set),
            Self::Interleave(Some(set)) => ("interleave", *set),
            Self::Weighted(weights) => {
                let last = weights.set().iter().last().unwrap_or(0);
                let weights: Vec<String> = (0..=last).map(|node| weights.of(node).to_string()).collect();
                return write!(f, "weighted={}", weights.join(","));
            }
        };
        let numbers: Vec<String> = set.iter().map(|node| node.to_string()).collect();
        write!(f, "{word}={}", numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        for text in ["local", "interleave", "interleave=0,2", "bind=1,63", "preferred=7", "weighted=3,0,255"] {
            assert_eq!(PolicyWord::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(PolicyWord::parse("bind= 2, 0,2"), PolicyWord::parse("bind=0,2"));
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_forms() {
        for (text, wanted) in [
            ("", "write local"),
            ("remote", "write local"),
            ("local=1", "write local"),
            ("bind", "bind=0,1"),
            ("bind=", "\"\" is no node"),
            ("bind=0,,1", "\"\" is no node"),
            ("preferred=64", "0 to 63"),
            ("preferred=0,1", "0 to 63"),
            ("interleave=-1", "0 to 63"),
            ("weighted", "weighted=3,1"),
            ("weighted=", "\"\" is no weight"),
            ("weighted=1,256", "0 to 255"),
            ("weighted=0,0", "one is above 0"),
        ] {
            let said = PolicyWord::parse(text).expect_err(text);
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
