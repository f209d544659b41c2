//! One run of a sampler over part of a schedule, as ComfyUI 0.3.64's KSampler (Advanced) has it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::denoiser::Denoiser;
use super::model_sampling::ModelSampling;
use super::noise::{Noise, Part, Profile, part_of};
use super::program::Program;
use super::run::{Inpaint, Observer, Run, expect_finite};
use super::samplers::NoiseKind;
use super::{Sampler, Scheduler};
use crate::error::{Error, Result};
use crate::ops::{Backend, Combine};
use crate::rng::Mt19937;
use crate::tensor::{Shaped, Tensor};

const OP: &str = "ksampler";

/// A model with all that sampling must know of it.
pub struct Model<'a, B: Backend, D> {
    /// What computes.
    pub backend: &'a B,
    /// What predicts.
    pub denoiser: D,
    /// The noise levels it was trained on.
    pub sampling: ModelSampling,
    /// What a latent is multiplied by before noise is added: 0.18215 for SD 1.x and 2.x, 0.13025 for SDXL.
    pub latent_scale: f64,
}

/// The latents that a run starts from.
#[derive(Debug, Clone, Copy)]
pub struct LatentImage<'a> {
    /// `[N, C, H, W]`, in the autoencoder's scale; zeros for a picture from nothing but noise.
    pub samples: &'a Tensor,
    /// `[N or 1, C or 1, H, W]` within `[0, 1]`: 1 where the run may paint, 0 where `samples` stay.
    pub noise_mask: Option<&'a Tensor>,
    /// Which draw of the seed's stream each item starts from: ComfyUI's way to make items of a batch again. What a
    /// sampler draws later is not theirs; [`LatentImage::part`] is for that.
    pub batch_index: Option<&'a [usize]>,
    /// Which items of a larger batch these are; they come out with the bits that they have in it.
    pub part: Option<Part>,
}

impl<'a> From<&'a Tensor> for LatentImage<'a> {
    fn from(samples: &'a Tensor) -> Self {
        LatentImage { samples, noise_mask: None, batch_index: None, part: None }
    }
}

impl LatentImage<'_> {
    /// Refuses latents that no run can start from; returns the number of items, of the whole batch, and of values in one.
    pub(super) fn check(&self) -> Result<(usize, usize, usize)> {
        let shape = self.samples.shape();
        if shape.len() != 4 || shape.contains(&0) {
            let expected = "[N, C, H, W], none of them 0".into();
            return Err(Error::Shape { op: OP, tensor: "samples", expected, got: shape });
        }
        expect_finite(OP, "latent samples", self.samples)?;
        let items = shape[0];
        let refuse =
            |expected: String, got: String| Err(Error::Value { op: OP, what: "batch_index", expected, got });
        match self.batch_index {
            Some(index) if index.len() != items => {
                return refuse(format!("{items} indices"), index.len().to_string());
            }
            Some(_) if self.part.is_some() => {
                return refuse("absent for part of a batch".into(), "both".into());
            }
            _ => {}
        }
        let part = self.part.unwrap_or(Part::whole(items));
        part.check(items)?;
        Ok((items, part.of, shape.elements() / items))
    }

    /// Some of the items, each with its mask.
    pub(super) fn items(&self, items: Range<usize>) -> Result<(Tensor, Option<Tensor>)> {
        let mask = match self.noise_mask {
            Some(mask) if mask.shape().first().is_some_and(|&masks| masks > 1) => {
                Some(mask.items(items.clone())?)
            }
            mask => mask.cloned(),
        };
        Ok((self.samples.items(items)?, mask))
    }
}

/// The settings of a run. Fields and meanings are those of ComfyUI's KSampler (Advanced).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KSampler {
    /// Whose noise it is.
    pub profile: Profile,
    /// Seeds the initial noise and the sampler's own.
    pub seed: u64,
    /// Steps of the whole schedule.
    pub steps: usize,
    /// The strength of classifier-free guidance; at 1 the negative branch is not asked for.
    pub cfg: f64,
    /// The sampler.
    pub sampler: Sampler,
    /// The schedule.
    pub scheduler: Scheduler,
    /// How much of the picture is made anew, `[0, 1]`: a schedule of `steps / denoise` steps is entered for its last
    /// `steps`. 0 returns the latents as they came.
    pub denoise: f64,
    /// The first step that is run.
    pub start_step: usize,
    /// The step before which the run ends; `None` for the last.
    pub last_step: Option<usize>,
    /// Whether a run that ends early goes to level 0 with its last step, or leaves its noise in.
    pub force_full_denoise: bool,
    /// Whether the latents are taken as they are, noise included.
    pub disable_noise: bool,
}

