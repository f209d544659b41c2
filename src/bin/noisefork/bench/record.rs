use serde::{Deserialize, Serialize};

use super::case::Times;
use super::ceiling::Ceiling;
use super::machine::Machine;

/// One measurement with all that is needed to judge it: a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `ops`, `unet`, `sampler` or `variations`.
    pub bench: String,
    pub name: String,
    pub shape: String,
    pub device: String,
    pub dtype: String,
    pub threads: usize,
    #[serde(flatten)]
    pub times: Times,
    pub flops: Option<u64>,
    pub bytes: Option<u64>,
    pub model_calls: Option<usize>,
    /// The most bytes that the process held until then.
    pub peak_memory: Option<u64>,
    pub ceiling: Ceiling,
    pub machine: Machine,
}

/// What a record is of: the same in two files, so that they can be compared.
pub type Key<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, usize);

impl Record {
    pub fn key(&self) -> Key<'_> {
        (&self.bench, &self.name, &self.shape, &self.device, &self.dtype, self.threads)
    }

    /// As a line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("its keys are names")
    }

    pub fn flops_per_s(&self) -> Option<f64> {
        Some(self.flops? as f64 / self.times.median_s)
    }

    pub fn bytes_per_s(&self) -> Option<f64> {
        Some(self.bytes? as f64 / self.times.median_s)
    }

    /// What part of the time the machine's ceilings allow no less than.
    pub fn of_ceiling(&self) -> Option<f64> {
        if self.flops.is_none() && self.bytes.is_none() {
            return None;
        }
        let floor = self.ceiling.floor(self.flops.unwrap_or(0), self.bytes.unwrap_or(0));
        Some(floor / self.times.median_s)
    }
}
