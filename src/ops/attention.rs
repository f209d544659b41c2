use super::{Backend, expect_shape};
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
/// | `q`, `y` | `[N, .., C]`: `T` tokens, the product of the extents between |
/// | `k`, `v` | `[N, .., C]`: `S` tokens, likewise |
///
/// So an image `[N, H, W, C]` is a sequence as it stands.
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
        let q = self.q.shape();
        if q.len() < 2 || q.contains(&0) {
            let expected = "[N, .., C], none of them 0".into();
            return Err(Error::Shape { op: OP, tensor: "q", expected, got: q });
        }
        let (n, c, k) = (q[0], q.channels(), self.k.shape());
        if k.len() < 2 || k[0] != n || k.channels() != c || k.contains(&0) {
            let expected = format!("[{n}, .., {c}], none of them 0");
            return Err(Error::Shape { op: OP, tensor: "k", expected, got: k });
        }
        expect_shape(OP, "v", self.v.shape(), k)?;
        if self.heads == 0 || !c.is_multiple_of(self.heads) {
            let (what, expected) = ("heads", format!("a divisor of {c} channels"));
            return Err(Error::Value { op: OP, what, expected, got: self.heads.to_string() });
        }
        Ok(q)
    }

    /// Floating-point operations of the two products, a multiply-add counted as two.
    pub fn flops(&self) -> u64 {
        let keys = self.k.shape().rows() / self.k.shape()[0];
        4 * self.q.shape().elements() as u64 * keys as u64
    }
}
