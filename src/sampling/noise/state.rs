use serde::{Deserialize, Serialize};

use super::part::{MAX_BATCH, part_of};
use super::{CounterDraws, NoiseSource, per_item};
use crate::error::{Error, Result};
use crate::rng::{BrownianNoise, BrownianPaths, Mt19937, Philox};

/// Where a [`NoiseSource`] stands: all that it takes to go on from there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum NoiseState {
    /// A generator in the middle of its stream.
    Mt19937(Box<Mt19937>),
    /// A GPU's generator in the middle of its stream.
    Philox(Philox),
    /// One item's draws of a counter stream.
    Counter(CounterDraws),
    /// Brownian paths, which are the same wherever a run stands.
    Brownian(BrownianPaths),
    /// Part of the values of a larger batch.
    Part {
        /// The whole batch's noise.
        source: Box<NoiseState>,
        /// The first value of the part.
        start: usize,
        /// Values in the whole batch.
        elements: usize,
    },
    /// A source for each item of a batch.
    PerItem(Vec<NoiseState>),
}

impl NoiseState {
    /// A source that goes on from here, for `values` values a draw.
    ///
    /// # Errors
    /// [`Error::Value`] for a state that is not one of noise for so many values.
    pub fn source(self, values: usize) -> Result<Box<dyn NoiseSource>> {
        let most = values.saturating_mul(MAX_BATCH);
        self.within(values, most)
    }

    /// The source, which may draw at most `most` values at once: what is read from a file must not ask for more memory
    /// than the latents beside it call for.
    fn within(self, values: usize, most: usize) -> Result<Box<dyn NoiseSource>> {
        let refuse = |what, expected: String, got: usize| {
            Err(Error::Value { op: "noise state", what, expected, got: got.to_string() })
        };
        match self {
            NoiseState::Mt19937(generator) => Ok(generator),
            NoiseState::Philox(generator) => Ok(Box::new(generator)),
            NoiseState::Counter(draws) => Ok(Box::new(draws)),
            NoiseState::Brownian(BrownianPaths { normals, seeds, elements, sigma_min, sigma_max }) => {
                if seeds.len().checked_mul(elements) != Some(values) {
                    return refuse("elements", format!("{values} for all seeds together"), elements);
                }
                let noise = BrownianNoise::with_normals(normals, &seeds, elements, sigma_min, sigma_max)?;
                Ok(Box::new(noise))
            }
            NoiseState::Part { source, start, elements } => {
                if elements > most || start.checked_add(values).is_none_or(|end| end > elements) {
                    return refuse("elements", format!("{values} from {start}, at most {most}"), elements);
                }
                part_of(source.within(elements, most)?, start, values, elements)
            }
            NoiseState::PerItem(sources) => {
                let items = sources.len();
                if items == 0 || !values.is_multiple_of(items) {
                    return refuse("sources", format!("as many as divide {values}"), items);
                }
                let each = |source: NoiseState| source.within(values / items, most / items);
                Ok(per_item(sources.into_iter().map(each).collect::<Result<_>>()?))
            }
        }
    }
}
