//! Real programs with the library as their malloc: they print what they print without it.
//!
//! ```console
//! $ cargo test --release -p terrace-malloc --test programs -- --nocapture
//! ```
//!
//! prints processor time and peak memory of each beside the C library's malloc, as `docs/measurements/programs.md` has them.
//! `TERRACE_PROGRAM_ROUNDS=5` takes medians of five. What a machine does not have is named and left out.

mod common;

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// A program, its input in a folder of its own, and what of its output counts.
struct Program {
    name: &'static str,
    /// Must succeed, or the program is not there.
    probe: &'static str,
    /// Run once by a shell, in the folder.
    prepare: &'static str,
    /// Run by a shell, in the folder.
    run: &'static str,
    /// Whether only words without digits are compared: for a program that prints times and addresses.
    words_only: bool,
}

const PROGRAMS: [Program; 12] = [
    Program {
        name: "sh",
        probe: "sh -c :",
        prepare: "",
        run: "i=0; s=; while [ $i -lt 30000 ]; do i=$((i + 1)); s=\"$s$((i % 10))\"; \
              [ ${#s} -gt 500 ] && s=; done; echo $i $s",
        words_only: false,
    },
    Program {
        name: "python3",
        probe: "python3 -c pass",
        prepare: "",
        run: "python3 -c \"d = {str(n): [n] * (n % 50) for n in range(200000)}\nfor n in range(0, 200000, 3): \
              del d[str(n)]\nprint(len(d), sum(map(len, d.values())))\"",
        words_only: false,
    },
    Program {
        name: "python3, every object by malloc",
        probe: "python3 -c pass",
        prepare: "",
        run: "PYTHONMALLOC=malloc python3 -c \"d = {str(n): [n] * (n % 50) for n in range(200000)}\n\
              for n in range(0, 200000, 3): del d[str(n)]\nprint(len(d), sum(map(len, d.values())))\"",
        words_only: false,
    },
    Program {
        name: "python3 -m test",
        probe: "python3 -c 'import test.test_dict'",
        prepare: "",
        run: "PYTHONMALLOC=malloc python3 -m test test_dict test_list test_json 2>&1",
        words_only: true,
    },
    Program {
        name: "python3 -m test test_threading",
        probe: "python3 -c 'import test.test_threading'",
        prepare: "",
        run: "python3 -m test test_threading 2>&1",
        words_only: true,
    },
    Program {
        name: "git",
        probe: "git --version",
        prepare: "export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'; \
                  rm -rf r && git init -q r && cd r && git config user.name t && git config user.email t@example.com && \
                  for i in $(seq 60); do seq $i 7 20000 > f$i; seq $i > g; git add . && git commit -qm c$i; done",
        run: "cd r && git log -p --stat | cksum && git blame f1 | wc -l && git rev-list --objects --all | \
              git pack-objects -q --no-reuse-delta --threads=2 --stdout | git index-pack --stdin --strict --threads=2 | wc -c && git fsck --full 2>&1",
        words_only: false,
    },
    Program {
        name: "gcc",
        probe: "gcc --version",
        prepare: "{ echo '#include <stdio.h>'; for i in $(seq 400); do echo \"int f$i(int a, int *b) {\
                  for (int i = 0; i < a; i++) b[i] = b[i] * $i + (i % ($i + 1)); return b[a / 2] + $i; }\"; done; } > a.c",
        run: "gcc -O2 -S -o - a.c | cksum",
        words_only: false,
    },
    Program {
        name: "g++",
        probe: "g++ --version",
        prepare: "printf '%s\\n' '#include <map>' '#include <regex>' '#include <iostream>' 'int main() { \
                  std::map<std::string, std::regex> m; std::cout << m.size(); }' > a.cc",
        run: "g++ -O1 -S -o - a.cc | cksum",
        words_only: false,
    },
    Program {
        name: "cargo build",
        probe: "cargo --version",
        prepare: "rm -rf p && mkdir -p p/src && cd p && printf '[package]\\nname = \"p\"\\nversion = \"0.1.0\"\\n\
                  edition = \"2021\"\\n[workspace]\\n' > Cargo.toml && printf 'use std::collections::HashMap;\\nfn main() { \
                  let m: HashMap<u32, String> = (0..99).map(|n| (n, n.to_string())).collect(); \
                  println!(\"{}\", m.len()); }\\n' > src/main.rs",
        run: "cd p && rm -rf target && cargo build --quiet --offline --release && target/release/p",
        words_only: false,
    },
    Program {
        name: "sqlite3",
        probe: "sqlite3 --version",
        prepare: "",
        run: "sqlite3 :memory: \"create table t(a integer primary key, b text); with recursive c(n) as \
              (select 1 union all select n + 1 from c where n < 200000) insert into t select n, hex(n * 7919) from c; \
              create index i on t(b); select count(*), sum(length(b)) from t where b > '4'; \
              select group_concat(b) from (select b from t order by b desc limit 5); delete from t where a % 3 = 0; \
              vacuum; select count(*) from t;\"",
        words_only: false,
    },
    Program {
        name: "perl",
        probe: "perl -e 1",
        prepare: "",
        run: "perl -e 'my %h; for my $n (1..300000) { push @{$h{$n % 5000}}, \"x\" x ($n % 60) } my $l = 0; \
              for my $k (sort keys %h) { $l += length join \",\", @{$h{$k}}; delete $h{$k} if $k % 3 } \
              print \"$l \", scalar(keys %h), \"\\n\"'",
        words_only: false,
    },
    Program {
        name: "node",
        probe: "node --version",
        prepare: "",
        run: "node -e 'let o = {}; for (let n = 0; n < 200000; n++) o[\"k\" + n % 20000] = [n, String(n)]; \
              let s = JSON.stringify(o); let b = []; for (let n = 0; n < 2000; n++) b.push(Buffer.alloc(n * 10, n)); \
              console.log(s.length, Object.keys(JSON.parse(s)).length, Buffer.concat(b).length)'",
        words_only: false,
    },
];

