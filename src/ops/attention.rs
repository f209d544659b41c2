use super::{Backend, expect_rank, expect_shape};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "attention";

/// Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762), heads side by side in the channels.
///
/// For each item and head `h`, with `D = C / heads` channels of it:
/// `y[t, h] = sum_s softmax_s(q[t, h] · k[s, h] / sqrt D) v[s, h]`
///
/// | tensor | shape |
/// |---|---|
/// | `q`, `y` | `[N, T, C]` |
/// | `k`, `v` | `[N, S, C]` |
pub struct Attention<'a, B: Backend + ?Sized> {
    /// The queries.
    pub q: &'a B::Tensor,
    /// The keys.
    pub k: &'a B::Tensor,
    /// The values.
    pub v: &'a B::Tensor,
    /// How many heads; divides `C`.
    pub heads: usize,
}

impl<B: Backend + ?Sized> Attention<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above, [`Error::Value`] for heads that do not divide `C`.
    pub fn check(&self) -> Result<Shape> {
        let [n, _, c] = expect_rank(OP, "q", self.q.shape(), "[N, T, C]")?;
        let [_, s, _] = expect_rank(OP, "k", self.k.shape(), "[N, S, C]")?;
        expect_shape(OP, "k", self.k.shape(), [n, s, c].into())?;
        expect_shape(OP, "v", self.v.shape(), [n, s, c].into())?;
        if self.heads == 0 || !c.is_multiple_of(self.heads) {
            let (what, expected) = ("heads", format!("a divisor of {c} channels"));
            return Err(Error::Value { op: OP, what, expected, got: self.heads.to_string() });
        }
        Ok(self.q.shape())
    }

    /// Floating-point operations of the two products, a multiply-add counted as two.
    pub fn flops(&self) -> u64 {
        4 * self.q.shape().elements() as u64 * self.k.shape()[1] as u64
    }
}
