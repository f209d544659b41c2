//! Lines on standard output.

use std::io::Write;

/// Prints a line. A reader that has gone, as `head` does, has read enough: that is no error.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
