use super::{Activation, Backend, expect_optional, expect_rank, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "conv2d";

/// A square 2-D convolution (cross-correlation, as networks mean it) with zero padding `(kernel - 1) / 2`.
///
/// `y[n, i, j, o] = activation(sum_{u, v, c} x'[n, i s + u - p, j s + v - p, c] weight[o, u, v, c]
///                  + bias[o] + shift[n, o] + residual[n, i, j, o])`
///
/// where `s` is the stride, `p` the padding, and `x'` is `x`, or with `upsample` nearest-neighbour upsampling of it:
/// `x'[n, i, j, c] = x[n, i / 2, j / 2, c]` for all `i < H'`, `j < W'`, the halves rounded down.
///
/// | tensor | shape |
/// |---|---|
/// | `x` | `[N, H, W, C]` |
/// | `weight` | `[O, kernel, kernel, C]`, kernel odd |
/// | `bias` | `[O]` |
/// | `shift` | `[N, O]`, out of the table of a [`Shift`] |
/// | `residual` | as `y` |
/// | `y` | `[N, ceil(H' / s), ceil(W' / s), O]`, `H'` and `W'` being those of `x'` |
pub struct Conv2d<'a, B: Backend + ?Sized> {
    /// The input.
    pub x: &'a B::Tensor,
    /// The packed weight.
    pub weight: &'a B::Weight,
    /// Added to every pixel.
    pub bias: Option<&'a B::Tensor>,
    /// Added to every pixel of item `n`.
    pub shift: Option<Shift<'a, B>>,
    /// Added before the activation.
    pub residual: Option<&'a B::Tensor>,
    /// Applied last; any but GEGLU.
    pub activation: Activation,
    /// 1 or 2.
    pub stride: usize,
    /// `H'` and `W'`, if `x` is upsampled first: each twice that of `x`, or one less, as a layer needs that undoes the
    /// halving of an odd size.
    pub upsample: Option<[usize; 2]>,
}

/// What a [`Conv2d`] adds to the pixels of each item: the projection of its time embedding. It is part of a table that has
/// a row for each item, and in its columns the projections for all convolutions of a network:
/// `shift[n, o] = table[n, first + o]`.
pub struct Shift<'a, B: Backend + ?Sized> {
    /// The whole table, `[N, W]`.
    pub table: &'a B::Tensor,
    /// The first of `O` columns.
    pub first: usize,
}

impl<B: Backend + ?Sized> Shift<'_, B> {
    fn check(&self, items: usize, outputs: usize) -> Result<()> {
        let (table, end) = (self.table.shape(), self.first.saturating_add(outputs));
        match *table {
            [rows, width] if rows == items && width >= end => Ok(()),
            _ => {
                let expected = format!("[{items}, at least {end}]");
                Err(Error::Shape { op: OP, tensor: "shift", expected, got: table })
            }
        }
    }
}

impl<B: Backend + ?Sized> Conv2d<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above, [`Error::Value`] for another stride or GEGLU.
    pub fn check(&self) -> Result<Shape> {
        let [n, h, w, c] = expect_rank(OP, "x", self.x.shape(), "[N, H, W, C]")?;
        let weight = self.weight.shape();
        let [o, kernel, kernel_w, c_weight] = expect_rank(OP, "weight", weight, "[O, kernel, kernel, C]")?;
        if kernel != kernel_w || kernel % 2 == 0 || c_weight != c {
            let expected = format!("[O, kernel, kernel, {c}] with kernel odd");
            return Err(Error::Shape { op: OP, tensor: "weight", expected, got: weight });
        }
        if !matches!(self.stride, 1 | 2) {
            let (what, expected, got) = ("stride", "1 or 2".into(), self.stride.to_string());
            return Err(Error::Value { op: OP, what, expected, got });
        }
        if self.activation == Activation::Geglu {
            let (what, expected) = ("activation", "elementwise".into());
            return Err(Error::Value { op: OP, what, expected, got: "GEGLU".into() });
        }
        let [doubled_h, doubled_w] = self.upsample.unwrap_or([h, w]);
        if self.upsample.is_some() && [doubled_h.div_ceil(2), doubled_w.div_ceil(2)] != [h, w] {
            let (what, expected) = ("upsample", format!("twice {h} by {w}, or one less"));
            return Err(Error::Value { op: OP, what, expected, got: format!("{doubled_h} by {doubled_w}") });
        }
        let y = [n, doubled_h.div_ceil(self.stride), doubled_w.div_ceil(self.stride), o].into();
        expect_optional(OP, "bias", self.bias, [o].into())?;
        self.shift.as_ref().map_or(Ok(()), |shift| shift.check(n, o))?;
        expect_optional(OP, "residual", self.residual, y)?;
        Ok(y)
    }

    /// Floating-point operations of the direct method, padding included, a multiply-add counted as two.
    pub fn flops(&self) -> u64 {
        let x = self.x.shape();
        let [height, width] = self.upsample.unwrap_or([x[1], x[2]]);
        let [height, width] = [height, width].map(|extent| extent.div_ceil(self.stride));
        product([2, x[0], height, width, self.weight.shape().elements()])
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        let (items, outputs) = (y.shape()[0], y.shape().channels());
        let shift =
            |shift: &Shift<'_, B>| product([items, outputs]).saturating_mul(shift.table.dtype().bytes());
        let addends = [self.bias, self.residual].into_iter().flatten().map(Shaped::bytes);
        let addends = addends.chain(self.shift.as_ref().map(shift));
        sum([self.x.bytes(), self.weight.bytes(), y.bytes()].into_iter().chain(addends))
    }
}
