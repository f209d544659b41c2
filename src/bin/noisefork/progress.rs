//! A bar on the terminal for the steps of a run.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use noisefork::ops::Backend;
use noisefork::sampling::Progress;

use crate::interrupt;

/// A bar over the steps of a stage, on standard error; hidden where that is no terminal.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} steps, {eta} left");
        let bar = ProgressBar::no_length();
        Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Names what the coming steps are for.
    pub fn stage(&self, name: &'static str) {
        self.0.set_message(name);
    }

    /// Shows a step, unless the user has asked to stop.
    pub fn observe<B: Backend>(&self, progress: &Progress<'_, B>) -> ControlFlow<()> {
        self.0.set_length(progress.of as u64);
        self.0.set_position(progress.step as u64);
        if interrupt::pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
