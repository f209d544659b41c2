use super::{Backend, expect_shape};
use crate::error::Result;
use crate::tensor::{Shape, Shaped};

/// Joins two tensors along the channels: `y[.., ..A] = a`, `y[.., A..] = b`.
///
/// | tensor | shape |
/// |---|---|
/// | `a` | `[.., A]` |
/// | `b` | `[.., B]` |
/// | `y` | `[.., A + B]` |
pub struct Concat<'a, B: Backend + ?Sized> {
    /// The first channels.
    pub a: &'a B::Tensor,
    /// The channels after them.
    pub b: &'a B::Tensor,
}

impl<B: Backend + ?Sized> Concat<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`crate::error::Error::Shape`] if the two differ in more than their channels.
    pub fn check(&self) -> Result<Shape> {
        let (a, b) = (self.a.shape(), self.b.shape());
        expect_shape("concat", "b", b, a.with_channels(b.channels()))?;
        Ok(a.with_channels(a.channels() + b.channels()))
    }
}
