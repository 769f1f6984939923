//! Ten recorded programs over `debug(smp(page))`: correct programs, of which nothing is reported. A report would abort the
//! replay. What this machine does not have is named.

mod support;

use support::Lab;

const PROGRAMS: [&[&str]; 12] = [
    &["ls", "-lR", "/usr/share"],
    &["find", "/usr/share", "-name", "*.h"],
    &["sort", "/etc/services"],
    &["grep", "-r", "the", "/etc"],
    &["sed", "s/a*b/c/g", "/etc/services"],
    &["awk", "{ seen[$1]++ } END { for (word in seen) print word, seen[word] }", "/etc/services"],
    &["tar", "-cf", "/dev/null", "/etc/ssl"],
    &["bash", "-c", "for n in {1..200}; do list+=(item$n); done; echo ${#list[@]}"],
    &["perl", "-e", "my %h; $h{$_} = [$_ x 20] for 1 .. 5000; print scalar keys %h"],
    &["python3", "-c", "import json; print(len(json.dumps([{str(n): n} for n in range(5000)])))"],
    &["git", "log", "--oneline", "-50"],
    &["gcc", "-Q", "--help=optimizers"],
];

#[test]
fn recorded_programs_are_replayed_without_a_report() {
    let (lab, mut replayed) = (Lab::new(), 0);
    for (number, program) in PROGRAMS.iter().enumerate() {
        let trace = format!("{number}.trace");
        let recorded = lab.run(&[&["record", "-o", &trace, "--"], *program].concat());
        if !lab.path(&trace).exists() {
            eprintln!("not recorded: {}: {}", program[0], recorded.err.lines().next().unwrap_or_default());
            continue;
        }
        let replay = ["replay", &trace, "--over", "debug(smp(page))", "--rounds", "1"];
        let said = lab.run(&replay);
        assert_eq!(said.code, 0, "{}: {}{}", program[0], said.out, said.err);
        assert!(!said.err.contains("terrace:") && !said.out.contains("terrace:"), "{}: {}", program[0], said.err);
        replayed += 1;
    }
    eprintln!("{replayed} programs");
    assert!(replayed > 0, "a machine without ls");
}
