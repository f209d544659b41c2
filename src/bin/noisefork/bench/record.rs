//! The schema of `record/README.md`: one measurement, a line of JSON. `tests/tables` reads it too.

use serde::{Deserialize, Serialize};

/// One measurement of any engine, with all that is needed to judge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `noisefork`, or what it is measured beside.
    pub engine: String,
    /// How the engine was set up, where there is more than one way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub form: String,
    /// Of the engine.
    pub version: String,
    /// The commit that this repository was at, `+` where it had changed since.
    pub commit: Option<String>,
    /// What was done to one item, its kind first: `unet sd15 64x64`.
    pub what: String,
    /// Items at a time.
    pub batch: usize,
    pub dtype: String,
    pub device: String,
    pub threads: usize,
    /// What each timed pass took, in order; a pass of several steps counts for one of them.
    pub seconds: Vec<f64>,
    /// The most memory that the process held while it was measured; of a GPU, what was allocated there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Floating-point operations of a pass, a multiply-add counted as two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<u64>,
    /// Bytes that something that keeps nothing in caches reads and writes in a pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Answers of the model in a whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<usize>,
    /// Kernels of a pass on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<u64>,
    /// How often a pass turned to the GPU: once for each kernel, or once for all that are one graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launches: Option<u64>,
    /// The operations of the fastest pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What the machine did at best, just before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Ceiling>,
    pub machine: Machine,
}

/// Operations alike of one pass, taken together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub what: String,
    pub calls: usize,
    pub seconds: f64,
    pub flops: u64,
    pub bytes: u64,
}

/// The best that the machine did, on all threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Fused multiplications and additions in registers, in the compute type where the machine has them; of a GPU, in a large
    /// product.
    pub flops_per_s: f64,
    /// Bytes read and bytes written by a copy.
    pub bytes_per_s: f64,
}

/// Where a record was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The name that the processor has for itself.
    pub cpu: String,
    /// Hardware threads.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: Option<u64>,
    pub architecture: String,
    /// The instructions that the loops choose among.
    pub features: Vec<String>,
    pub system: String,
    /// The name that the GPU has for itself, if that is what was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
}

/// What a record is of: the same in two files, so that they can be compared.
pub type Key<'a> = (&'a str, &'a str, &'a str, usize, &'a str, &'a str, usize);

impl Record {
    pub fn key(&self) -> Key<'_> {
        let Record { engine, form, what, batch, dtype, device, threads, .. } = self;
        (engine, form, what, *batch, dtype, device, *threads)
    }

    /// The least time that so large a share of all passes did not exceed; at least one was timed.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((share * sorted.len() as f64).ceil() as usize).max(1) - 1]
    }

    /// How far apart the quartiles are, as a share of the median.
    pub fn spread(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / self.median()
    }

    pub fn flops_per_s(&self) -> Option<f64> {
        Some(self.flops? as f64 / self.median())
    }

    pub fn bytes_per_s(&self) -> Option<f64> {
        Some(self.bytes? as f64 / self.median())
    }

    /// The share of its time that the machine's ceilings ask for at least.
    pub fn of_ceiling(&self) -> Option<f64> {
        let (flops, bytes) = (self.flops.or(self.bytes.map(|_| 0))?, self.bytes.unwrap_or(0));
        Some(self.ceiling?.floor(flops, bytes) / self.median())
    }

    pub fn best(&self) -> f64 {
        self.quantile(0.0)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

impl Ceiling {
    /// The least time in which so much can be done.
    pub fn floor(&self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.flops_per_s).max(bytes as f64 / self.bytes_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let mut record: Record = serde_json::from_str(
            r#"{"engine": "torch", "version": "2.15.0", "commit": null, "what": "randn 4x64x64", "batch": 1,
                "dtype": "f32", "device": "cpu", "threads": 2, "seconds": [],
                "machine": {"cpu": "", "cores": 2, "memory": null, "architecture": "", "features": [], "system": ""}}"#,
        )
        .unwrap();
        record.seconds = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            [0.0, 0.25, 0.5, 0.95, 1.0].map(|share| record.quantile(share)),
            [1.0, 25.0, 50.0, 95.0, 100.0]
        );
        record.seconds = vec![2.0];
        assert_eq!([record.best(), record.quantile(0.95)], [2.0, 2.0]);
    }
}
