//! Variations without the node's oddities: a lineage each.

use clap::Args;
use noisefork::error::{Error, Result};
use noisefork::sampling::lineage::{Fork, Lineage};
use noisefork::sampling::{ModelSampling, Sampler};

#[derive(Args)]
pub struct Repaired {
    /// Vary at any strength and step, each item under a seed of its own: variation seed, the next one, ...
    #[arg(long)]
    pub repaired: bool,
    /// Fork at the level nearest to this one, in place of a strength
    #[arg(long, value_name = "SIGMA", requires = "repaired", conflicts_with = "variation_strength")]
    fork_sigma: Option<f64>,
    /// The sampler of the variations, one that adds noise
    #[arg(long, value_name = "SAMPLER", requires = "repaired", default_value = "dpmpp_2m_sde")]
    variation_sampler: Sampler,
}

impl Repaired {
    /// As many variations of `composition` as `batch`, at one strength for all or one for each; the first is seeded `seed`.
    pub fn lineages(
        &self,
        composition: &Lineage,
        sampling: &ModelSampling,
        strengths: &[f64],
        (seed, cfg): (u64, f64),
        batch: usize,
    ) -> Result<Vec<Lineage>> {
        if strengths.len() != 1 && strengths.len() != batch {
            return Err(Error::Value {
                op: "variations",
                what: "variation_strength",
                expected: format!("one for all, or one for each of {batch}"),
                got: strengths.len().to_string(),
            });
        }
        let forks = strengths.iter().cycle().map(|&strength| match self.fork_sigma {
            Some(sigma) => Fork::Sigma(sigma),
            None => Fork::Strength(strength),
        });
        let fork = |(item, at)| {
            let seed = seed.wrapping_add(item);
            composition.fork(sampling, at, self.variation_sampler.clone(), seed, cfg)
        };
        (0..).zip(forks.take(batch)).map(fork).collect()
    }
}
