//! A GPU under measurement: by events on its stream, its caches cold. Its clocks and limits are left as they are.

use std::time::Duration;

use noisefork::cuda::{Compute, Cuda, Driver};
use noisefork::error::Result;
use noisefork::ops::Activation;
use noisefork::tensor::Tensor;
use noisefork::trace::{Inputs, Operation, Replay};

use super::ceiling::ROUNDS;
use super::meter::Meter;
use super::record::Ceiling;
use crate::device::Device;

/// How many times what the cache holds is copied, so that nothing else is left in it.
const CACHES: usize = 4;
/// The edge of the smallest product that is tried.
const SMALLEST: usize = 128;
/// A product that takes so long is large enough to be a ceiling.
const LONG: Duration = Duration::from_millis(1);

/// A GPU, computing in `E`.
pub struct Gpu<'b, E: Compute> {
    driver: &'b Driver,
    copy: Counted<'b, E>,
    product: Counted<'b, E>,
    /// Bytes of these.
    own: u64,
}

/// Something to do, and its bytes or floating-point operations.
struct Counted<'b, E: Compute> {
    replay: Replay<'b, Cuda<Driver, E>>,
    amount: f64,
}

impl<'b, E: Compute> Counted<'b, E> {
    fn new(
        backend: &'b Cuda<Driver, E>,
        operation: Operation,
        inputs: &Inputs,
        amount: usize,
    ) -> Result<Self> {
        let mut replay = Replay::new(backend, operation, inputs)?;
        replay.run()?;
        Ok(Counted { replay, amount: amount as f64 })
    }

    /// From one memory to another, far more than the cache holds.
    fn copy(driver: &Driver, backend: &'b Cuda<Driver, E>) -> Result<Self> {
        let values = CACHES * driver.device().cache.max(1) / size_of::<E>();
        let table = Tensor::try_zeros([1, values])?;
        let operation = Operation::Rows { table: [1, values].into(), rows: 1, items: 1 };
        let inputs = Inputs { tensors: vec![table], weight: None };
        Self::new(backend, operation, &inputs, 2 * values * size_of::<E>())
    }

    /// Of matrices that are square, and large.
    fn product(driver: &Driver, backend: &'b Cuda<Driver, E>) -> Result<Self> {
        let mut edge = SMALLEST;
        loop {
            let operation = Operation::Linear {
                x: [edge, edge].into(),
                outputs: edge,
                bias: false,
                residual: false,
                activation: Activation::Identity,
            };
            let inputs = Inputs::normal(&operation, 1)?;
            let mut product = Self::new(backend, operation, &inputs, 2 * edge.pow(3))?;
            if driver.time(|| product.replay.run())? > LONG {
                return Ok(product);
            }
            edge *= 2;
        }
    }

    fn per_second(&mut self, driver: &Driver) -> Result<f64> {
        (0..ROUNDS).try_fold(0.0, |best: f64, _| {
            let seconds = driver.time(|| self.replay.run())?.as_secs_f64();
            Ok(best.max(self.amount / seconds))
        })
    }
}

impl<'b, E: Compute> Gpu<'b, E> {
    /// The device of a driver, with a backend on it for the ceilings.
    pub fn new(driver: &'b Driver, backend: &'b Cuda<Driver, E>) -> Result<Self> {
        let (copy, product) = (Counted::copy(driver, backend)?, Counted::product(driver, backend)?);
        Ok(Gpu { driver, copy, product, own: driver.memory_in_use()? })
    }
}

impl<E: Compute> Meter for Gpu<'_, E> {
    fn device(&self) -> Device {
        Device::Cuda(self.driver.device().ordinal)
    }
    fn gpu(&self) -> Option<String> {
        Some(self.driver.device().name.clone())
    }
    /// The copy before it empties the caches, and gives the host time to launch.
    fn seconds(&mut self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.copy.replay.run()?;
        Ok(self.driver.time(work)?.as_secs_f64())
    }
    fn ceiling(&mut self) -> Result<Ceiling> {
        let (flops_per_s, bytes_per_s) =
            (self.product.per_second(self.driver)?, self.copy.per_second(self.driver)?);
        Ok(Ceiling { flops_per_s, bytes_per_s })
    }
    fn memory(&self) -> Result<Option<u64>> {
        Ok(Some(self.driver.memory_in_use()?.saturating_sub(self.own)))
    }
}
