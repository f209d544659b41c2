//! A GPU and its clock: by events on its stream, its caches cold, as `noisefork bench` has it.

use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream};
use rivals::{Arguments, Case, report, values};

use crate::{Element, Result};

/// How many times what the cache holds is copied, so that nothing else is left in it.
const CACHES: usize = 4;
/// How often each way is tried before the fastest is timed.
const TRIALS: usize = 3;

pub struct Clock {
    pub stream: Arc<CudaStream>,
    spare: [CudaSlice<u8>; 2],
}

impl Clock {
    /// On the device that the variable DEVICE names.
    pub fn open() -> Result<Self> {
        let device = std::env::var("DEVICE").unwrap_or("cuda:0".into());
        let ordinal = device.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok());
        let context = CudaContext::new(ordinal.ok_or_else(|| format!("DEVICE is {device}, not cuda:N"))?)
            .map_err(|error| format!("no {device}: {error:?}"))?;
        let cache =
            usize::try_from(context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?)?;
        let stream = context.default_stream();
        let spare = || stream.alloc_zeros(CACHES * cache.max(1));
        let spare = [spare()?, spare()?];
        Ok(Clock { stream, spare })
    }

    pub fn random<T: Element>(&self, len: usize, scale: f32) -> Result<CudaSlice<T>> {
        let values: Vec<T> = values(len, scale).into_iter().map(T::OF).collect();
        Ok(self.stream.clone_htod(&values)?)
    }

    /// Times the fastest of these ways to do the work of a case.
    pub fn measure<W: Copy>(
        &mut self,
        &Arguments { batch, passes, .. }: &Arguments,
        case: &Case,
        ways: impl IntoIterator<Item = W>,
        mut work: impl FnMut(W) -> Result<()>,
    ) -> Result<()> {
        let mut fastest = Err("the library proposes nothing".into());
        for way in ways {
            let trials = (0..TRIALS).map(|_| self.seconds(|| work(way))).collect::<Result<Vec<_>>>();
            let trial = trials.map(|seconds| (seconds.into_iter().fold(f64::INFINITY, f64::min), way));
            fastest = match (fastest, trial) {
                (Ok(best), Ok(trial)) => Ok(if trial.0 < best.0 { trial } else { best }),
                // A way that fails is none, if another works.
                (Ok(best), Err(_)) | (Err(_), Ok(best)) => Ok(best),
                (Err(_), Err(error)) => Err(error),
            };
        }
        let (_, way) = fastest.map_err(|error| format!("{}: {error}", case.what))?;
        report(&case.what, batch, passes, || self.seconds(|| work(way)), || None)
    }

    /// The copy before it empties the caches, and gives the host time to launch.
    fn seconds(&mut self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let event = || self.stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let (start, end) = (event()?, event()?);
        let [from, to] = &mut self.spare;
        self.stream.memcpy_dtod(from, to)?;
        start.record(&self.stream)?;
        work()?;
        end.record(&self.stream)?;
        Ok(f64::from(start.elapsed_ms(&end)?) / 1e3)
    }
}
