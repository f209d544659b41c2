//! How a picture came to be, and others made from it at any point of the way.
//!
//! A [`Lineage`] is a run in segments along one schedule, each under a sampler and a seed of its own. A variation is a
//! lineage that leaves another's way at some level; a variation of a variation leaves that one's. All that two lineages
//! have in common is run once, and what differs only in its seeds is run as one batch. An item's noise depends on nothing
//! but its own seeds, so that each can be made again alone, bit for bit.
//!
//! What the node of [`variations`](super::variations) does silently wrong cannot be said here: segments meet at a level of
//! one schedule, a mask keeps the latents that came in, and a fork that would change nothing is refused.

use serde::{Deserialize, Serialize};

use super::denoiser::Denoiser;
use super::ksampler::{LatentImage, Model, expect_mask, upload};
use super::model_sampling::ModelSampling;
use super::noise::{Profile, per_item};
use super::run::{Inpaint, Observer, Run, expect_finite};
use super::samplers::NoiseKind;
use super::variations::expect_strength;
use super::{Sampler, Scheduler};
use crate::error::{Error, Result};
use crate::ops::{Backend, Combine};
use crate::tensor::{Shaped, Tensor};

const OP: &str = "lineage";

/// Some steps of a lineage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// What runs them.
    pub sampler: Sampler,
    /// Seeds their noise.
    pub seed: u64,
    /// The strength of guidance.
    pub cfg: f64,
    /// The step before which they end; `None` in the last segment, which goes to the end.
    pub until: Option<usize>,
}

/// How one picture came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Whose noise it is.
    pub profile: Profile,
    /// Seeds the noise that it starts from.
    pub noise_seed: u64,
    /// The schedule of all segments.
    pub scheduler: Scheduler,
    /// Steps of the schedule.
    pub steps: usize,
    /// In order; at least one.
    pub segments: Vec<Segment>,
}

/// Where a variation leaves the way of another picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Fork {
    /// So that it has this share of the steps to itself, `[0, 1]`, to the nearest step. Above 0 at least two, for the last
    /// one adds no noise, or as many as its sampler wants, and one more for a sampler that leaves one out.
    Strength(f64),
    /// At the level of the schedule nearest to this one: the same strength to the eye under every schedule. As many steps
    /// are left as for a strength above 0.
    Sigma(f64),
}

impl Lineage {
    /// A picture made in one run. Ancestral noise is not the initial noise again
    /// ([`Profile::ComfyuiPost11528`]).
    pub fn new(noise_seed: u64, steps: usize, cfg: f64, sampler: Sampler, scheduler: Scheduler) -> Self {
        let segments = vec![Segment { sampler, seed: noise_seed, cfg, until: None }];
        Lineage { profile: Profile::ComfyuiPost11528, noise_seed, scheduler, steps, segments }
    }

    /// A variation: this way as far as the fork, then another sampler's under another seed. At strength 0 it is this
    /// picture.
    ///
    /// # Errors
    /// [`Error::Value`] for a fork outside its range, for a schedule too short for one, and for a sampler that adds no
    /// noise in the steps that are left, as `sa_solver` does not in the last of them: there would be no variation. Also for
    /// segments that [`Forks::sample`] refuses, such as those that the fork leaves too few steps.
    pub fn fork(
        &self,
        sampling: &ModelSampling,
        at: Fork,
        sampler: Sampler,
        seed: u64,
        cfg: f64,
    ) -> Result<Lineage> {
        let levels = self.scheduler.sigmas(sampling, self.steps)?;
        let Some(step) = at.step(&levels, &sampler)? else { return Ok(self.clone()) };
        let mut segments = Vec::new();
        let mut from = 0;
        for segment in &self.segments {
            if from >= step {
                break;
            }
            from = segment.until.unwrap_or(step).min(step);
            segments.push(Segment { until: Some(from), ..segment.clone() });
        }
        segments.push(Segment { sampler: sampler.clone(), seed, cfg, until: None });
        let fork = Lineage { segments, ..self.clone() };
        fork.check(&levels)?;
        let own = fork.levels(&levels).last().unwrap_or_default();
        let adds_noise = sampler.properties().noise != NoiseKind::None;
        if adds_noise && sampler.program(sampling, &own)?.varies() {
            return Ok(fork);
        }
        let (what, expected) = ("sampler", "one that adds noise, or there is no variation".into());
        Err(Error::Value { op: OP, what, expected, got: format!("{sampler} from level {}", own[0]) })
    }

