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
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave, Linear,
    Rows, expect_shape, expect_weight,
};
use crate::pool::Usage;
use crate::tensor::{Element, Shape, Shaped, Tensor};

use real::Real;

/// The plain backend that computes in `F`, `f64` for an oracle and `f32` for its rival, and rounds what it stores in a
/// network's tensors to `S`. Latents are in `F`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference<F, S = F> {
    rehearses: bool,
    types: PhantomData<(F, S)>,
}

impl<F: Real> Reference<F> {
    /// The reference that stores what it computes; `Reference::default` makes any.
    pub const fn new() -> Self {
        Reference { rehearses: false, types: PhantomData }
    }
}

impl<F, S> Reference<F, S> {
    /// Computes `y` of this shape; in a rehearsal only checks that it has it.
    fn compute<T: Element>(
        &self,
        op: &'static str,
        shape: Shape,
        y: &mut Tensor<T>,
        formula: impl FnOnce(&mut [T]),
    ) -> Result<()> {
        expect_shape(op, "y", y.shape(), shape)?;
        if !self.rehearses {
            formula(y.data_mut());
        }
        Ok(())
    }
}

impl<F: Real, S: Element> Backend for Reference<F, S> {
    type Tensor = Tensor<S>;
    type Latent = Tensor<F>;
    type Weight = Tensor<S>;
    type Tape = ();

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

    fn rehearsal(&self) -> Self {
        Reference { rehearses: true, ..*self }
    }
    fn stocked(&self) -> Result<Self> {
        Ok(Reference { rehearses: false, ..*self })
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
    fn flops(&self) -> u64 {
        0
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        self.compute("linear", op.check()?, y, |y| linear::linear(op, y))
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        let shape = op.check()?;
        self.compute("conv2d", shape, y, |y| conv2d::conv2d(op, shape, y))
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        self.compute("group_norm", op.check()?, y, |y| norm::group_norm(op, y))
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        self.compute("layer_norm", op.check()?, y, |y| norm::layer_norm(op, y))
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        self.compute("attention", op.check()?, y, |y| attention::attention(op, y))
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        let shape = op.check()?;
        self.compute("concat", shape, y, |y| layout::concat(op, shape, y))
    }
    fn rows(&self, op: &Rows<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        let shape = op.check()?;
        self.compute("rows", shape, y, |y| layout::rows(op, shape, y))
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut Tensor<S>) -> Result<()> {
        let shape = op.check()?;
        self.compute("enter", shape, y, |y| layout::enter(op, shape, y))
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        let shape = op.check()?;
        self.compute("leave", shape, y, |y| layout::leave(op, shape, y))
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        self.compute("combine", op.check()?, y, |y| latent::combine(op, y))
    }
    fn inject(&self, op: &Inject<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        op.check(y.shape())?;
        self.compute("inject", y.shape(), y, |y| latent::inject(op, y))
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut Tensor<F>) -> Result<()> {
        let shape = op.check()?;
        self.compute("blend", shape, y, |y| latent::blend(op, shape, y))
    }
}
