//! What these programs have in common: passes that are timed, and lines of JSON that `turns.py` reads.

use std::time::Instant;

use serde_json::json;

/// Times `work` after a first pass that is not counted, and prints the seconds of each pass.
pub fn measure<T, E>(
    what: &str,
    batch: usize,
    passes: usize,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<(), E> {
    let pass = || {
        let start = Instant::now();
        let result = work()?;
        let seconds = start.elapsed().as_secs_f64();
        drop(result);
        Ok(seconds)
    };
    report(what, batch, passes, pass, peak_bytes)
}

/// Prints the seconds of each pass but a first one, by the clock of `pass`.
pub fn report<E>(
    what: &str,
    batch: usize,
    passes: usize,
    mut pass: impl FnMut() -> Result<f64, E>,
    peak_bytes: impl FnOnce() -> Option<u64>,
) -> Result<(), E> {
    pass()?;
    let seconds = (0..passes).map(|_| pass()).collect::<Result<Vec<_>, E>>()?;
    println!("{}", json!({ "what": what, "batch": batch, "seconds": seconds, "peak_bytes": peak_bytes() }));
    Ok(())
}

/// The most memory that the process has had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// An operation on one item, as records call it: `conv2d 64x64x320, 3x3 to 320, doubled, residual`.
pub struct Case {
    pub what: String,
    /// The first word.
    pub name: String,
    /// All numbers, in order.
    pub sizes: Vec<usize>,
}

impl Case {
    fn parse(what: String) -> Self {
        let name = what.split(' ').next().unwrap_or_default().to_owned();
        let numbers = what[name.len()..].split(|c: char| !c.is_ascii_digit());
        let sizes = numbers.filter_map(|number| number.parse().ok()).collect();
        Case { what, name, sizes }
    }

    /// Whether it says that there is such a thing: `residual`, `GEGLU`.
    pub fn has(&self, word: &str) -> bool {
        self.what.split(", ").any(|part| part == word)
    }
}

/// What the programs of single operations are called with: `BATCH PASSES CASE ...`.
pub struct Arguments {
    pub batch: usize,
    pub passes: usize,
    pub cases: Vec<Case>,
}

impl Arguments {
    /// Of this process.
    pub fn read() -> Option<Self> {
        Self::parse(std::env::args().skip(1))
    }

    /// Of these words.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (batch, passes) = (arguments.next()?.parse().ok()?, arguments.next()?.parse().ok()?);
        Some(Arguments { batch, passes, cases: arguments.map(Case::parse).collect() })
    }
}

/// Values around zero, none of them denormal, of this size.
pub fn values(len: usize, scale: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 2.0 * scale
    };
    (0..len).map(next).collect()
}
