//! Ctrl-C ends a run after the step it is in; a second one ends the program.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

static PRESSED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C is for [`pressed`] to tell. Where the system refuses, it ends the program as before.
pub fn listen() {
    const INTERRUPTED: i32 = 130;
    let _ = ctrlc::set_handler(|| {
        if PRESSED.swap(true, Ordering::Relaxed) {
            exit(INTERRUPTED);
        }
    });
}

/// Whether the user has asked to stop.
pub fn pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}