/// How one run went.
struct Run {
    /// Of `wait`: 0 is success. A machine's own Python may fail a test of its own; then it must fail it with us too.
    status: i32,
    output: String,
    cpu: Duration,
    /// Of the largest process of the run, in KiB.
    peak: i64,
}

/// `command` by a shell in `folder`.
fn run(command: &str, folder: &Path, preload: bool) -> Run {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // What cargo sets for this test is not for the programs.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
        if name != "CARGO_HOME" {
            shell.env_remove(name);
        }
    }
    shell.env_remove("RUSTFLAGS").env_remove("LD_PRELOAD").env("LC_ALL", "C").env("GIT_CONFIG_GLOBAL", "/dev/null");
    if preload {
        common::preloaded(&mut shell);
    }
    #[expect(clippy::zombie_processes, reason = "waited for below, by the call that tells what it used")]
    let mut child = shell.spawn().expect("a shell starts");
    let mut output = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut output).expect("its output is read");
    let mut status = 0;
    // SAFETY: zeroes are one.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a child of ours, and places that are writable.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut used) };
    assert_eq!(waited, child.id() as libc::pid_t);
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    let output = String::from_utf8_lossy(&output).into_owned();
    let cpu = time(used.ru_utime) + time(used.ru_stime);
    Run { status, output, cpu, peak: used.ru_maxrss }
}

/// What counts of an output.
fn essence(program: &Program, output: &str) -> String {
    if !program.words_only {
        return output.to_owned();
    }
    let counts = |word: &&str| !word.contains(|c: char| c.is_ascii_digit()) && !["ms", "sec", "min"].contains(word);
    // Every line with the load of the machine or a time is another one in each run.
    let steady = output.lines().filter(|line| !line.contains("load avg:") || line.contains("test_"));
    steady.map(|line| line.split_whitespace().filter(counts).collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn programs_print_the_same_with_the_library_as_their_malloc() {
    let rounds = env::var("TERRACE_PROGRAM_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("programs");
    println!("load of the machine: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!("| program | CPU time, glibc | Terrace | ratio | peak, glibc | Terrace | ratio |");
    println!("|---|---|---|---|---|---|---|");
    let mut run_at_all = 0;
    for (number, program) in PROGRAMS.iter().enumerate() {
        let folder = home.join(number.to_string());
        fs::create_dir_all(&folder).expect("a folder is made");
        if run(program.probe, &folder, false).status != 0 {
            eprintln!("skipped: {} is not here", program.name);
            continue;
        }
        assert_eq!(run(program.prepare, &folder, false).status, 0, "{}: its input is made", program.name);
        let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for preload in [false, true] {
                runs[usize::from(preload)].push(run(program.run, &folder, preload));
            }
        }
        let [without, with] = &runs;
        for (without, with) in without.iter().zip(with) {
            assert_eq!(essence(program, &with.output), essence(program, &without.output), "{}", program.name);
            assert_eq!(with.status, without.status, "{}", program.name);
            assert!(!with.output.is_empty(), "{} prints something", program.name);
        }
        run_at_all += 1;
        report(program, without, with);
    }
    assert!(run_at_all >= 1, "there is a shell at least");
}

fn report(program: &Program, without: &[Run], with: &[Run]) {
    let cpu = |runs: &[Run]| median(runs.iter().map(|run| run.cpu).collect()).as_secs_f64();
    let peak = |runs: &[Run]| median(runs.iter().map(|run| run.peak).collect()) as f64 / 1024.0;
    let (cpu, peak) = ([cpu(without), cpu(with)], [peak(without), peak(with)]);
    println!(
        "| {} | {:.2} s | {:.2} s | {:.2} | {:.1} MiB | {:.1} MiB | {:.2} |",
        program.name,
        cpu[0],
        cpu[1],
        cpu[1] / cpu[0],
        peak[0],
        peak[1],
        peak[1] / peak[0]
    );
}