    /// Refuses segments that do not lead from the first step to the last, and those too short for their samplers.
    fn check(&self, levels: &[f32]) -> Result<()> {
        let refuse = |what, expected: &str, got: String| {
            Err(Error::Value { op: OP, what, expected: expected.to_owned(), got })
        };
        let Some((last, earlier)) = self.segments.split_last() else {
            return refuse("segments", "at least 1", "0".into());
        };
        if let Some(until) = last.until {
            return refuse("until", "absent in the last segment", until.to_string());
        }
        let mut from = 0;
        for segment in earlier {
            match segment.until {
                Some(until) if from < until && until < levels.len() - 1 => from = until,
                until => return refuse("until", "rising, within the schedule", format!("{until:?}")),
            }
        }
        if let Some(segment) = self.segments.iter().find(|segment| !segment.cfg.is_finite()) {
            return refuse("cfg", "finite", segment.cfg.to_string());
        }
        let mut segments = self.segments.iter().zip(self.levels(levels));
        segments.try_for_each(|(segment, levels)| segment.sampler.expect_steps(levels.len() - 1))
    }

    /// The levels of `schedule` that each segment visits.
    fn levels<'l>(&'l self, schedule: &'l [f32]) -> impl Iterator<Item = Vec<f32>> + 'l {
        let end = schedule.len() - 1;
        let mut from = 0;
        self.segments.iter().map(move |segment| {
            let until = segment.until.unwrap_or(end);
            let mut levels = schedule[from..=until].to_vec();
            if until == end {
                segment.sampler.drop_penultimate(&mut levels);
            }
            from = until;
            levels
        })
    }

    /// The first `segments` of them.
    fn prefix(&self, segments: usize) -> Lineage {
        Lineage { segments: self.segments[..segments].to_vec(), ..self.clone() }
    }

    /// Whether the last segments of the two run along the same levels under the same settings but their seeds.
    fn runs_beside(&self, other: &Lineage) -> bool {
        let key = |l: &Lineage| {
            let last = l.segments.last().map(|s| (s.sampler.clone(), s.cfg.to_bits(), s.until));
            (l.profile, l.scheduler, l.steps, l.start_of_last(), last)
        };
        key(self) == key(other)
    }

    /// The levels that the last segment visits.
    fn levels_of_last(&self, sampling: &ModelSampling) -> Result<Vec<f32>> {
        let schedule = self.scheduler.sigmas(sampling, self.steps)?;
        Ok(self.levels(&schedule).last().unwrap_or_default())
    }

    /// The step that the last segment starts from.
    fn start_of_last(&self) -> usize {
        self.segments.iter().rev().nth(1).and_then(|segment| segment.until).unwrap_or(0)
    }
}

impl Fork {
    /// The step at which a variation by `sampler` begins; `None` for one that changes nothing.
    fn step(self, levels: &[f32], sampler: &Sampler) -> Result<Option<usize>> {
        let steps = levels.len() - 1;
        let step = match self {
            Fork::Strength(strength) => {
                expect_strength(strength)?;
                if strength == 0.0 {
                    return Ok(None);
                }
                (steps as f64 * (1.0 - strength)).round() as usize
            }
            Fork::Sigma(sigma) => {
                if !(sigma.is_finite() && sigma > 0.0) {
                    let (what, expected) = ("fork sigma", "positive and finite".into());
                    return Err(Error::Value { op: OP, what, expected, got: sigma.to_string() });
                }
                let distance = |step: usize| (f64::from(levels[step]) - sigma).abs();
                (0..=steps).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
            }
        };
        let properties = sampler.properties();
        let fewest = properties.fewest_steps.max(2) + usize::from(properties.drops_penultimate);
        match steps.checked_sub(fewest) {
            Some(last_fork) => Ok(Some(step.min(last_fork))),
            None => {
                let (what, expected) = ("steps", format!("at least {fewest}, or no variation can add noise"));
                Err(Error::Value { op: OP, what, expected, got: steps.to_string() })
            }
        }
    }
}

