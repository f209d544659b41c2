//! What a sampler asks of a model, and nothing else of it.

use crate::error::Result;
use crate::ops::Backend;

/// One of the two predictions that classifier-free guidance is made of (Ho & Salimans 2022, arXiv 2207.12598).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Branch {
    /// Under the prompt.
    Positive,
    /// Under the negative prompt, or none.
    Negative,
}

/// A model as samplers see it: the expected clean latent, given a noisy one and its noise level.
///
/// A closure `FnMut(&B::Latent, f64, Branch, &mut B::Latent) -> Result<()>` is one.
pub trait Denoiser<B: Backend> {
    /// Says which levels a run will ask for, as far as it is known, before it does: what depends on them alone can then be
    /// computed once, for all together. Other levels may be asked for all the same.
    fn announce(&mut self, _levels: &[f64]) {}

    /// For each of `branches` writes to the same place of `denoised` the expected clean latent behind `x`
    /// (`[N, C, H, W]`, unscaled) at level `sigma`. Both slices have one or two elements; without guidance only
    /// [`Branch::Positive`] is asked for.
    ///
    /// # Errors
    /// Whatever the model reports.
    fn denoise(
        &mut self,
        x: &B::Latent,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [B::Latent],
    ) -> Result<()>;
}

impl<B: Backend, F> Denoiser<B> for F
where
    F: FnMut(&B::Latent, f64, Branch, &mut B::Latent) -> Result<()>,
{
    fn denoise(
        &mut self,
        x: &B::Latent,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [B::Latent],
    ) -> Result<()> {
        branches.iter().zip(denoised).try_for_each(|(&branch, out)| self(x, sigma, branch, out))
    }
}
