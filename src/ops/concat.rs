use super::{Backend, expect_shape, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "concat";

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
    /// [`Error::Shape`] if the two differ in more than their channels.
    pub fn check(&self) -> Result<Shape> {
        let (a, b) = (self.a.shape(), self.b.shape());
        if a.is_empty() {
            return Err(Error::Shape { op: OP, tensor: "a", expected: "[.., A]".into(), got: a });
        }
        expect_shape(OP, "b", b, a.with_channels(b.channels()))?;
        Ok(a.with_channels(a.channels().saturating_add(b.channels())))
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        sum([self.a.bytes(), self.b.bytes(), y.bytes()])
    }
}