/// Pictures in the making: where lineages forked is kept, so that more of them cost only what is their own.
pub struct Forks<'l> {
    latent: LatentImage<'l>,
    /// The noisy latents, in the model's scale, at the end of each way that was run.
    reached: Vec<(Lineage, Tensor)>,
}

impl<'l> Forks<'l> {
    /// Pictures that start from one latent, `[1, C, H, W]`; a mask keeps it where it is 0.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than one item, for part of a batch and for a batch index; [`Error::Shape`] and
    /// [`Error::NotFinite`] for a latent that no run can start from; [`Error::Value`] for a mask outside of `[0, 1]`. A
    /// mask of another size than the latent's is refused by [`Forks::sample`] with [`Error::Shape`].
    pub fn new(latent: impl Into<LatentImage<'l>>) -> Result<Self> {
        let latent = latent.into();
        let (items, ..) = latent.check()?;
        if items != 1 || latent.part.is_some() || latent.batch_index.is_some() {
            let expected = "one item, [1, C, H, W], that is all of its batch".into();
            return Err(Error::Shape { op: OP, tensor: "latent", expected, got: latent.samples.shape() });
        }
        if let Some(mask) = latent.noise_mask {
            expect_mask(mask)?;
        }
        Ok(Forks { latent, reached: Vec::new() })
    }

    /// Makes the pictures of `lineages`, `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Value`] for lineages that do not lead from the first step to the last, for segments that have fewer steps
    /// than their sampler wants, and those of [`KSampler::sample`](super::KSampler::sample).
    pub fn sample<B: Backend, D: Denoiser<B>>(
        &mut self,
        model: &mut Model<'_, B, D>,
        lineages: &[Lineage],
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        for lineage in lineages {
            lineage.check(&lineage.scheduler.sigmas(&model.sampling, lineage.steps)?)?;
        }
        let depth = lineages.iter().map(|lineage| lineage.segments.len()).max().unwrap_or(0);
        for segments in 1..=depth {
            let mut wanted: Vec<Lineage> = Vec::new();
            for lineage in lineages.iter().filter(|lineage| lineage.segments.len() >= segments) {
                let prefix = lineage.prefix(segments);
                if self.state(&prefix).is_none() && !wanted.contains(&prefix) {
                    wanted.push(prefix);
                }
            }
            while let Some(first) = wanted.first().cloned() {
                let (together, rest): (Vec<_>, Vec<_>) =
                    wanted.into_iter().partition(|lineage| lineage.runs_beside(&first));
                let states = self.run(model, &together, observe)?;
                for (item, lineage) in together.into_iter().enumerate() {
                    self.reached.push((lineage, states.items(item..item + 1)?));
                }
                wanted = rest;
            }
        }
        let samples = self.finished(model, lineages)?;
        // What nothing can fork from is not worth its memory.
        self.reached.retain(|(lineage, _)| lineage.segments.last().is_some_and(|last| last.until.is_some()));
        expect_finite(OP, "samples", &samples)?;
        Ok(samples)
    }

    fn state(&self, lineage: &Lineage) -> Option<&Tensor> {
        self.reached.iter().find(|(known, _)| known == lineage).map(|(_, state)| state)
    }

