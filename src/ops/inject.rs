use super::{Backend, expect_shape, product, sum};
use crate::error::{Error, Result};
use crate::rng::Draw;
use crate::tensor::{Shape, Shaped};

const OP: &str = "inject";

/// A linear combination of latents and of noise that is made where it is added: `y = sum_k coefficient_k x_k + s z`.
///
/// | tensor | shape |
/// |---|---|
/// | each of `terms`, `y` | any, but one for all; f32 |
/// | `z` | as `y`: what each [`Draw`] makes of equal parts, one after the other |
pub struct Inject<'a, B: Backend + ?Sized> {
    /// Coefficients and latents, summed in this order; there may be none.
    pub terms: &'a [(f32, &'a B::Latent)],
    /// `s` and `z`.
    pub noise: (f32, &'a [Draw]),
}

impl<B: Backend + ?Sized> Inject<'_, B> {
    /// Accepts a `y` of this shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if a term has another, [`Error::Value`] if a coefficient is not finite, or if the parts of the noise
    /// do not divide `y`.
    pub fn check(&self, y: Shape) -> Result<()> {
        let (strength, draws) = self.noise;
        for (_, term) in self.terms {
            expect_shape(OP, "terms", term.shape(), y)?;
        }
        let coefficients = self.terms.iter().map(|(coefficient, _)| *coefficient).chain([strength]);
        if let Some(bad) = coefficients.into_iter().find(|coefficient| !coefficient.is_finite()) {
            let (what, expected) = ("coefficient", "finite".into());
            return Err(Error::Value { op: OP, what, expected, got: bad.to_string() });
        }
        let parts = draws.len();
        if parts == 0 || !y.elements().is_multiple_of(parts) {
            let (what, expected) = ("parts of the noise", format!("a divisor of {}", y.elements()));
            return Err(Error::Value { op: OP, what, expected, got: parts.to_string() });
        }
        Ok(())
    }

    /// Floating-point operations of the sum, a multiply-add counted as two; making the noise is not counted.
    pub fn flops(&self, y: Shape) -> u64 {
        product([2, self.terms.len() + 1, y.elements()])
    }

    /// Bytes to read and write at least.
    pub fn bytes(&self, y: &B::Latent) -> u64 {
        sum(self.terms.iter().map(|(_, term)| term.bytes()).chain([y.bytes()]))
    }
}
