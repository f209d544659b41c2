//! The oracle: every operation as plain loops straight from its formula, all arithmetic in `F`, a network's tensors
//! kept in `S`. Never optimised.
//!
//! `Reference<f64>` says what is right. `Reference<f32>`, and `Reference<f32, bf16>` for a backend that keeps its tensors
//! in bf16, say how wrong plain code in the same precision is, which is what a backend's error is judged against.

mod attention;
mod conv2d;
mod latent;
mod layout;
mod linear;
mod norm;
mod real;

use std::marker::PhantomData;

use crate::error::Result;
use crate::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, LayerNorm, Leave, Linear,
    expect_shape, expect_weight,
};
use crate::tensor::{Element, Shape, Shaped, Tensor};

use real::Real;

/// The plain backend that computes in `F`, `f64` for an oracle and `f32` for its rival, and rounds what it stores in a
/// network's tensors to `S`. Latents are in `F`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference<F, S = F>(PhantomData<(F, S)>);

impl<F: Real> Reference<F> {
    /// The reference that stores what it computes; `Reference::default` makes any.
    pub const fn new() -> Self {
        Reference(PhantomData)
    }
}

impl<F: Real, S: Element> Backend for Reference<F, S> {
    type Tensor = Tensor<S>;
    type Latent = Tensor<F>;
    type Weight = Tensor<S>;

    fn empty(&self, shape: Shape) -> Result<Tensor<S>> {
        Tensor::try_zeros(shape)
    }
    fn latent(&self, shape: Shape) -> Result<Tensor<F>> {
        Tensor::try_zeros(shape)
    }
    fn upload(&self, host: &Tensor) -> Result<Tensor<S>> {
        Ok(host.cast())
    }
    fn write_latent(&self, host: &Tensor, latent: &mut Tensor<F>) -> Result<()> {
        expect_shape("write_latent", "host", host.shape(), latent.shape())?;
        *latent = host.cast();
        Ok(())
    }
    fn read_latent(&self, latent: &Tensor<F>) -> Result<Tensor> {
        Ok(latent.cast())
    }
    fn pack(&self, weight: Tensor) -> Result<Tensor<S>> {
        expect_weight(weight.shape())?;
        Ok(weight.cast())
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("linear", "y", y.shape(), op.check()?)?;
        linear::linear(op, y.data_mut());
        Ok(())
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("conv2d", "y", y.shape(), op.check()?)?;
        conv2d::conv2d(op, y.shape(), y.data_mut());
        Ok(())
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("group_norm", "y", y.shape(), op.check()?)?;
        norm::group_norm(op, y.data_mut());
        Ok(())
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("layer_norm", "y", y.shape(), op.check()?)?;
        norm::layer_norm(op, y.data_mut());
        Ok(())
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("attention", "y", y.shape(), op.check()?)?;
        attention::attention(op, y.data_mut());
        Ok(())
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("concat", "y", y.shape(), op.check()?)?;
        layout::concat(op, y.shape(), y.data_mut());
        Ok(())
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        expect_shape("enter", "y", y.shape(), op.check()?)?;
        layout::enter(op, y.shape(), y.data_mut());
        Ok(())
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        expect_shape("leave", "y", y.shape(), op.check()?)?;
        layout::leave(op, y.shape(), y.data_mut());
        Ok(())
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        expect_shape("combine", "y", y.shape(), op.check()?)?;
        latent::combine(op, y.data_mut());
        Ok(())
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        expect_shape("blend", "y", y.shape(), op.check()?)?;
        latent::blend(op, y.shape(), y.data_mut());
        Ok(())
    }
}
