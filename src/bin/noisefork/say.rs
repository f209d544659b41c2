//! Lines on standard output.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// Why a line was lost, for the first that was.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a line. A reader that has gone, as `head` does, has read enough: that is no error. Others are for the end of the
/// program ([`lost`]), so that files are written all the same.
pub fn say(line: impl std::fmt::Display) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(LOST.set(error)),
        _ => {}
    }
}

/// What kept a line from standard output.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get()
}
