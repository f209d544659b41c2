//! The contract that every backend meets: one file per operation, each with its arguments, its formula, its shapes, and
//! what it costs. A backend calls [`Linear::check`] and its siblings before it touches memory, so that every backend
//! refuses the same requests with the same words.
//!
//! Inside a network tensors are channels last: `[N, H, W, C]`, which is also `[N, tokens, C]` with no transpose. At the
//! border latents are `[N, C, H, W]` in f32, as everyone's files are; the two meet in [`Backend::enter`] and
//! [`Backend::leave`].

mod activation;
mod attention;
mod blend;
mod border;
mod combine;
mod concat;
mod conv2d;
mod group_norm;
mod inject;
mod layer_norm;
mod linear;
mod rows;

pub use activation::Activation;
pub use attention::{Attention, Columns};
pub use blend::Blend;
pub use border::{Enter, Leave};
pub use combine::Combine;
pub use concat::Concat;
pub use conv2d::{Conv2d, Shift};
pub use group_norm::GroupNorm;
pub use inject::Inject;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use rows::Rows;

use crate::error::{Error, Result};
use crate::pool::Usage;
use crate::tensor::{Shape, Shaped, Tensor};

/// What computes: the reference, a CPU, a GPU.
///
/// Every operation writes all of its output, which the caller has made with [`Backend::empty`] or
/// [`Backend::latent`] and the shape that the operation's `check` returns. Inputs and outputs never overlap: Rust's
/// borrows say so.
pub trait Backend: Send + Sync {
    /// A tensor inside a network, in the backend's compute type, channels last.
    type Tensor: Shaped + Send + Sync;
    /// A latent at the border, f32, `[N, C, H, W]`.
    type Latent: Shaped + Send + Sync;
    /// The weight of a [`Linear`] or a [`Conv2d`], repacked once for the backend's own loops.
    type Weight: Shaped + Send + Sync;
    /// What a device keeps of work that is done again and again; by default nothing.
    type Tape: Default + Send + Sync;

    /// A tensor whose contents nobody may rely on.
    ///
    /// # Errors
    /// [`Error::Value`] where there is too little memory.
    fn empty(&self, shape: Shape) -> Result<Self::Tensor>;
    /// A latent whose contents nobody may rely on.
    ///
    /// # Errors
    /// As [`Backend::empty`].
    fn latent(&self, shape: Shape) -> Result<Self::Latent>;
    /// Copies a host tensor into the compute type, rounding to nearest.
    ///
    /// # Errors
    /// As [`Backend::empty`].
    fn upload(&self, host: &Tensor) -> Result<Self::Tensor>;
    /// Copies values over a latent of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ.
    fn write_latent(&self, host: &Tensor, latent: &mut Self::Latent) -> Result<()>;
    /// Copies a latent to the host.
    ///
    /// # Errors
    /// Whatever a device reports.
    fn read_latent(&self, latent: &Self::Latent) -> Result<Tensor>;
    /// Packs a linear layer's weight `[outputs, inputs]`, or a convolution's `[outputs, kernel, kernel, inputs]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight has neither form.
    fn pack(&self, weight: Tensor) -> Result<Self::Weight>;

    /// A twin for rehearsals: it checks its operations and runs none, and counts its tensors, which have no contents and are
    /// of no use to any other backend. Its latents, which are few, may be like any others, and are not counted.
    fn rehearsal(&self) -> Self
    where
        Self: Sized;
    /// The twin that a rehearsal was for: with memory of its own, allocated here and now, for as many tensors as the
    /// rehearsal had at a time.
    ///
    /// # Errors
    /// As [`Backend::empty`].
    fn stocked(&self) -> Result<Self>
    where
        Self: Sized;
    /// What its tensors take, or would take if this were no rehearsal. A backend that keeps no account says 0.
    fn usage(&self) -> Usage;
    /// Of a rehearsal: floating-point operations of all that it checked.
    fn flops(&self) -> u64;
    /// How often it has turned to a device: the kernels that it launched, and each [`Backend::repeat`] as one. Of a rehearsal,
    /// the kernels that it would have launched.
    fn launches(&self) -> u64 {
        0
    }

    /// Does `work`, which is the same each time: its operations, and their tensors. A device may keep on `tape` what it
    /// launched, and while all `inputs` lie where they lay do that again in place of `work`, at once.
    ///
    /// Other tensors than the inputs outlive the tape, or are made in `work`, on the backend that it is given. In there,
    /// nothing is copied to the host or from it, and no memory is allocated that the backend does not hold already.
    ///
    /// # Errors
    /// Those of `work`; [`Error::NotCapturable`] if it does what it must not.
    fn repeat<'a>(
        &self,
        _tape: &mut Self::Tape,
        _inputs: impl Iterator<Item = &'a Self::Tensor> + Clone,
        work: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()>
    where
        Self: Sized + 'a,
    {
        work(self)
    }

