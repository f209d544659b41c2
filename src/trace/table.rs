use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use super::{Event, Operation};

/// Where the time went, those that took the longest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Vec<Row>);

/// Operations alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How many there were.
    pub calls: usize,
    /// What they are.
    pub what: String,
    /// The time of all.
    pub time: Duration,
    /// Floating-point operations of all.
    pub flops: u64,
    /// Bytes that all of them read and write.
    pub bytes: u64,
}

impl Table {
    /// With a row for every operation and shape.
    pub fn by_shape(events: &[Event]) -> Self {
        Table::of(events, Operation::to_string)
    }

    /// With a row for every operation, whatever its shapes.
    pub fn by_operation(events: &[Event]) -> Self {
        Table::of(events, |operation| operation.name().to_owned())
    }

    fn of(events: &[Event], what: impl Fn(&Operation) -> String) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for Event { operation, time, flops, bytes } in events {
            let what = what(operation);
            let at = rows.iter().position(|row| row.what == what).unwrap_or_else(|| {
                rows.push(Row { calls: 0, what, time: Duration::ZERO, flops: 0, bytes: 0 });
                rows.len() - 1
            });
            let row = &mut rows[at];
            row.calls += 1;
            row.time += *time;
            row.flops += flops;
            row.bytes += bytes;
        }
        rows.sort_by_key(|row| Reverse(row.time));
        Table(rows)
    }

    /// Its rows.
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// The time of all of them.
    pub fn time(&self) -> Duration {
        self.0.iter().map(|row| row.time).sum()
    }
}

/// A line for each row: calls, milliseconds in all, share of the time, GFLOP/s, GB/s, and what it is.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calls        ms  share   GFLOP/s    GB/s  operation")?;
        let whole = self.time().as_secs_f64();
        for Row { calls, what, time, flops, bytes } in &self.0 {
            let seconds = time.as_secs_f64();
            let (ms, share) = (1e3 * seconds, 100.0 * seconds / whole);
            let (gflops, gbytes) = (*flops as f64 / seconds / 1e9, *bytes as f64 / seconds / 1e9);
            writeln!(f, "{calls:5} {ms:9.2} {share:5.1}% {gflops:9.1} {gbytes:7.1}  {what}")?;
        }
        Ok(())
    }
}
