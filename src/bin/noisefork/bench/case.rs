//! One thing to measure, and how often.

use std::time::{Duration, Instant};

use noisefork::error::Result;

/// What is measured, and what it amounts to.
pub struct Case {
    /// As `record/README.md` has it.
    pub what: String,
    pub batch: usize,
    /// How many of what is measured one run has, such as steps: times, operations and bytes are of one.
    pub parts: usize,
    /// Floating-point operations, where they are known.
    pub flops: Option<u64>,
    /// Bytes read and written by something that keeps nothing in caches, where they are known.
    pub bytes: Option<u64>,
    /// Answers of the model.
    pub model_calls: Option<usize>,
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
    /// Runs `work` once without a clock and then as often as this says; returns the seconds of each.
    pub fn seconds(self, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        work()?;
        let start = Instant::now();
        let mut seconds = Vec::new();
        let more = |done: usize| match self.iterations {
            Some(iterations) => done < iterations.max(1),
            None => done < FEWEST || (start.elapsed() < self.time && done < MOST),
        };
        while more(seconds.len()) {
            let start = Instant::now();
            work()?;
            seconds.push(start.elapsed().as_secs_f64());
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
    fn the_first_run_is_not_timed() {
        let mut runs = 0;
        let effort = Effort { iterations: Some(4), time: Duration::ZERO };
        let seconds = effort.seconds(|| {
            runs += 1;
            Ok(())
        });
        assert_eq!((seconds.unwrap().len(), runs), (4, 5));
    }
}
