//! `lab frames` from end to end: every workload over every allocator, the seed, the errors.

mod support;

use serde_json::Value;
use support::Lab;

const QUICK: [&str; 8] = ["frames", "--size", "64MiB", "--ops", "5000", "--rounds", "2", "--seed"];

fn rows(figures: &Value) -> &Vec<Value> {
    figures["rows"].as_array().expect("rows")
}

#[test]
fn every_workload_runs_over_every_allocator() {
    let lab = Lab::new();
    let words = ["bitmap", "buddy", "classic", "hybrid"];
    let mut arguments = [&QUICK[..], &["1", "--order", "0", "--order", "9"]].concat();
    arguments.extend(words.iter().flat_map(|word| ["--over", word]));
    let (said, figures) = lab.figures(&arguments);
    // Three of the six workloads with two orders.
    assert_eq!(rows(&figures).len(), 9 * words.len());
    for row in rows(&figures) {
        for figure in ["ns", "mean_ns", "least_ns", "own_ns", "metadata_percent"] {
            assert!(row[figure].as_f64().is_some_and(|figure| figure >= 0.0), "{figure}: {row}");
        }
        assert!(row["operations"].as_u64() >= Some(4000), "{row}");
        // What one of two threads moves between levels just then the other does not find.
        let most = if row["workload"] == "producer" { 100 } else { 0 };
        assert!(row["refused"].as_u64().is_some_and(|refused| refused <= most), "{row}");
        assert_eq!(row["size_bytes"].as_u64(), Some(64 << 20), "{row}");
        for side in ["get", "put"] {
            let bars = row[side]["histogram"].as_array().expect("bars");
            let sum: u64 = bars.iter().filter_map(|bar| bar[1].as_u64()).sum();
            assert_eq!(Some(sum), row[side]["count"].as_u64(), "{row}");
            assert!(sum > 0, "{row}");
        }
        let aging = row["workload"] == "aging";
        assert_eq!(row["first_fit_large"].is_number() && row["free_large"].is_number(), aging, "{row}");
    }
    for word in words.iter().chain(&["64.0 MiB in frames", "blocks of 2 MiB free; first fit"]) {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
}

/// What does not depend on the clock.
fn sequence(lab: &Lab, seed: &str) -> Vec<(String, String, u64, String)> {
    let (_, figures) = lab.figures(&[&QUICK[..], &[seed, "--over", "hybrid", "--over", "classic"]].concat());
    let told = |row: &Value| {
        let text = |key: &str| row[key].as_str().expect("text").to_owned();
        let free = row["free_large"].to_string();
        (text("workload"), text("digest"), row["operations"].as_u64().expect("a count"), free)
    };
    // A producer and its consumer race.
    rows(&figures).iter().filter(|row| row["workload"] != "producer").map(told).collect()
}

#[test]
fn the_seed_decides_every_frame_on_one_thread() {
    let lab = Lab::new();
    let first = sequence(&lab, "7");
    assert_eq!(first, sequence(&lab, "7"));
    assert_ne!(first, sequence(&lab, "8"));
}

#[test]
fn threads_share_the_memory() {
    let lab = Lab::new();
    let (_, figures) = lab.figures(&[&QUICK[..], &["1", "single", "bulk", "mix", "cache", "--threads", "4"]].concat());
    for row in rows(&figures) {
        assert_eq!(row["threads"].as_u64(), Some(4), "{row}");
        assert!(row["operations"].as_u64() >= Some(4 * 4000), "{row}");
    }
}

/// The topology files that come along.
fn topology(name: &str) -> String {
    format!("{}/topologies/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn threads_on_a_topology_get_frames_by_policy() {
    let lab = Lab::new();
    for (name, nodes) in [("eight", 8), ("cxl", 3)] {
        let file = topology(name);
        let arguments =
            ["frames", "--topology", &file, "--policy", "local", "--policy", "interleave", "--ops", "1000", "--seed"];
        let (said, figures) = lab.figures(&[&arguments[..], &["4", "--fill", "20"]].concat());
        let policies = figures["policies"].as_array().expect("policies");
        assert!(policies.iter().map(|one| one["policy"].as_str()).eq([Some("local"), Some("interleave")]), "{figures}");
        assert_eq!(policies[0]["own_percent"].as_f64(), Some(100.0), "{figures}");
        assert!(policies[1]["own_percent"].as_f64() < Some(50.0), "{figures}");
        assert!(policies.iter().all(|one| one["nodes"].as_array().map(Vec::len) == Some(nodes)), "{figures}");
        let wanted = ["fallback", "node 2: ", "% on the thread's own node, 0 refused", "|", "blank no memory"];
        assert!(wanted.iter().all(|part| said.out.contains(part)), "{}", said.out);
        assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
        let (again, same) = lab.figures(&[&arguments[..], &["4", "--fill", "20"]].concat());
        assert!(again.out == said.out && same == figures, "the seed decides all");
        assert_ne!(lab.figures(&[&arguments[..], &["5", "--fill", "20"]].concat()).1, figures);
    }
}

#[test]
fn a_topology_that_makes_no_sense_is_refused_with_the_remedy() {
    let lab = Lab::new();
    std::fs::write(lab.path("bad.toml"), "distances = [[10]]\nnode = [{ memory = \"4GB\", cpus = 1 }]\n").unwrap();
    let cxl = topology("cxl");
    for (arguments, code, wanted) in [
        (&["--topology", "nowhere.toml"][..], 1, "cannot open nowhere.toml; check the path"),
        (&["--topology", "bad.toml"], 1, "bad.toml, line 2, column 20: "),
        (&["--topology", "."], 1, "name a TOML file"),
        (&["--topology", &cxl, "--policy", "remote"], 2, "write local, interleave"),
        (&["--topology", &cxl, "--policy", "bind=3"], 1, "under bind=3; name nodes from 0 to 2"),
        (&["--topology", &cxl, "--size", "4GiB"], 2, "cannot be used with"),
        (&["--topology", &cxl, "--over", "buddy"], 2, "cannot be used with"),
        (&["--topology", &cxl, "mix"], 2, "cannot be used with"),
        (&["--topology", &cxl, "--fill", "101"], 2, "1..=100"),
        (&["--policy", "local"], 2, "--topology <FILE>"),
    ] {
        let said = lab.run(&[&["frames"], arguments].concat());
        assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(wanted), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_remedy() {
    let lab = Lab::new();
    for (arguments, code, wanted) in [
        (&["frames", "sinlge"][..], 2, "single"),
        (&["frames", "--over", "page"], 2, "there are bitmap, buddy, classic and hybrid"),
        (&["frames", "--size", "1MiB"], 1, "write 64.0 MiB to 1.00 TiB, for instance --size 4GiB"),
        (&["frames", "--size", "64MB"], 2, "did you mean MiB?"),
        (&["frames", "--size", "67108865"], 1, "no multiple of a frame's 4 KiB"),
        (&["frames", "--order", "21"], 2, "0..=20"),
        (&["frames", "--order", "18", "--threads", "4"], 1, "write --size 32GiB at least"),
        (&["frames", "--over", "classic", "--size", "1024GiB"], 1, "leave classic out"),
        (&["frames", "--threads", "0"], 2, "1..=64"),
    ] {
        let said = lab.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(wanted), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
}
