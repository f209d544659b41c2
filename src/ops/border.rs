use super::{Backend, expect_rank, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

/// Brings latents into a network: scales them, casts them, turns them channels last, and joins several along the
/// channels (an inpainting model's latent, mask and masked image).
///
/// `y[n, i, j, ..] = scale_0 x_0[n, .., i, j] ++ scale_1 x_1[n, .., i, j] ++ ..`, the whole batch `copies` times over (one for each
/// branch of guidance).
///
/// | tensor | shape |
/// |---|---|
/// | each of `parts` | `[N, C_k, H, W]` f32 |
/// | `y` | `[copies N, H, W, sum C_k]` |
pub struct Enter<'a, B: Backend + ?Sized> {
    /// The latents and what each is multiplied by.
    pub parts: &'a [(f32, &'a B::Latent)],
    /// How many times the batch is repeated; at least 1.
    pub copies: usize,
}

impl<B: Backend + ?Sized> Enter<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the parts differ in more than their channels, [`Error::Value`] for no parts or no copies.
    pub fn check(&self) -> Result<Shape> {
        const OP: &str = "enter";
        let refuse = |what, got: usize| {
            Err(Error::Value { op: OP, what, expected: "at least 1".into(), got: got.to_string() })
        };
        let Some((_, first)) = self.parts.first() else { return refuse("parts", 0) };
        if self.copies == 0 {
            return refuse("copies", 0);
        }
        let [n, _, h, w] = expect_rank(OP, "parts", first.shape(), "[N, C, H, W]")?;
        let mut channels = 0;
        for (_, part) in self.parts {
            let [part_n, c, part_h, part_w] = expect_rank(OP, "parts", part.shape(), "[N, C, H, W]")?;
            if [part_n, part_h, part_w] != [n, h, w] {
                let expected = format!("[{n}, C, {h}, {w}]");
                return Err(Error::Shape { op: OP, tensor: "parts", expected, got: part.shape() });
            }
            channels = c.saturating_add(channels);
        }
        Ok([self.copies.saturating_mul(n), h, w, channels].into())
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        sum(self.parts.iter().map(|(_, part)| part.bytes()).chain([y.bytes()]))
    }
}

/// Brings one branch of a network's output back to the border: casts it to f32 and turns it channels first.
///
/// `y[n, c, i, j] = x[branch N + n, i, j, c]`
///
/// | tensor | shape |
/// |---|---|
/// | `x` | `[branches N, H, W, C]` |
/// | `y` | `[N, C, H, W]` f32 |
pub struct Leave<'a, B: Backend + ?Sized> {
    /// The network's output.
    pub x: &'a B::Tensor,
    /// Which of the copies that [`Enter`] made.
    pub branch: usize,
    /// How many copies there are.
    pub branches: usize,
}

impl<B: Backend + ?Sized> Leave<'_, B> {
    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not `[branches N, H, W, C]`, [`Error::Value`] if there is no such branch.
    pub fn check(&self) -> Result<Shape> {
        const OP: &str = "leave";
        let [n, h, w, c] = expect_rank(OP, "x", self.x.shape(), "[branches N, H, W, C]")?;
        if self.branch >= self.branches {
            let (what, expected) = ("branch", format!("below {}", self.branches));
            return Err(Error::Value { op: OP, what, expected, got: self.branch.to_string() });
        }
        if n % self.branches != 0 {
            let expected = format!("[{} N, H, W, C]", self.branches);
            return Err(Error::Shape { op: OP, tensor: "x", expected, got: self.x.shape() });
        }
        Ok([n / self.branches, c, h, w].into())
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Latent) -> u64 {
        sum([self.x.bytes() / self.branches as u64, y.bytes()])
    }
}
