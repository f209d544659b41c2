//! The CPU backend, in f32, or in bf16 with sums in f32.
//!
//! Every operation cuts its output into blocks of a fixed size and shares them over the current rayon pool, so a result
//! has the same bits at any number of threads, and the caller chooses that number with `ThreadPool::install`. The order of
//! every sum is fixed too, so an item has the same bits alone and in any batch.

mod attention;
mod blend;
mod border;
mod combine;
mod compute;
mod concat;
mod conv2d;
mod epilogue;
mod gemm;
mod group_norm;
mod layer_norm;
mod linear;
mod math;
mod moments;
mod threads;
mod weight;

pub use compute::Compute;
pub use weight::PackedWeight;

use std::marker::PhantomData;

use half::bf16;

use crate::error::Result;
use crate::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, LayerNorm, Leave, Linear,
    expect_shape,
};
use crate::tensor::{Shape, Shaped, Tensor};

/// The CPU, keeping a network's tensors in `E`: f32 ([`Cpu::new`]) or bf16 ([`Cpu::bf16`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu<E: Compute = f32>(PhantomData<E>);

impl Cpu {
    /// The CPU, in f32.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Cpu<bf16> {
    /// The CPU, in bf16: half the memory, sums still in f32.
    pub fn bf16() -> Self {
        Self::default()
    }
}

impl<E: Compute> Backend for Cpu<E> {
    type Tensor = Tensor<E>;
    type Latent = Tensor;
    type Weight = PackedWeight;

    fn empty(&self, shape: Shape) -> Result<Tensor<E>> {
        Tensor::try_zeros(shape)
    }
    fn latent(&self, shape: Shape) -> Result<Tensor> {
        Tensor::try_zeros(shape)
    }
    fn upload(&self, host: &Tensor) -> Result<Tensor<E>> {
        let mut tensor = Tensor::try_zeros(host.shape())?;
        for (value, &host) in tensor.data_mut().iter_mut().zip(host.data()) {
            *value = E::narrow(host);
        }
        Ok(tensor)
    }
    fn write_latent(&self, host: &Tensor, latent: &mut Tensor) -> Result<()> {
        expect_shape("write_latent", "host", host.shape(), latent.shape())?;
        latent.data_mut().copy_from_slice(host.data());
        Ok(())
    }
    fn read_latent(&self, latent: &Tensor) -> Result<Tensor> {
        let mut host = Tensor::try_zeros(latent.shape())?;
        host.data_mut().copy_from_slice(latent.data());
        Ok(host)
    }
    fn pack(&self, weight: Tensor) -> Result<PackedWeight> {
        PackedWeight::new::<E>(&weight)
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("linear", "y", y.shape(), op.check()?)?;
        linear::linear(op, y);
        Ok(())
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("conv2d", "y", y.shape(), op.check()?)?;
        conv2d::conv2d(op, y);
        Ok(())
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("group_norm", "y", y.shape(), op.check()?)?;
        group_norm::group_norm(op, y);
        Ok(())
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("layer_norm", "y", y.shape(), op.check()?)?;
        layer_norm::layer_norm(op, y);
        Ok(())
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("attention", "y", y.shape(), op.check()?)?;
        attention::attention(op, y);
        Ok(())
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("concat", "y", y.shape(), op.check()?)?;
        concat::concat(op, y);
        Ok(())
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut Tensor<E>) -> Result<()> {
        expect_shape("enter", "y", y.shape(), op.check()?)?;
        border::enter(op, y);
        Ok(())
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut Tensor) -> Result<()> {
        expect_shape("leave", "y", y.shape(), op.check()?)?;
        border::leave(op, y);
        Ok(())
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut Tensor) -> Result<()> {
        expect_shape("combine", "y", y.shape(), op.check()?)?;
        combine::combine(op, y);
        Ok(())
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut Tensor) -> Result<()> {
        expect_shape("blend", "y", y.shape(), op.check()?)?;
        blend::blend(op, y);
        Ok(())
    }
}
