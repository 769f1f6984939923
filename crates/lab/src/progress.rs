//! What is under way: a bar on a terminal, plain lines elsewhere, on stderr in both cases.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Tells of long work.
pub struct Progress {
    terminal: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress {
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal(), bar: RefCell::new(None) }
    }

    /// One thing that takes a while and has no parts.
    pub fn say(&self, what: &str) {
        self.spin(what);
        if !self.terminal {
            eprintln!("{what} …");
        }
    }

    /// As `say`, of a thing that seldom takes long: no line of its own.
    pub fn spin(&self, what: &str) {
        self.end();
        if self.terminal {
            let spinner = ProgressBar::new_spinner().with_message(what.to_string());
            spinner.enable_steady_tick(Duration::from_millis(100));
            *self.bar.borrow_mut() = Some(spinner);
        }
    }

    /// Work of so many steps.
    pub fn begin(&self, what: &str, steps: u64) {
        self.end();
        if self.terminal {
            let style = ProgressStyle::with_template("{prefix:>10} [{bar:30}] {pos:>3}/{len} {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            let bar = ProgressBar::new(steps).with_style(style).with_prefix(what.to_string());
            bar.enable_steady_tick(Duration::from_millis(200));
            *self.bar.borrow_mut() = Some(bar);
        } else {
            eprintln!("{what}: {steps} replays …");
        }
    }

    /// What is known so far, several lines if need be, in place of what was shown before; on a terminal only.
    pub fn show(&self, text: impl FnOnce() -> String) {
        if !self.terminal {
            return;
        }
        if self.bar.borrow().is_none() {
            let style = ProgressStyle::with_template("{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            *self.bar.borrow_mut() = Some(ProgressBar::new_spinner().with_style(style));
        }
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_message(text());
            bar.tick();
        }
    }

    /// `done` of `all` parts of one thing.
    pub fn part(&self, what: &str, done: u64, all: u64) {
        if !self.terminal {
            return;
        }
        if self.bar.borrow().is_none() {
            self.begin(what, all);
        }
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_position(done);
        }
    }

    /// One of them is done: `name`.
    pub fn step(&self, name: &str) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_message(name.to_string());
            bar.inc(1);
        }
    }

    /// Clears the bar.
    pub fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
