//! The CUDA backend: checks an operation, plans it, launches its kernel.
//!
//! A plan is a pure function of shapes and of what a device has: grid, block, shared memory. What launches it is a
//! [`Launcher`]: the driver, or in tests an emulator, which runs the same kernels from `kernels/` behind the same code. One
//! file here for each in that folder.
//!
//! The order of every sum in a linear layer or a convolution follows from one item's shape and the device's number of
//! multiprocessors, so an item has the same bits alone and in any batch; on another device it may have others.

mod attention;
mod blend;
mod combine;
mod concat;
mod conv2d;
#[cfg(feature = "cuda")]
pub mod driver;
mod enter;
mod foreign;
mod group_norm;
mod inject;
pub mod launch;
mod layer_norm;
mod leave;
mod linear;
/// The kernels that there are.
#[path = "../../kernels/manifest.rs"]
pub mod manifest;
#[cfg(test)]
pub(crate) mod planned;
mod product;
mod split_k;
mod tape;
mod tensor;
mod weight;

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "cuda")]
pub use driver::Driver;
pub use foreign::{Foreign, Layout};
pub use launch::{Launcher, Plan};
pub use tape::Tape;
pub use tensor::{Compute, DeviceTensor};
pub use weight::PackedWeight;

use launch::{Boxes, DeviceMemory, TensorMap};

use crate::error::Result;
use crate::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave, Linear,
    Rows, expect_shape,
};
use crate::pool::{Pool, Usage};
use crate::tensor::{Shape, Shaped, Tensor};

/// A GPU that computes in `E`, behind a launcher.
pub struct Cuda<L: Launcher, E> {
    launcher: Arc<L>,
    pool: Pool<DeviceMemory<L>>,
    launches: AtomicU64,
    element: PhantomData<E>,
}

impl<L: Launcher, E: Compute> Cuda<L, E> {
    /// The device that `launcher` launches on.
    pub fn new(launcher: Arc<L>) -> Self {
        let pool = Pool::new(DeviceMemory::new(launcher.clone()));
        Cuda { launcher, pool, launches: AtomicU64::new(0), element: PhantomData }
    }
}

impl<L: Launcher, E> Cuda<L, E> {
    /// The same device with another pool.
    fn with_pool(&self, pool: Pool<DeviceMemory<L>>) -> Self {
        Cuda { launcher: self.launcher.clone(), pool, launches: AtomicU64::new(0), element: PhantomData }
    }

    /// Runs a kernel with the arguments that the manifest has for it, unless there is nothing to do.
    fn launch(&self, plan: &Plan, args: &[&[u8]]) -> Result<()> {
        if plan.grid.contains(&0) {
            return Ok(());
        }
        self.count();
        if self.pool.rehearses() {
            return Ok(());
        }
        launch::launch(&*self.launcher, plan, args)
    }

    fn count(&self) {
        self.launches.fetch_add(1, Ordering::Relaxed);
    }

    /// A tensor map for a kernel; in a rehearsal, where tensors lie nowhere, a blank one.
    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap> {
        if self.pool.rehearses() {
            return Ok(bytemuck::Zeroable::zeroed());
        }
        self.launcher.tensor_map(boxes)
    }
}

impl<L: Launcher, E: Compute> Backend for Cuda<L, E> {
    const INJECTS: bool = true;

    type Tensor = DeviceTensor<L, E>;
    type Latent = DeviceTensor<L, f32>;
    type Weight = PackedWeight<L, E>;
    type Tape = Tape<L>;

    fn empty(&self, shape: Shape) -> Result<DeviceTensor<L, E>> {
        DeviceTensor::empty(&self.pool, shape)
    }
    fn latent(&self, shape: Shape) -> Result<DeviceTensor<L, f32>> {
        DeviceTensor::empty(&self.pool, shape)
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
    fn pack(&self, weight: Tensor) -> Result<PackedWeight<L, E>> {
        PackedWeight::new(self, &weight)
    }

    fn rehearsal(&self) -> Self {
        self.with_pool(self.pool.rehearsal())
    }
    fn stocked(&self) -> Result<Self> {
        Ok(self.with_pool(self.pool.stocked()?))
    }
    fn usage(&self) -> Usage {
        self.pool.usage()
    }
    fn flops(&self) -> u64 {
        0
    }
    fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }
    fn repeat<'a>(
        &self,
        tape: &mut Tape<L>,
        inputs: impl Iterator<Item = &'a DeviceTensor<L, E>> + Clone,
        work: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()>
    where
        Self: 'a,
    {
        if self.pool.rehearses() { work(self) } else { tape.play(self, inputs, work) }
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("linear", "y", y.shape(), op.check()?)?;
        linear::linear(self, op, y)
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("conv2d", "y", y.shape(), op.check()?)?;
        conv2d::conv2d(self, op, y)
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("group_norm", "y", y.shape(), op.check()?)?;
        group_norm::group_norm(self, op, y)
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("layer_norm", "y", y.shape(), op.check()?)?;
        layer_norm::layer_norm(self, op, y)
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("attention", "y", y.shape(), op.check()?)?;
        attention::attention(self, op, y)
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("concat", "y", y.shape(), op.check()?)?;
        concat::concat(self, op, y)
    }
    fn rows(&self, op: &Rows<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("rows", "y", y.shape(), op.check()?)?;
        // A copy for each item: there are few, once in a step.
        let width = y.shape().channels();
        (0..op.items).try_for_each(|n| y.copy_from(n * width, op.table, op.of_item(n) * width, width))
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut DeviceTensor<L, E>) -> Result<()> {
        expect_shape("enter", "y", y.shape(), op.check()?)?;
        enter::enter(self, op, y)
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("leave", "y", y.shape(), op.check()?)?;
        leave::leave(self, op, y)
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("combine", "y", y.shape(), op.check()?)?;
        combine::combine(self, op, y)
    }
    fn inject(&self, op: &Inject<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        op.check(y.shape())?;
        inject::inject(self, op, y)
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut DeviceTensor<L, f32>) -> Result<()> {
        expect_shape("blend", "y", y.shape(), op.check()?)?;
        blend::blend(self, op, y)
    }
}
