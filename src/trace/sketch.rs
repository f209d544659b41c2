use crate::error::Result;
use crate::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave, Linear,
    Rows, expect_shape, expect_weight,
};
use crate::pool::Usage;
use crate::tensor::{DType, Shape, Shaped, Tensor};

/// A backend whose tensors have shapes and no values: it checks every operation and computes none. What a model of any size
/// would do at any batch is known at once.
#[derive(Debug, Clone, Copy)]
pub struct Sketch(pub DType);

/// A tensor, latent or weight of a [`Sketch`].
#[derive(Debug, Clone, Copy)]
pub struct Sketched {
    shape: Shape,
    dtype: DType,
}

impl Shaped for Sketched {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        self.dtype
    }
}

impl Backend for Sketch {
    type Tensor = Sketched;
    type Latent = Sketched;
    type Weight = Sketched;
    type Tape = ();

    fn empty(&self, shape: Shape) -> Result<Sketched> {
        Ok(Sketched { shape, dtype: self.0 })
    }
    fn latent(&self, shape: Shape) -> Result<Sketched> {
        Ok(Sketched { shape, dtype: DType::F32 })
    }
    fn upload(&self, host: &Tensor) -> Result<Sketched> {
        self.empty(host.shape())
    }
    fn write_latent(&self, host: &Tensor, latent: &mut Sketched) -> Result<()> {
        expect_shape("write_latent", "host", host.shape(), latent.shape)
    }
    fn read_latent(&self, latent: &Sketched) -> Result<Tensor> {
        Tensor::try_zeros(latent.shape)
    }
    fn pack(&self, weight: Tensor) -> Result<Sketched> {
        expect_weight(weight.shape())?;
        self.empty(weight.shape())
    }

    fn rehearsal(&self) -> Self {
        *self
    }
    fn stocked(&self) -> Result<Self> {
        Ok(*self)
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
    fn flops(&self) -> u64 {
        0
    }

    fn linear(&self, op: &Linear<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("linear", "y", y.shape, op.check()?)
    }
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("conv2d", "y", y.shape, op.check()?)
    }
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("group_norm", "y", y.shape, op.check()?)
    }
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("layer_norm", "y", y.shape, op.check()?)
    }
    fn attention(&self, op: &Attention<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("attention", "y", y.shape, op.check()?)
    }
    fn concat(&self, op: &Concat<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("concat", "y", y.shape, op.check()?)
    }
    fn rows(&self, op: &Rows<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("rows", "y", y.shape, op.check()?)
    }
    fn enter(&self, op: &Enter<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("enter", "y", y.shape, op.check()?)
    }
    fn leave(&self, op: &Leave<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("leave", "y", y.shape, op.check()?)
    }
    fn combine(&self, op: &Combine<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("combine", "y", y.shape, op.check()?)
    }
    fn inject(&self, op: &Inject<'_, Self>, y: &mut Sketched) -> Result<()> {
        op.check(y.shape)
    }
    fn blend(&self, op: &Blend<'_, Self>, y: &mut Sketched) -> Result<()> {
        expect_shape("blend", "y", y.shape, op.check()?)
    }
}
