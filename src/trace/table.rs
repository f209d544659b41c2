use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use super::Event;

/// Where the time went, those that took the longest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Vec<Row>);

/// Operations alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How many there were.
    pub calls: usize,
    /// One of them, but its time, operations and bytes those of all.
    pub total: Event,
}

impl Table {
    /// With a row for every operation and shape.
    pub fn by_shape(events: &[Event]) -> Self {
        Table::of(events.iter().cloned())
    }

    /// With a row for every operation, whatever its shapes.
    pub fn by_operation(events: &[Event]) -> Self {
        let nameless = |event: &Event| Event { operands: String::new(), shape: [].into(), ..event.clone() };
        Table::of(events.iter().map(nameless))
    }

    fn of(events: impl Iterator<Item = Event>) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for event in events {
            let alike = |Row { total, .. }: &&mut Row| {
                (total.op, total.shape, &total.operands) == (event.op, event.shape, &event.operands)
            };
            match rows.iter_mut().find(alike) {
                Some(Row { calls, total }) => {
                    *calls += 1;
                    total.time += event.time;
                    total.flops += event.flops;
                    total.bytes += event.bytes;
                }
                None => rows.push(Row { calls: 1, total: event }),
            }
        }
        rows.sort_by_key(|row| Reverse(row.total.time));
        Table(rows)
    }

    /// Its rows.
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// The time of all of them.
    pub fn time(&self) -> Duration {
        self.0.iter().map(|row| row.total.time).sum()
    }
}

/// A line for each row: calls, milliseconds in all, share of the time, GFLOP/s, GB/s, and what it is.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calls        ms  share   GFLOP/s    GB/s  operation")?;
        let whole = self.time().as_secs_f64();
        for Row { calls, total } in &self.0 {
            let seconds = total.time.as_secs_f64();
            let (ms, share) = (1e3 * seconds, 100.0 * seconds / whole);
            let (gflops, gbytes) = (total.flops as f64 / seconds / 1e9, total.bytes as f64 / seconds / 1e9);
            let what = format!("{} {}", total.op, total.operands);
            let what = what.trim_end();
            writeln!(f, "{calls:5} {ms:9.2} {share:5.1}% {gflops:9.1} {gbytes:7.1}  {what}")?;
        }
        Ok(())
    }
}
