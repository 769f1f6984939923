//! Nothing: the manifest beside it names the crates that carry the peers' sources, and one lock file pins them.
