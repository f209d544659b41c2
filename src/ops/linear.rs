use super::{Activation, Backend, expect_optional, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "linear";

/// A fully connected layer over the last dimension.
///
/// `y[.., m] = activation(sum_k x[.., k] weight[m, k] + bias[m] + residual[.., m])`
///
/// | tensor | shape |
/// |---|---|
/// | `x` | `[.., K]` |
/// | `weight` | `[M, K]` |
/// | `bias` | `[M]` |
/// | `residual` | as `y` |
/// | `y` | `[.., M]`; `[.., M / 2]` with [`Activation::Geglu`], which takes no residual |
pub struct Linear<'a, B: Backend + ?Sized> {
    /// The input.
    pub x: &'a B::Tensor,
    /// The packed weight.
    pub weight: &'a B::Weight,
    /// Added to every row.
    pub bias: Option<&'a B::Tensor>,
    /// Added before the activation.
    pub residual: Option<&'a B::Tensor>,
    /// Applied last.
    pub activation: Activation,
}

impl<B: Backend + ?Sized> Linear<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above, [`Error::Value`] for GEGLU with a residual.
    pub fn check(&self) -> Result<Shape> {
        let (x, weight) = (self.x.shape(), self.weight.shape());
        let &[outputs, inputs] = &*weight else {
            return Err(Error::Shape { op: OP, tensor: "weight", expected: "[M, K]".into(), got: weight });
        };
        if x.is_empty() || x.channels() != inputs {
            return Err(Error::Shape { op: OP, tensor: "x", expected: format!("[.., {inputs}]"), got: x });
        }
        expect_optional(OP, "bias", self.bias, [outputs].into())?;
        if self.activation != Activation::Geglu {
            let y = x.with_channels(outputs);
            expect_optional(OP, "residual", self.residual, y)?;
            return Ok(y);
        }
        if outputs % 2 != 0 {
            let expected = "[M, K] with M even for GEGLU".into();
            return Err(Error::Shape { op: OP, tensor: "weight", expected, got: weight });
        }
        if self.residual.is_some() {
            let (what, expected) = ("residual", "absent with GEGLU".into());
            return Err(Error::Value { op: OP, what, expected, got: "a residual".into() });
        }
        Ok(x.with_channels(outputs / 2))
    }

    /// Floating-point operations, a multiply-add counted as two.
    pub fn flops(&self) -> u64 {
        product([2, self.x.shape().rows(), self.weight.shape().elements()])
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        let addends = [self.bias, self.residual].into_iter().flatten().map(Shaped::bytes);
        sum([self.x.bytes(), self.weight.bytes(), y.bytes()].into_iter().chain(addends))
    }
}
