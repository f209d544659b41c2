//! The CUDA backend: checks an operation, plans it, launches its kernel.
//!
//! A plan is a pure function of shapes: grid, block, shared memory. What launches it is a [`Launcher`]: the driver, or in
//! tests an emulator, which runs the same kernels from `kernels/` behind the same code. One file here for each in that
//! folder.

mod attention;
mod combine;
#[cfg(feature = "cuda")]
pub mod driver;
mod group_norm;
pub mod launch;
mod layer_norm;
/// The kernels that there are.
#[path = "../../kernels/manifest.rs"]
pub mod manifest;
mod tensor;

use std::marker::PhantomData;
use std::sync::Arc;

#[cfg(feature = "cuda")]
pub use driver::Driver;
pub use launch::Launcher;
pub use tensor::{Compute, DeviceTensor};

use crate::error::{Error, Result};
use crate::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, LayerNorm, Leave, Linear,
    expect_shape, expect_weight,
};
use crate::pool::Usage;
use crate::tensor::{Shape, Shaped, Tensor};

/// A GPU that computes in `E`, behind a launcher.
#[derive(Debug)]
pub struct Cuda<L, E> {
    launcher: Arc<L>,
    rehearses: bool,
    element: PhantomData<E>,
}

impl<L: Launcher, E: Compute> Cuda<L, E> {
    /// The device that `launcher` launches on.
    pub fn new(launcher: Arc<L>) -> Self {
        Cuda { launcher, rehearses: false, element: PhantomData }
    }
}

/// What an operation returns whose kernel is yet to be written.
fn no_kernel(op: &'static str) -> Result<()> {
    Err(Error::Driver { op, got: "no such kernel yet".into() })
}

impl<L: Launcher, E: Compute> Backend for Cuda<L, E> {
    type Tensor = DeviceTensor<L, E>;
    type Latent = DeviceTensor<L, f32>;
    type Weight = DeviceTensor<L, E>;

    fn empty(&self, shape: Shape) -> Result<DeviceTensor<L, E>> {
        DeviceTensor::empty(&self.launcher, shape)
    }
    fn latent(&self, shape: Shape) -> Result<DeviceTensor<L, f32>> {
        DeviceTensor::empty(&self.launcher, shape)
    }
    fn upload(&self, host: &Tensor) -> Result<DeviceTensor<L, E>> {
        let mut tensor = self.empty(host.shape())?;
        tensor.write(&host.cast())?;
        Ok(tensor)
    }
    fn write_latent(&self, host: &Tensor, latent: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("write_latent", "host", host.shape(), latent.shape())?;
        latent.write(host)
    }
    fn read_latent(&self, latent: &DeviceTensor<L, f32>) -> Result<Tensor> {
        latent.read()
    }
    fn pack(&self, weight: Tensor) -> Result<DeviceTensor<L, E>> {
        expect_weight(weight.shape())?;
        self.upload(&weight)
    }

    fn rehearsal(&self) -> Self {
        Cuda { rehearses: true, ..Cuda::new(self.launcher.clone()) }
    }
    fn stocked(&self) -> Result<Self> {
        Ok(Cuda::new(self.launcher.clone()))
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("linear", "y", y.shape(), op.check()?)?;
        no_kernel("linear")
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("conv2d", "y", y.shape(), op.check()?)?;
        no_kernel("conv2d")
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("group_norm", "y", y.shape(), op.check()?)?;
        group_norm::group_norm(self, op, y)
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("layer_norm", "y", y.shape(), op.check()?)?;
        layer_norm::layer_norm(&*self.launcher, op, y)
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("attention", "y", y.shape(), op.check()?)?;
        attention::attention(&*self.launcher, op, y)
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("concat", "y", y.shape(), op.check()?)?;
        no_kernel("concat")
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("enter", "y", y.shape(), op.check()?)?;
        no_kernel("enter")
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("leave", "y", y.shape(), op.check()?)?;
        no_kernel("leave")
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("combine", "y", y.shape(), op.check()?)?;
        if self.rehearses {
            return Ok(());
        }
        combine::combine(&*self.launcher, op, y)
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("blend", "y", y.shape(), op.check()?)?;
        no_kernel("blend")
    }
}
