use super::{Backend, expect_rank, expect_shape, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "blend";

/// Chooses between two latents by a mask: `y = mask a + (1 - mask) b`.
///
/// | tensor | shape |
/// |---|---|
/// | `a`, `b`, `y` | `[N, C, H, W]` f32 |
/// | `mask` | `[N or 1, C or 1, H, W]` f32, in `[0, 1]`; a 1 is broadcast |
pub struct Blend<'a, B: Backend + ?Sized> {
    /// Where the mask is 1.
    pub a: &'a B::Latent,
    /// Where the mask is 0.
    pub b: &'a B::Latent,
    /// The mask.
    pub mask: &'a B::Latent,
}

impl<B: Backend + ?Sized> Blend<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors do not fit the table above.
    pub fn check(&self) -> Result<Shape> {
        let [n, c, h, w] = expect_rank(OP, "a", self.a.shape(), "[N, C, H, W]")?;
        expect_shape(OP, "b", self.b.shape(), self.a.shape())?;
        let mask = self.mask.shape();
        match *mask {
            [mask_n, mask_c, mask_h, mask_w]
                if [1, n].contains(&mask_n) && [1, c].contains(&mask_c) && [mask_h, mask_w] == [h, w] => {}
            _ => {
                let expected = format!("[{n} or 1, {c} or 1, {h}, {w}]");
                return Err(Error::Shape { op: OP, tensor: "mask", expected, got: mask });
            }
        }
        Ok(self.a.shape())
    }

    /// Floating-point operations.
    pub fn flops(&self) -> u64 {
        product([4, self.a.shape().elements()])
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Latent) -> u64 {
        sum([self.a.bytes(), self.b.bytes(), self.mask.bytes(), y.bytes()])
    }
}
