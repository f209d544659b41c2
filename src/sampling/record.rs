//! What a run was made with, written down so that the run, or any item of it, can be made again bit for bit.
//!
//! A [`Record`] is text ([`Record::to_json`]) that a file of latents can carry. What it does not hold must be brought again:
//! the model, and the latents and mask that the run started from.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::denoiser::Denoiser;
use super::ksampler::{KSampler, LatentImage, Model};
use super::lineage::{Forks, Lineage};
use super::model_sampling::ModelSampling;
use super::noise::Part;
use super::run::Observer;
use super::samplers::Sampler;
use super::variations::{Variations, VariationsWithNoise};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::tensor::{Shape, Shaped, Tensor};

const OP: &str = "record";

/// The settings of a run, of whichever kind it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Settings {
    /// One run of a sampler.
    KSampler(KSampler),
    /// Variations of one composition, as the node makes them.
    Variations(Variations),
    /// Variations by mixing the noise that each item starts from.
    VariationsWithNoise(VariationsWithNoise),
    /// A way of its own for each item.
    Lineages(Vec<Lineage>),
}

/// What a run was made with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this crate that made it.
    pub noisefork: String,
    /// The settings, which name the noise profile.
    pub settings: Settings,
    /// `[N, C, H, W]` of the whole batch.
    pub shape: [usize; 4],
    /// The items of the batch that were made: all of them, unless the run was a shard.
    pub items: Range<usize>,
    /// The levels that the run visits, stage by stage: a version that computes others would make other bits.
    pub levels: Vec<Vec<f32>>,
    /// What else the caller wants to find again, such as the model's place and the prompts.
    pub facts: BTreeMap<String, String>,
}

impl Record {
    /// The record of a run that makes a whole batch.
    ///
    /// # Errors
    /// [`Error::Value`] for settings outside their range.
    pub fn new(
        settings: Settings,
        sampling: &ModelSampling,
        shape: [usize; 4],
        facts: BTreeMap<String, String>,
    ) -> Result<Self> {
        let (noisefork, levels) = (env!("CARGO_PKG_VERSION").to_owned(), settings.levels(sampling)?);
        Ok(Record { noisefork, settings, shape, items: 0..shape[0], levels, facts })
    }