    /// Computes a [`Linear`].
    ///
    /// # Errors
    /// Those of [`Linear::check`]; so for all operations below.
    fn linear(&self, op: &Linear<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes a [`Conv2d`].
    ///
    /// # Errors
    /// Those of [`Conv2d::check`].
    fn conv2d(&self, op: &Conv2d<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes a [`GroupNorm`].
    ///
    /// # Errors
    /// Those of [`GroupNorm::check`].
    fn group_norm(&self, op: &GroupNorm<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes a [`LayerNorm`].
    ///
    /// # Errors
    /// Those of [`LayerNorm::check`].
    fn layer_norm(&self, op: &LayerNorm<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes an [`Attention`].
    ///
    /// # Errors
    /// Those of [`Attention::check`].
    fn attention(&self, op: &Attention<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes a [`Concat`].
    ///
    /// # Errors
    /// Those of [`Concat::check`].
    fn concat(&self, op: &Concat<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes a [`Rows`].
    ///
    /// # Errors
    /// Those of [`Rows::check`].
    fn rows(&self, op: &Rows<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes an [`Enter`].
    ///
    /// # Errors
    /// Those of [`Enter::check`].
    fn enter(&self, op: &Enter<'_, Self>, y: &mut Self::Tensor) -> Result<()>;
    /// Computes a [`Leave`].
    ///
    /// # Errors
    /// Those of [`Leave::check`].
    fn leave(&self, op: &Leave<'_, Self>, y: &mut Self::Latent) -> Result<()>;
    /// Computes a [`Combine`].
    ///
    /// # Errors
    /// Those of [`Combine::check`].
    fn combine(&self, op: &Combine<'_, Self>, y: &mut Self::Latent) -> Result<()>;
    /// Computes an [`Inject`].
    ///
    /// # Errors
    /// Those of [`Inject::check`].
    fn inject(&self, op: &Inject<'_, Self>, y: &mut Self::Latent) -> Result<()>;
    /// Whether noise that comes as [`Draw`](crate::rng::Draw)s is better made by [`Backend::inject`] than on the host: not
    /// where the host's own sources, which keep what they have drawn, are as near.
    const INJECTS: bool = false;
    /// Computes a [`Blend`].
    ///
    /// # Errors
    /// Those of [`Blend::check`].
    fn blend(&self, op: &Blend<'_, Self>, y: &mut Self::Latent) -> Result<()>;
}

/// What an operation costs is at most `u64::MAX`, as a shape's elements are at most `usize::MAX`.
fn product<const N: usize>(factors: [usize; N]) -> u64 {
    factors.into_iter().fold(1, |product, factor| product.saturating_mul(factor as u64))
}

fn sum(terms: impl IntoIterator<Item = u64>) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

/// Refuses `tensor` unless it has just the shape `expected`.
pub(crate) fn expect_shape(
    op: &'static str,
    tensor: &'static str,
    got: Shape,
    expected: Shape,
) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape { op, tensor, expected: expected.to_string(), got })
}

/// Refuses an absent-or-misshapen optional tensor; absent is fine.
fn expect_optional<T: Shaped>(
    op: &'static str,
    tensor: &'static str,
    got: Option<&T>,
    expected: Shape,
) -> Result<()> {
    got.map_or(Ok(()), |t| expect_shape(op, tensor, t.shape(), expected))
}

/// Refuses `tensor` unless it has `RANK` dimensions, none of them zero; returns its extents.
fn expect_rank<const RANK: usize>(
    op: &'static str,
    tensor: &'static str,
    got: Shape,
    expected: &str,
) -> Result<[usize; RANK]> {
    match <[usize; RANK]>::try_from(&*got) {
        Ok(extents) if !extents.contains(&0) => Ok(extents),
        _ => Err(Error::Shape { op, tensor, expected: format!("{expected}, none of them 0"), got }),
    }
}

/// Refuses a weight that is neither a linear layer's nor a convolution's; for [`Backend::pack`].
pub(crate) fn expect_weight(got: Shape) -> Result<()> {
    match *got {
        [_, _] => Ok(()),
        [_, kernel_h, kernel_w, _] if kernel_h == kernel_w && kernel_h % 2 == 1 => Ok(()),
        _ => {
            let expected = "[M, K] or [O, kernel, kernel, C] with kernel odd".into();
            Err(Error::Shape { op: "pack", tensor: "weight", expected, got })
        }
    }
}
