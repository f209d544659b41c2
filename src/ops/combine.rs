use super::{Backend, expect_shape, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "combine";

/// A linear combination of latents: `y = sum_k coefficient_k x_k`. All the arithmetic that a sampler needs; noise comes
/// in as one more term.
///
/// | tensor | shape |
/// |---|---|
/// | each of `terms`, `y` | any, but one for all; f32 |
pub struct Combine<'a, B: Backend + ?Sized> {
    /// Coefficients and latents; at least one. Summed in this order.
    pub terms: &'a [(f32, &'a B::Latent)],
}

impl<B: Backend + ?Sized> Combine<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the terms differ in shape, [`Error::Value`] if there is none or a coefficient is not finite.
    pub fn check(&self) -> Result<Shape> {
        let Some((_, first)) = self.terms.first() else {
            let (what, expected) = ("terms", "at least 1".into());
            return Err(Error::Value { op: OP, what, expected, got: "0".into() });
        };
        for (coefficient, term) in self.terms {
            expect_shape(OP, "terms", term.shape(), first.shape())?;
            if !coefficient.is_finite() {
                let (what, expected) = ("coefficient", "finite".into());
                return Err(Error::Value { op: OP, what, expected, got: coefficient.to_string() });
            }
        }
        Ok(first.shape())
    }

    /// Floating-point operations, a multiply-add counted as two.
    pub fn flops(&self) -> u64 {
        sum(self.terms.iter().map(|(_, term)| product([2, term.shape().elements()])))
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Latent) -> u64 {
        sum(self.terms.iter().map(|(_, term)| term.bytes()).chain([y.bytes()]))
    }
}
