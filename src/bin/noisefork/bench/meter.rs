//! What is measured on: its clock, what it can do at best, its memory.

use std::time::Instant;

use noisefork::error::Result;

use super::machine::{forget_peak_memory, peak_memory};
use super::record::Ceiling;
use super::suite::Dtype;
use crate::device::Device;

/// A device under measurement.
pub trait Meter {
    fn device(&self) -> Device;
    /// The name that it has for itself, if it is a GPU.
    fn gpu(&self) -> Option<String>;
    /// Seconds that work takes.
    fn seconds(&mut self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64>;
    /// The best that it does.
    fn ceiling(&mut self) -> Result<Ceiling>;
    /// Begins anew to look for [`Meter::memory`].
    fn forget_memory(&mut self) {}
    /// The most memory in bytes that what is measured has taken, where it is known.
    fn memory(&self) -> Result<Option<u64>>;
}

/// The CPU, on the current rayon pool, computing in this type.
pub struct Host {
    pub device: Device,
    pub dtype: Dtype,
}

impl Meter for Host {
    fn device(&self) -> Device {
        self.device
    }
    fn gpu(&self) -> Option<String> {
        None
    }
    fn seconds(&mut self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }
    fn ceiling(&mut self) -> Result<Ceiling> {
        Ok(Ceiling::measure(self.dtype))
    }
    fn forget_memory(&mut self) {
        forget_peak_memory();
    }
    fn memory(&self) -> Result<Option<u64>> {
        Ok(peak_memory())
    }
}
