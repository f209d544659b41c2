use super::{Backend, product, sum};
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
/// | `q` | `C` columns of `[N, .., W]`: `T` tokens, the product of the extents between |
/// | `k`, `v` | `C` columns of `[N, .., W]` each: `S` tokens, likewise; every `W` may differ |
/// | `y` | as `q`'s tensor, with `C` columns |
///
/// So an image `[N, H, W, C]` is a sequence as it stands, and queries, keys and values may come from one product.
pub struct Attention<'a, B: Backend + ?Sized> {
    /// The queries.
    pub q: Columns<'a, B>,
    /// The keys.
    pub k: Columns<'a, B>,
    /// The values.
    pub v: Columns<'a, B>,
    /// `C`.
    pub channels: usize,
    /// How many heads; divides `C`.
    pub heads: usize,
}

/// Some columns of a tensor `[.., W]`. How many is for the operation to say.
pub struct Columns<'a, B: Backend + ?Sized> {
    /// All the columns.
    pub tensor: &'a B::Tensor,
    /// The first that is meant.
    pub first: usize,
}

impl<B: Backend + ?Sized> Attention<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above, [`Error::Value`] for heads that do not divide `C`.
    pub fn check(&self) -> Result<Shape> {
        let (channels, [q, k, v]) = (self.channels, [&self.q, &self.k, &self.v].map(|c| c.tensor.shape()));
        if self.heads == 0 || channels == 0 || !channels.is_multiple_of(self.heads) {
            let (what, expected) = ("heads", format!("a divisor of {channels} channels"));
            return Err(Error::Value { op: OP, what, expected, got: self.heads.to_string() });
        }
        expect_columns("q", &self.q, channels, q.len() > 1, || "N, .., ".into())?;
        let fit = k.len() > 1 && k[0] == q[0];
        expect_columns("k", &self.k, channels, fit, || format!("{}, .., ", q[0]))?;
        let tokens = || k[..k.len() - 1].iter().map(|extent| format!("{extent}, ")).collect();
        expect_columns("v", &self.v, channels, v.with_channels(0) == k.with_channels(0), tokens)?;
        Ok(q.with_channels(channels))
    }

    /// Floating-point operations of the two products, a multiply-add counted as two.
    pub fn flops(&self) -> u64 {
        let (queries, keys) = (self.q.tensor.shape().rows(), self.k.tensor.shape());
        product([4, queries, self.channels, keys.rows() / keys[0]])
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        let columns = |columns: &Columns<'_, B>| {
            let tensor = columns.tensor;
            product([tensor.shape().rows(), self.channels]).saturating_mul(tensor.dtype().bytes())
        };
        sum([columns(&self.q), columns(&self.k), columns(&self.v), y.bytes()])
    }
}

/// Refuses a tensor that lacks some of the columns, or whose other extents, said to be `tokens`, do not fit.
fn expect_columns<B: Backend + ?Sized>(
    tensor: &'static str,
    columns: &Columns<'_, B>,
    channels: usize,
    fit: bool,
    tokens: impl FnOnce() -> String,
) -> Result<()> {
    let (got, end) = (columns.tensor.shape(), columns.first.saturating_add(channels));
    if fit && !got.contains(&0) && end <= got.channels() {
        return Ok(());
    }
    let expected = format!("[{}at least {end}], none of them 0", tokens());
    Err(Error::Shape { op: OP, tensor, expected, got })
}
