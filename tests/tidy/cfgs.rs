//! Each kind of `cfg` has one home, so that a reader knows which code the compiler does not see.

use crate::source::Source;

/// What asks for a system. `unix` and `windows` ask the same question by another name.
const SYSTEM: [&str; 6] = ["target_os", "target_family", "target_env", "target_vendor", "unix", "windows"];
const MACHINE: [&str; 2] = ["target_arch", "target_feature"];

/// Rule: `target_os` only in `sys` and files named `os.rs`.
pub fn the_system_is_asked_in_sys_only(source: &Source) -> Vec<String> {
    let home = source.path.starts_with("crates/sys/") || file_name(source) == "os.rs";
    named_outside(source, &SYSTEM, home, "only crates/sys and files named os.rs ask for the system")
}

/// Rule: `target_arch` only in files named `arch.rs`.
pub fn the_machine_is_asked_in_arch_only(source: &Source) -> Vec<String> {
    named_outside(source, &MACHINE, file_name(source) == "arch.rs", "only files named arch.rs ask for the machine")
}

/// Rule: `loom` only in `sync` and `tests/loom_*.rs`.
pub fn loom_is_asked_in_sync_only(source: &Source) -> Vec<String> {
    let in_loom_test = source.path.contains("/tests/") && file_name(source).starts_with("loom_");
    let home = source.path.starts_with("crates/sync/") || in_loom_test;
    named_outside(source, &["loom"], home, "only crates/sync and tests/loom_*.rs ask for loom")
}

fn file_name(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

/// Places where one of `keys` stands in a `cfg`, `cfg_attr` or `cfg!`, unless they are at `home`.
fn named_outside(source: &Source, keys: &[&str], home: bool, says: &str) -> Vec<String> {
    if home {
        return Vec::new();
    }
    let mut found = Vec::new();
    for index in ["cfg", "cfg_attr"].iter().flat_map(|word| source.all(word)) {
        let open = if source.word(index + 1) == "!" { index + 2 } else { index + 1 };
        if source.word(open) != "(" {
            continue;
        }
        let inside = open..source.close(open);
        let hits = inside.filter(|&at| keys.contains(&source.word(at)));
        found.extend(hits.map(|at| source.finding(at, &format!("`{}`: {says}", source.word(at)))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<String>;

    #[test]
    fn a_cfg_away_from_home_is_named() {
        let cases: [(Rule, &str, [&str; 3], &str); 3] = [
            (
                the_system_is_asked_in_sys_only,
                "crates/heap/src/a.rs",
                ["#[cfg(all(test, target_os = \"linux\"))]", "if cfg!(windows) {}", "#[cfg_attr(unix, inline)]"],
                "crates/lab/src/os.rs",
            ),
            (
                the_machine_is_asked_in_arch_only,
                "crates/sys/src/a.rs",
                [
                    "#[cfg(target_arch = \"x86_64\")]",
                    "cfg!(target_feature = \"avx\")",
                    "#[cfg(not(target_arch = \"s\"))]",
                ],
                "crates/memops/src/arch.rs",
            ),
            (
                loom_is_asked_in_sync_only,
                "crates/heap/src/a.rs",
                ["#[cfg(loom)]", "#![cfg(not(loom))]", "#[cfg_attr(loom, test)]"],
                "crates/heap/tests/loom_depot.rs",
            ),
        ];
        for (rule, away, texts, home) in cases {
            for text in texts {
                assert_eq!(rule(&Source::new(away, text)).len(), 1, "{text}");
                assert!(rule(&Source::new(home, text)).is_empty(), "{text}");
            }
        }
    }

    #[test]
    fn other_cfgs_and_mere_words_are_free() {
        let free = "#[cfg(target_pointer_width = \"64\")] // cfg(loom)\nlet windows = \"cfg(unix)\"; s.windows(2);";
        let source = Source::new("crates/heap/src/a.rs", free);
        for rule in [the_system_is_asked_in_sys_only, the_machine_is_asked_in_arch_only, loom_is_asked_in_sync_only] {
            assert_eq!(rule(&source), Vec::<String>::new());
        }
    }
}
