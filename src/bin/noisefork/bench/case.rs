//! One thing to measure, and how its times are summed up.

use std::time::{Duration, Instant};

use noisefork::error::Result;
use serde::{Deserialize, Serialize};

/// What is measured, and what it amounts to.
pub struct Case {
    pub name: String,
    pub shape: String,
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
const MOST: usize = 1000;

/// Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub iterations: usize,
    pub best_s: f64,
    pub lower_quartile_s: f64,
    pub median_s: f64,
    pub upper_quartile_s: f64,
    pub p95_s: f64,
}

impl Times {
    /// Of one of `parts`: runs `work` once without a clock and then as often as `effort` says.
    pub fn of(effort: Effort, parts: usize, mut work: impl FnMut() -> Result<()>) -> Result<Self> {
        work()?;
        let start = Instant::now();
        let mut times = Vec::new();
        let more = |done: usize| match effort.iterations {
            Some(iterations) => done < iterations.max(1),
            None => done < FEWEST || (start.elapsed() < effort.time && done < MOST),
        };
        while more(times.len()) {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() / parts as f64);
        }
        Ok(Self::from_seconds(times))
    }

    /// At least one time.
    fn from_seconds(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        // The smallest that so large a share of all does not exceed.
        let share = |share: f64| times[((share * times.len() as f64).ceil() as usize).max(1) - 1];
        Times {
            iterations: times.len(),
            best_s: times[0],
            lower_quartile_s: share(0.25),
            median_s: share(0.5),
            upper_quartile_s: share(0.75),
            p95_s: share(0.95),
        }
    }

    /// How far apart the quartiles are, as a share of the median.
    pub fn spread(&self) -> f64 {
        (self.upper_quartile_s - self.lower_quartile_s) / self.median_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = Times::from_seconds((1..=100).rev().map(f64::from).collect());
        let Times { iterations, best_s, lower_quartile_s, median_s, upper_quartile_s, p95_s } = times;
        assert_eq!(iterations, 100);
        assert_eq!(
            [best_s, lower_quartile_s, median_s, upper_quartile_s, p95_s],
            [1.0, 25.0, 50.0, 75.0, 95.0]
        );
        assert_eq!(times.spread(), 1.0);
        assert_eq!(Times::from_seconds(vec![2.0]).p95_s, 2.0);
    }

    #[test]
    fn the_first_run_is_not_timed() {
        let mut runs = 0;
        let effort = Effort { iterations: Some(4), time: Duration::ZERO };
        let times = Times::of(effort, 1, || {
            runs += 1;
            Ok(())
        });
        assert_eq!((times.unwrap().iterations, runs), (4, 5));
    }
}
