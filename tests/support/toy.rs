//! A model whose answers are known in closed form: the posterior mean of a mixture of two Gaussians, elementwise.

use noisefork::error::Result;
use noisefork::ops::Backend;
use noisefork::reference::Reference;
use noisefork::sampling::{Branch, Denoiser};
use noisefork::tensor::Tensor;

/// Components of equal weight with means `-0.8 + c` and `0.7 + c` and deviation 0.5; `c` is what each branch of
/// guidance is conditioned on.
pub struct Toy {
    /// How often it has been asked, branches counted as one.
    pub calls: usize,
}

impl Toy {
    const MEANS: [f64; 2] = [-0.8, 0.7];
    const DEVIATION: f64 = 0.5;

    fn posterior_mean(x: f64, sigma: f64, c: f64) -> f64 {
        let (noise, own) = (sigma * sigma, Self::DEVIATION * Self::DEVIATION);
        let v = noise + own;
        let means = Self::MEANS.map(|mean| mean + c);
        let logits = means.map(|mean| -(x - mean).powi(2) / (2.0 * v));
        let top = logits[0].max(logits[1]);
        let weights = logits.map(|logit| (logit - top).exp());
        let answers = means.map(|mean| (mean * noise + x * own) / v);
        (weights[0] * answers[0] + weights[1] * answers[1]) / (weights[0] + weights[1])
    }
}

impl Denoiser<Reference<f32>> for Toy {
    fn denoise(
        &mut self,
        x: &Tensor,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [Tensor],
    ) -> Result<()> {
        self.calls += 1;
        for (branch, out) in branches.iter().zip(denoised) {
            let c = match branch {
                Branch::Positive => 0.25,
                Branch::Negative => -0.15,
            };
            for (out, &x) in out.data_mut().iter_mut().zip(x.data()) {
                *out = Self::posterior_mean(f64::from(x), sigma, c) as f32;
            }
        }
        Ok(())
    }
}

/// The same model for latents that lie elsewhere: it looks at a copy of theirs.
pub struct ToyElsewhere<'a, B> {
    pub backend: &'a B,
    pub toy: Toy,
}

impl<B: Backend> Denoiser<B> for ToyElsewhere<'_, B> {
    fn denoise(
        &mut self,
        x: &B::Latent,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [B::Latent],
    ) -> Result<()> {
        let x = self.backend.read_latent(x)?;
        let mut answers = vec![x.clone(); branches.len()];
        self.toy.denoise(&x, sigma, branches, &mut answers)?;
        answers.iter().zip(denoised).try_for_each(|(answer, out)| self.backend.write_latent(answer, out))
    }
}
