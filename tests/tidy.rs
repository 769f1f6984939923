//! Keeps the rules of the house, so that nobody has to remember them. Each rule is one test below;
//! when it fails, its name is the rule and its lines are the places.
//!
//! ```text
//! cargo test -p terrace-tests --test tidy
//! ```
//!
//! | module | rules about |
//! |---|---|
//! | `tidy/ladder.rs` | who may import whom, names of packages |
//! | `tidy/manifests.rs` | what a manifest says |
//! | `tidy/cfgs.rs` | the homes of `cfg(target_os)`, `cfg(target_arch)`, `cfg(loom)` |
//! | `tidy/safety.rs` | the reasons of `unsafe` |
//! | `tidy/shape.rs` | files and functions: opening, length, exceptions |
//! | `tidy/allocators.rs` | the order of methods, the name of the layer below |
//! | `tidy/words.rs` | machine paths, registries, emoji |
//! | `tidy/pages.rs` | the book: reached, linked, tested |
//! | `tidy/papers.rs` | the papers at the root agree with what is there |
//! | `tidy/promises.rs` | what `docs/promises.md` names is there |
//!
//! A rule is a function from what it reads to its findings, and has a test beside it that shows it
//! failing on a bad snippet. One that is missing from the list below is dead code, which clippy denies.

#[path = "tidy/allocators.rs"]
mod allocators;
#[path = "tidy/cfgs.rs"]
mod cfgs;
#[path = "tidy/ladder.rs"]
mod ladder;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/promises.rs"]
mod promises;
#[path = "tidy/safety.rs"]
mod safety;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use std::sync::LazyLock;

use tree::Tree;

static TREE: LazyLock<Tree> = LazyLock::new(Tree::load);

/// One test for each rule: over the whole tree, or over each source in turn.
macro_rules! rules {
    (tree: $($module:ident::$rule:ident),* $(,)?; source: $($per_source:ident::$source_rule:ident),* $(,)?) => {
        $(#[test]
        fn $rule() {
            keep(stringify!($rule), $module::$rule(&TREE));
        })*
        $(#[test]
        fn $source_rule() {
            keep(stringify!($source_rule), TREE.sources.iter().flat_map($per_source::$source_rule).collect());
        })*
    };
}

rules! {
    tree:
        ladder::manifests_look_down,
        ladder::packages_are_named_after_their_folder,
        manifests::published_packages_present_themselves,
        manifests::manifests_inherit_from_the_workspace,
        words::no_file_names_a_machine,
        words::no_file_names_a_registry,
        words::no_file_holds_an_emoji,
        pages::every_page_is_reached,
        pages::every_link_leads_somewhere,
        pages::every_page_is_tested,
        pages::every_fence_names_its_language,
        promises::every_promise_is_shown,
        papers::the_front_page_shows_what_is_run,
        papers::the_change_log_is_open,
        papers::the_map_shows_every_room,
        papers::the_checks_shown_are_the_checks_run;
    source:
        ladder::sources_look_down,
        cfgs::the_system_is_asked_in_sys_only,
        cfgs::the_machine_is_asked_in_arch_only,
        cfgs::loom_is_asked_in_sync_only,
        safety::every_unsafe_is_explained,
        shape::files_open_with_their_purpose,
        shape::files_fit_in_a_room,
        shape::functions_fit_on_a_screen,
        shape::nothing_is_left_undone,
        shape::exceptions_carry_a_reason,
        allocators::methods_stand_in_order,
        allocators::the_layer_below_is_named_backing,
}

fn keep(rule: &str, findings: Vec<String>) {
    let rule = rule.replace('_', " ");
    assert!(findings.is_empty(), "the rule \"{rule}\" is broken at\n  {}\n", findings.join("\n  "));
}

/// A rule that reads nothing finds nothing.
#[test]
fn the_rules_read_the_whole_workspace() {
    let names: Vec<&str> = TREE.members.iter().map(|member| member.name.as_str()).collect();
    for name in ["terrace-core", "terrace-heap", "terrace-lab", "terrace-tests"] {
        assert!(names.contains(&name), "{name} is missing from {names:?}");
    }
    for member in TREE.members.iter().filter(|member| member.folder.starts_with("crates/")) {
        let home = format!("{}/src/", member.folder);
        assert!(TREE.sources.iter().any(|source| source.path.starts_with(&home)), "no source of {home} was read");
    }
    assert!(TREE.text("Cargo.toml").is_some(), "{} is not the root", TREE.root.display());
}

/// The findings must stop a build, not only be printed.
#[test]
#[should_panic(expected = "the rule \"a rule\" is broken at\n  a.rs:1: why")]
fn a_finding_fails_the_test_of_its_rule() {
    keep("a_rule", vec!["a.rs:1: why".into()]);
}
