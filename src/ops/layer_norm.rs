use super::group_norm::expect_eps;
use super::{Backend, expect_shape, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "layer_norm";

/// Layer normalisation over the last dimension (Ba et al. 2016, arXiv 1607.06450).
///
/// `y[.., c] = (x[.., c] - mean) / sqrt(variance + eps) gamma[c] + beta[c]`, mean and biased variance over `c`.
///
/// | tensor | shape |
/// |---|---|
/// | `x`, `y` | `[.., C]` |
/// | `gamma`, `beta` | `[C]` |
pub struct LayerNorm<'a, B: Backend + ?Sized> {
    /// The input.
    pub x: &'a B::Tensor,
    /// The scale per channel.
    pub gamma: &'a B::Tensor,
    /// The offset per channel.
    pub beta: &'a B::Tensor,
    /// Added to the variance; positive.
    pub eps: f32,
}

impl<B: Backend + ?Sized> LayerNorm<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above, [`Error::Value`] for an epsilon that is not positive
    /// and finite.
    pub fn check(&self) -> Result<Shape> {
        let x = self.x.shape();
        if x.is_empty() || x.contains(&0) {
            let expected = "[.., C], none of them 0".into();
            return Err(Error::Shape { op: OP, tensor: "x", expected, got: x });
        }
        expect_shape(OP, "gamma", self.gamma.shape(), [x.channels()].into())?;
        expect_shape(OP, "beta", self.beta.shape(), [x.channels()].into())?;
        expect_eps(OP, self.eps)?;
        Ok(x)
    }

    /// Floating-point operations: for each value two sums, a square, a difference and a multiply-add.
    pub fn flops(&self) -> u64 {
        product([6, self.x.shape().elements()])
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        sum([self.x.bytes(), self.gamma.bytes(), self.beta.bytes(), y.bytes()])
    }
}