/// What a run will do, known before it starts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The levels it visits.
    sigmas: Vec<f32>,
    /// The steps between them.
    program: Program,
}

impl KSampler {
    /// A whole run: denoise 1, from the first step to the last, with noise.
    pub fn new(seed: u64, steps: usize, cfg: f64, sampler: Sampler, scheduler: Scheduler) -> Self {
        KSampler {
            profile: Profile::default(),
            seed,
            steps,
            cfg,
            sampler,
            scheduler,
            denoise: 1.0,
            start_step: 0,
            last_step: None,
            force_full_denoise: false,
            disable_noise: false,
        }
    }

    /// The levels and steps of the run; `None` if the window holds no step, and the latents come back as they are.
    ///
    /// # Errors
    /// [`Error::Value`] for settings outside their range.
    pub fn plan(&self, sampling: &ModelSampling) -> Result<Option<Plan>> {
        if !self.cfg.is_finite() {
            let (what, expected) = ("cfg", "finite".into());
            return Err(Error::Value { op: OP, what, expected, got: self.cfg.to_string() });
        }
        let mut sigmas = self.schedule(sampling)?;
        self.sampler.expect_steps(self.steps)?;
        if let Some(last_step) =
            self.last_step.filter(|&last_step| last_step < sigmas.len().saturating_sub(1))
        {
            sigmas.truncate(last_step + 1);
            if self.force_full_denoise
                && let Some(last) = sigmas.last_mut()
            {
                *last = 0.0;
            }
        }
        if self.start_step >= sigmas.len().saturating_sub(1) {
            return Ok(None);
        }
        sigmas.drain(..self.start_step);
        Plan::along(sigmas, &self.sampler, sampling).map(Some)
    }

    /// The whole schedule, after `denoise` has chosen its part.
    fn schedule(&self, sampling: &ModelSampling) -> Result<Vec<f32>> {
        const ALL: f64 = 0.9999;
        if !(0.0..=1.0).contains(&self.denoise) {
            let (what, expected) = ("denoise", "within [0, 1]".into());
            return Err(Error::Value { op: OP, what, expected, got: self.denoise.to_string() });
        }
        if self.denoise > ALL {
            return self.levels(sampling, self.steps);
        }
        if self.denoise == 0.0 {
            return Ok(Vec::new());
        }
        let mut sigmas = self.levels(sampling, (self.steps as f64 / self.denoise) as usize)?;
        sigmas.drain(..sigmas.len().saturating_sub(self.steps + 1));
        Ok(sigmas)
    }

    /// The levels of `steps` steps, for the sampler at hand.
    fn levels(&self, sampling: &ModelSampling, steps: usize) -> Result<Vec<f32>> {
        let dropped = usize::from(self.sampler.properties().drops_penultimate);
        let mut sigmas = self.scheduler.sigmas(sampling, steps.saturating_add(dropped))?;
        self.sampler.drop_penultimate(&mut sigmas);
        Ok(sigmas)
    }

