use super::{Activation, Backend, expect_shape, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "group_norm";

/// Group normalisation (Wu & He 2018, arXiv 1803.08494) with an activation.
///
/// `y[n, p, c] = activation((x[n, p, c] - mean) / sqrt(variance + eps) gamma[c] + beta[c])`, mean and biased variance
/// over all pixels `p` and the `C / groups` channels of `c`'s group.
///
/// | tensor | shape |
/// |---|---|
/// | `x`, `y` | `[N, .., C]` |
/// | `gamma`, `beta` | `[C]` |
pub struct GroupNorm<'a, B: Backend + ?Sized> {
    /// The input.
    pub x: &'a B::Tensor,
    /// The scale per channel.
    pub gamma: &'a B::Tensor,
    /// The offset per channel.
    pub beta: &'a B::Tensor,
    /// How many groups; divides `C`.
    pub groups: usize,
    /// Added to the variance; positive.
    pub eps: f32,
    /// Applied last; any but GEGLU.
    pub activation: Activation,
}

impl<B: Backend + ?Sized> GroupNorm<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above, [`Error::Value`] for groups that do not divide `C`,
    /// an epsilon that is not positive and finite, or GEGLU.
    pub fn check(&self) -> Result<Shape> {
        let x = self.x.shape();
        if x.len() < 2 || x.contains(&0) {
            let expected = "[N, .., C], none of them 0".into();
            return Err(Error::Shape { op: OP, tensor: "x", expected, got: x });
        }
        let channels = x.channels();
        expect_shape(OP, "gamma", self.gamma.shape(), [channels].into())?;
        expect_shape(OP, "beta", self.beta.shape(), [channels].into())?;
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            let (what, expected) = ("groups", format!("a divisor of {channels} channels"));
            return Err(Error::Value { op: OP, what, expected, got: self.groups.to_string() });
        }
        expect_eps(OP, self.eps)?;
        if self.activation == Activation::Geglu {
            let (what, expected) = ("activation", "elementwise".into());
            return Err(Error::Value { op: OP, what, expected, got: "GEGLU".into() });
        }
        Ok(x)
    }

    /// Floating-point operations: for each value two sums, a square, a difference and a multiply-add, the activation not counted.
    pub fn flops(&self) -> u64 {
        product([6, self.x.shape().elements()])
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        sum([self.x.bytes(), self.gamma.bytes(), self.beta.bytes(), y.bytes()])
    }
}

/// Refuses an epsilon that cannot keep a division finite.
pub(super) fn expect_eps(op: &'static str, eps: f32) -> Result<()> {
    if eps.is_finite() && eps > 0.0 {
        return Ok(());
    }
    Err(Error::Value { op, what: "eps", expected: "positive and finite".into(), got: eps.to_string() })
}