    /// The record that [`Record::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Value`] for text that is none, and for samplers, schedules and profiles that this version does not know.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| {
            let (what, expected) = ("text", "JSON that Record::to_json wrote".into());
            Error::Value { op: OP, what, expected, got: error.to_string() }
        })
    }

    /// The record as one line of JSON; every number in it is read back as it was.
    ///
    /// # Errors
    /// [`Error::Value`] if JSON cannot say it, and for a sampler that is not among
    /// [`Sampler::names`](super::Sampler::names), of which it would tell nothing.
    pub fn to_json(&self) -> Result<String> {
        self.settings.samplers().into_iter().try_for_each(|sampler| sampler.expect_known(OP))?;
        serde_json::to_string(self).map_err(|error| {
            let (what, expected) = ("record", "such that JSON can say it".into());
            Error::Value { op: OP, what, expected, got: error.to_string() }
        })
    }

    /// Makes `items` of the batch, with the bits that they have in it. `latent` is what the whole run starts from: the
    /// batch, or for lineages the one latent `[1, C, H, W]` that all start from.
    ///
    /// # Errors
    /// [`Error::Value`] for items that the batch does not have, for levels that are not those of the record, and for a
    /// latent that is part of a batch or has a batch index; [`Error::Shape`] for latents of another shape; those of
    /// [`KSampler::sample`].
    pub fn replay<'l, B: Backend, D: Denoiser<B>>(
        &self,
        model: &mut Model<'_, B, D>,
        latent: impl Into<LatentImage<'l>>,
        items: Range<usize>,
        observe: &mut Observer<'_, B>,
    ) -> Result<Tensor> {
        let latent = latent.into();
        self.check(&model.sampling, &latent)?;
        let [batch, channels, height, width] = self.shape;
        let part = Part { first: items.start, of: batch };
        part.check(items.len())?;
        if items.is_empty() {
            return Ok(Tensor::zeros([0, channels, height, width]));
        }
        match &self.settings {
            Settings::KSampler(run) => cut(latent, items, part, |latent| run.sample(model, latent, observe)),
            Settings::Variations(node) => node.sample_items(model, latent, items, observe),
            Settings::VariationsWithNoise(node) => {
                cut(latent, items, part, |latent| node.sample(model, latent, observe))
            }
            Settings::Lineages(lineages) => {
                let lineages = lineages.get(items).unwrap_or_default();
                Forks::new(latent)?.sample(model, lineages, observe)
            }
        }
    }

    /// Refuses what would not make the same bits.
    fn check(&self, sampling: &ModelSampling, latent: &LatentImage) -> Result<()> {
        let refuse = |what, expected: String, got: String| Err(Error::Value { op: OP, what, expected, got });
        if latent.part.is_some() || latent.batch_index.is_some() {
            return refuse("latent", "the whole batch without batch_index".into(), "one or the other".into());
        }
        let mut shape = Shape::from(self.shape);
        if let Settings::Lineages(lineages) = &self.settings {
            if lineages.len() != self.shape[0] {
                return refuse(
                    "lineages",
                    format!("{}, one an item", self.shape[0]),
                    lineages.len().to_string(),
                );
            }
            shape = shape.with_batch(1);
        }
        if latent.samples.shape() != shape {
            let (expected, got) = (format!("{shape}, as recorded"), latent.samples.shape());
            return Err(Error::Shape { op: OP, tensor: "latent", expected, got });
        }
        let levels = self.settings.levels(sampling)?;
        if levels != self.levels {
            let expected = format!("{levels:?}, which noisefork {} computes", env!("CARGO_PKG_VERSION"));
            return refuse("levels", expected, format!("{:?} of noisefork {}", self.levels, self.noisefork));
        }
        Ok(())
    }
}

/// Runs `items` of `latent`, which are `part` of their batch.
fn cut(
    latent: LatentImage,
    items: Range<usize>,
    part: Part,
    run: impl FnOnce(LatentImage) -> Result<Tensor>,
) -> Result<Tensor> {
    let (samples, mask) = latent.items(items)?;
    run(LatentImage { samples: &samples, noise_mask: mask.as_ref(), part: Some(part), ..latent })
}

impl Settings {
    fn samplers(&self) -> Vec<&Sampler> {
        match self {
            Settings::KSampler(run) => vec![&run.sampler],
            Settings::Variations(node) => vec![&node.sampler],
            Settings::VariationsWithNoise(node) => vec![&node.sampler],
            Settings::Lineages(lineages) => lineages
                .iter()
                .flat_map(|lineage| &lineage.segments)
                .map(|segment| &segment.sampler)
                .collect(),
        }
    }

    /// The levels of each stage; those of each schedule for lineages, which cut it as they like.
    fn levels(&self, sampling: &ModelSampling) -> Result<Vec<Vec<f32>>> {
        let of = |run: KSampler| Ok(run.plan(sampling)?.map_or(Vec::new(), |plan| plan.sigmas().to_vec()));
        match self {
            Settings::KSampler(run) => Ok(vec![of(run.clone())?]),
            Settings::Variations(node) => Ok(vec![of(node.composition()?)?, of(node.variation()?)?]),
            Settings::VariationsWithNoise(node) => Ok(vec![of(node.run()?)?]),
            Settings::Lineages(lineages) => {
                let mut schedules: Vec<Vec<f32>> = Vec::new();
                for lineage in lineages {
                    let levels = lineage.scheduler.sigmas(sampling, lineage.steps)?;
                    if !schedules.contains(&levels) {
                        schedules.push(levels);
                    }
                }
                Ok(schedules)
            }
        }
    }
}