    /// Runs the last segments of lineages that [run beside](Lineage::runs_beside) each other.
    fn run<B: Backend, D: Denoiser<B>>(
        &self,
        model: &mut Model<'_, B, D>,
        lineages: &[Lineage],
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        let (Some(first), Some(segment)) =
            (lineages.first(), lineages.first().and_then(|l| l.segments.last()))
        else {
            return Ok(self.latent.samples.clone());
        };
        let (backend, item) = (model.backend, self.latent.samples.data().len());
        let shape = self.latent.samples.shape().with_batch(lineages.len());
        let sigmas = first.levels_of_last(&model.sampling)?;
        let program = segment.sampler.program(&model.sampling, &sigmas)?;
        let kind = if program.draws_noise() { segment.sampler.properties().noise } else { NoiseKind::None };

        let (mut start, mut sources) = (Vec::with_capacity(shape.elements()), Vec::new());
        for lineage in lineages {
            start.extend_from_slice(self.before_last(model, lineage)?.data());
            let seed = lineage.segments.last().map_or(0, |segment| segment.seed);
            let mut noise = lineage.profile.noise(seed);
            // Noise that goes on after the initial one goes on after it in later segments too.
            noise.initial(item, None, &mut vec![0.0; item])?;
            sources.push(noise.steps(kind, &sigmas, 1, item)?);
        }
        let start = upload(backend, &Tensor::new(shape, start)?)?;
        let inpaint = self.inpaint(model, lineages)?;
        let run = Run::new(backend, &mut model.denoiser, program, start, segment.cfg, per_item(sources))?;
        run.inpainting(inpaint).finish(observe)
    }

    /// The noisy latent that the last segment of `lineage` starts from.
    fn before_last<B: Backend, D>(&self, model: &Model<'_, B, D>, lineage: &Lineage) -> Result<Tensor> {
        let parent = lineage.prefix(lineage.segments.len() - 1);
        if let Some(state) = self.state(&parent) {
            return Ok(state.clone());
        }
        let levels = lineage.scheduler.sigmas(&model.sampling, lineage.steps)?;
        let (of_noise, of_latent) = model.sampling.initial_scaling(f64::from(levels[0]));
        let noise = upload(model.backend, &self.initial_noise(lineage)?)?;
        let latent = upload(model.backend, self.latent.samples)?;
        let terms = [(of_noise as f32, &noise), ((of_latent * model.latent_scale) as f32, &latent)];
        let mut start = model.backend.latent(self.latent.samples.shape())?;
        model.backend.combine(&Combine { terms: &terms }, &mut start)?;
        model.backend.read_latent(&start)
    }

    fn initial_noise(&self, lineage: &Lineage) -> Result<Tensor> {
        let mut noise = Tensor::zeros(self.latent.samples.shape());
        lineage.profile.noise(lineage.noise_seed).initial(noise.data().len(), None, noise.data_mut())?;
        Ok(noise)
    }

    /// What keeps the latent where the mask is 0, for a batch of lineages; `None` without a mask.
    fn inpaint<B: Backend, D>(
        &self,
        model: &Model<'_, B, D>,
        lineages: &[Lineage],
    ) -> Result<Option<Inpaint<B>>> {
        let Some(mask) = self.latent.noise_mask else { return Ok(None) };
        let backend = model.backend;
        let shape = self.latent.samples.shape().with_batch(lineages.len());
        let mut noise = Vec::with_capacity(shape.elements());
        for lineage in lineages {
            noise.extend_from_slice(self.initial_noise(lineage)?.data());
        }
        let latents = upload(backend, &self.latent.samples.repeated(lineages.len()))?;
        let mut kept = backend.latent(shape)?;
        backend.combine(&Combine { terms: &[(model.latent_scale as f32, &latents)] }, &mut kept)?;
        let noise = upload(backend, &Tensor::new(shape, noise)?)?;
        let (mask, mixed) = (upload(backend, mask)?, backend.latent(shape)?);
        Ok(Some(Inpaint { mask, kept, noise, mixed, prediction: model.sampling.prediction() }))
    }

    /// The finished pictures, in the autoencoder's scale.
    fn finished<B: Backend, D>(&self, model: &Model<'_, B, D>, lineages: &[Lineage]) -> Result<Tensor> {
        let mut samples = Vec::new();
        for lineage in lineages {
            let last = lineage.levels_of_last(&model.sampling)?.last().copied().unwrap_or(0.0);
            let scale = model.latent_scale * model.sampling.latent_share(f64::from(last));
            let state = self.state(lineage).map_or(&[][..], Tensor::data);
            samples.extend(state.iter().map(|value| value * (1.0 / scale) as f32));
        }
        Tensor::new(self.latent.samples.shape().with_batch(lineages.len()), samples)
    }
}
