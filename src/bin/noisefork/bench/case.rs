//! One thing to measure, and how often.

use std::time::{Duration, Instant};

use noisefork::error::Result;

use super::record::Part;

/// What is measured, and what it amounts to.
pub struct Case {
    /// As `record/README.md` has it.
    pub what: String,
    /// How it is done, where there is more than one way.
    pub form: &'static str,
    pub batch: usize,
    /// How many of what is measured one run has, such as steps: times, operations and bytes are of one.
    pub parts: usize,
    /// Floating-point operations, where they are known.
    pub flops: Option<u64>,
    /// Bytes read and written by something that keeps nothing in caches, where they are known.
    pub bytes: Option<u64>,
    /// Answers of the model.
    pub model_calls: Option<usize>,
    /// Kernels of a run on a GPU.
    pub kernels: Option<u64>,
}

impl Case {
    /// Of which no more is known.
    pub fn new(what: String, batch: usize) -> Self {
        let form = "";
        Case { what, form, batch, parts: 1, flops: None, bytes: None, model_calls: None, kernels: None }
    }
}

/// What a pass tells of itself.
#[derive(Default)]
pub struct Pass {
    /// Its operations.
    pub parts: Vec<Part>,
    /// How often it turned to a GPU.
    pub launches: Option<u64>,
}

/// How often something is run: so many times, or until its time is up.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub iterations: Option<usize>,
    pub time: Duration,
}

/// Fewer say nothing of a spread.
const FEWEST: usize = 3;
const MOST: usize = 200;

impl Effort {
    /// Has `run` do its work once for nothing and then as often as this says; returns the seconds of each.
    pub fn seconds(self, mut run: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
        run()?;
        let start = Instant::now();
        let mut seconds = Vec::new();
        let more = |done: usize| match self.iterations {
            Some(iterations) => done < iterations.max(1),
            None => done < FEWEST || (start.elapsed() < self.time && done < MOST),
        };
        while more(seconds.len()) {
            seconds.push(run()?);
        }
        Ok(seconds)
    }
}

/// Extents as [`Case::what`] has them.
pub fn extents(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_does_not_count() {
        let mut runs = 0;
        let effort = Effort { iterations: Some(4), time: Duration::ZERO };
        let seconds = effort.seconds(|| {
            runs += 1;
            Ok(f64::from(runs))
        });
        assert_eq!(seconds.unwrap(), [2.0, 3.0, 4.0, 5.0]);
    }
}
