use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::expect_strength;
use crate::error::{Error, Result};
use crate::ops::{Backend, Blend};
use crate::rng::Mt19937;
use crate::sampling::ksampler::{expect_mask, upload};
use crate::sampling::{Denoiser, KSampler, LatentImage, Model, Observer, Profile, Sampler, Scheduler};
use crate::tensor::{Shaped, Tensor};

const OP: &str = "variations with noise";

/// The settings of the node *KSampler Variations with Noise Injection* of ComfyUI_essentials (33ff89f), by its names: each
/// item starts from noise that lies between that of the main seed and that of its own draw under the variation seed.
/// Unlike there, latents may have any number of channels, and noises that point the same way are mixed, not divided by 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariationsWithNoise {
    /// Whose noise the sampler draws; what items start from is torch's on the CPU.
    pub profile: Profile,
    /// Seeds the noise that all items have in common, and the sampler.
    pub main_seed: u64,
    /// Steps of the whole schedule.
    pub steps: usize,
    /// The strength of guidance.
    pub cfg: f64,
    /// The sampler.
    pub sampler: Sampler,
    /// The schedule.
    pub scheduler: Scheduler,
    /// How far towards each item's own noise, `[0, 1]`.
    pub variation_strength: f64,
    /// Seeds the items' own noise; one more is used if it is the main seed.
    pub variation_seed: u64,
    /// How much of the picture is made anew, `[0, 1]`: the first steps are left out.
    pub denoise: f64,
}

impl VariationsWithNoise {
    /// Runs every item of `latent`.
    ///
    /// # Errors
    /// Those of [`KSampler::sample`], and [`Error::Value`] for settings outside their range.
    pub fn sample<'l, B: Backend, D: Denoiser<B>>(
        &self,
        model: &mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        let latent = latent.into();
        let (_, batch, item) = latent.check()?;
        expect_strength(self.variation_strength)?;
        // Before it is blended with, or what is wrong with it would be said of the latents.
        latent.noise_mask.map_or(Ok(()), expect_mask)?;
        let run = self.run()?;
        let start_step = run.start_step;
        let level = match self.whole().plan(&model.sampling)? {
            Some(plan) => {
                let at =
                    |step: usize| plan.sigmas().get(step).or(plan.sigmas().last()).copied().unwrap_or(0.0);
                f64::from(at(start_step)) - f64::from(at(self.steps))
            }
            None => 0.0,
        };
        let mut samples = latent.samples.clone();
        let first = latent.part.map_or(0, |part| part.first);
        self.inject(&mut samples, first..batch, item, level / model.latent_scale);
        let mask = match latent.noise_mask {
            Some(mask) => {
                samples = kept(model.backend, &samples, latent.samples, mask)?;
                Some(dilated(mask))
            }
            None => None,
        };
        run.sample(model, LatentImage { samples: &samples, noise_mask: mask.as_ref(), ..latent }, observe)
    }

    /// The run once the noise is in the latents.
    pub(in crate::sampling) fn run(&self) -> Result<KSampler> {
        if !(0.0..=1.0).contains(&self.denoise) {
            let (what, expected) = ("denoise", "within [0, 1]".into());
            return Err(Error::Value { op: OP, what, expected, got: self.denoise.to_string() });
        }
        Ok(KSampler {
            start_step: (self.steps as f64 - self.steps as f64 * self.denoise).round_ties_even() as usize,
            last_step: Some(self.steps),
            force_full_denoise: true,
            disable_noise: true,
            ..self.whole()
        })
    }

    /// The run from the first step to the last.
    fn whole(&self) -> KSampler {
        let whole = KSampler::new(self.main_seed, self.steps, self.cfg, self.sampler.clone(), self.scheduler);
        KSampler { profile: self.profile, ..whole }
    }

    /// Adds to each item its noise, `level` strong. `batch` leads from the first of `samples` to the end of the batch, all
    /// of which is drawn: the last values of a draw depend on its length.
    fn inject(&self, samples: &mut Tensor, batch: Range<usize>, item: usize, level: f64) {
        let same = u64::from(self.variation_seed == self.main_seed);
        let mut base = vec![0.0; item];
        Mt19937::new(self.main_seed).randn(&mut base);
        let mut own = vec![0.0; batch.end * item];
        Mt19937::new(self.variation_seed.wrapping_add(same)).randn(&mut own);
        let own = &own[batch.start * item..];
        for (samples, own) in samples.data_mut().chunks_exact_mut(item).zip(own.chunks_exact(item)) {
            let (of_base, of_own) = slerp_weights(self.variation_strength, &base, own);
            for ((sample, &base), &own) in samples.iter_mut().zip(&base).zip(own) {
                let noise = of_base * f64::from(base) + of_own * f64::from(own);
                *sample = (f64::from(*sample) + noise * level) as f32;
            }
        }
    }
}

/// Spherical interpolation (Shoemake 1985): what two vectors are multiplied by to get the one `t` of the way from `low` to
/// `high` along the arc between them.
fn slerp_weights(t: f64, low: &[f32], high: &[f32]) -> (f64, f64) {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let cosine = dot(low, high) / (dot(low, low) * dot(high, high)).sqrt();
    let angle = cosine.clamp(-1.0, 1.0).acos();
    let sine = angle.sin();
    if sine > 1e-6 { (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine) } else { (1.0 - t, t) }
}

/// The samples where the mask is 1, the latents that came in where it is 0.
fn kept<B: Backend>(backend: &B, samples: &Tensor, latents: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (a, b, mask) = (upload(backend, samples)?, upload(backend, latents)?, upload(backend, mask)?);
    let mut blended = backend.latent(samples.shape())?;
    backend.blend(&Blend { a: &a, b: &b, mask: &mask }, &mut blended)?;
    backend.read_latent(&blended)
}

/// The mask grown by five pixels along rows and columns, so that the run paints over the border of what was kept.
fn dilated(mask: &Tensor) -> Tensor {
    const PIXELS: usize = 5;
    let mut mask = mask.clone();
    let &[_, _, h, w] = &*mask.shape() else { return mask };
    for _ in 0..PIXELS {
        let before = mask.clone();
        for (plane, before) in mask.data_mut().chunks_exact_mut(h * w).zip(before.data().chunks_exact(h * w))
        {
            for (at, value) in plane.iter_mut().enumerate() {
                let (i, j) = (at / w, at % w);
                let beside = [
                    (i > 0).then(|| before[at - w]),
                    (i + 1 < h).then(|| before[at + w]),
                    (j > 0).then(|| before[at - 1]),
                    (j + 1 < w).then(|| before[at + 1]),
                ];
                *value = beside.into_iter().flatten().fold(*value, f32::max);
            }
        }
    }
    mask
}