    /// Runs: latents in, latents out, `observe` called in every step.
    ///
    /// # Errors
    /// Those of [`KSampler::start`] and of [`Run::finish`].
    pub fn sample<'l, B: Backend, D: Denoiser<B>>(
        &self,
        model: &mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        let latent = latent.into();
        match self.start(model, latent)? {
            Some(run) => run.finish(observe),
            None => Ok(latent.samples.clone()),
        }
    }

    /// The run before its first step; `None` if the window holds no step, and the latents are to come back as they are.
    ///
    /// # Errors
    /// [`Error::Value`] and [`Error::Shape`] for settings and latents outside their range, and what the backend reports.
    pub fn start<'m, 'l, B: Backend, D: Denoiser<B>>(
        &self,
        model: &'m mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
    ) -> Result<Option<Run<'m, B, D>>> {
        let latent = latent.into();
        latent.check()?;
        let Some(plan) = self.plan(&model.sampling)? else { return Ok(None) };
        self.start_along(plan, model, latent, &mut *self.profile.noise(self.seed)).map(Some)
    }

    /// As [`KSampler::start`], along levels and with noise that the caller brings: of the settings, those that make the
    /// plan and the noise do not count, but for one: the noise under which [`ddim`](super::samplers::Ddim) shows what a
    /// mask keeps is torch's of the seed after `seed`.
    ///
    /// # Errors
    /// Those of [`KSampler::start`], and what `noise` reports.
    pub fn start_along<'m, 'l, B: Backend, D: Denoiser<B>>(
        &self,
        plan: Plan,
        model: &'m mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
        noise: &mut dyn Noise,
    ) -> Result<Run<'m, B, D>> {
        let latent = latent.into();
        let (items, batch, item) = latent.check()?;
        let Plan { sigmas, program } = plan;
        let (first, last) = (f64::from(sigmas[0]), f64::from(sigmas[sigmas.len() - 1]));
        let properties = program.source().sampler.properties();
        let (backend, sampling) = (model.backend, &model.sampling);
        let shape = latent.samples.shape();
        let (start_of_part, elements) = (latent.part.map_or(0, |part| part.first * item), batch * item);

        let mut drawn = Tensor::zeros(shape);
        if !self.disable_noise {
            let mut whole = Tensor::try_zeros([batch, item])?;
            noise.initial(item, latent.batch_index, whole.data_mut())?;
            drawn.data_mut().copy_from_slice(&whole.data()[start_of_part..][..items * item]);
        }
        let drawn = upload(backend, &drawn)?;
        let raw = upload(backend, latent.samples)?;
        let mut kept = backend.latent(shape)?;
        backend.combine(&Combine { terms: &[(model.latent_scale as f32, &raw)] }, &mut kept)?;
        let mut start = raw;
        let (of_noise, of_latent) = sampling.initial_scaling(first);
        let terms = [(of_noise as f32, &drawn), (of_latent as f32, &kept)];
        backend.combine(&Combine { terms: &terms }, &mut start)?;

        let inpaint = match latent.noise_mask {
            None => None,
            Some(mask) => {
                expect_mask(mask)?;
                let (mask, mixed) = (upload(backend, mask)?, backend.latent(shape)?);
                let noise = if properties.fresh_mask_noise {
                    let mut fresh = Tensor::try_zeros([batch, item])?;
                    Mt19937::new(self.seed.wrapping_add(1)).randn(fresh.data_mut());
                    let fresh = fresh.data()[start_of_part..][..items * item].to_vec();
                    upload(backend, &Tensor::new(shape, fresh)?)?
                } else {
                    drawn
                };
                Some(Inpaint { mask, kept, noise, mixed, prediction: sampling.prediction() })
            }
        };
        let kind = if program.draws_noise() { properties.noise } else { NoiseKind::None };
        let source = noise.steps(kind, &sigmas, batch, item)?;
        let source = part_of(source, start_of_part, items * item, elements)?;
        let scale = model.latent_scale * sampling.latent_share(last);
        let run = Run::new(backend, &mut model.denoiser, program, start, self.cfg, source)?;
        Ok(run.inpainting(inpaint).scaled(1.0 / scale))
    }
}

impl Plan {
    /// The levels it visits.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The steps between them.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// A run of `sampler` along levels of the caller's: falling, finite, not negative, at least two.
    ///
    /// # Errors
    /// Those of [`Sampler::program`].
    pub fn along(sigmas: Vec<f32>, sampler: &Sampler, sampling: &ModelSampling) -> Result<Self> {
        let program = sampler.program(sampling, &sigmas)?;
        Ok(Plan { sigmas, program })
    }
}

pub(super) fn upload<B: Backend>(backend: &B, host: &Tensor) -> Result<B::Latent> {
    let mut latent = backend.latent(host.shape())?;
    backend.write_latent(host, &mut latent)?;
    Ok(latent)
}

pub(super) fn expect_mask(mask: &Tensor) -> Result<()> {
    match mask.data().iter().find(|value| !(0.0..=1.0).contains(*value)) {
        None => Ok(()),
        Some(value) => {
            let (what, expected) = ("noise_mask", "within [0, 1]".into());
            Err(Error::Value { op: OP, what, expected, got: value.to_string() })
        }
    }
}
