use serde::{Deserialize, Serialize};

use super::{NoiseSource, NoiseState};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The largest batch that ComfyUI makes. All of it is drawn for a part of it, which needs a limit.
pub(super) const MAX_BATCH: usize = 4096;

/// Which items of a larger batch some latents are, so that they get the noise that they would get in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The first item.
    pub first: usize,
    /// How many items the whole batch has: at most 4096, unless the part is all of it.
    pub of: usize,
}

impl Part {
    /// All of a batch.
    pub fn whole(of: usize) -> Self {
        Part { first: 0, of }
    }

    /// The `shard`-th (from 1) of `shards` parts of a batch, as even as can be, and its length, which may be 0.
    ///
    /// # Errors
    /// [`Error::Value`] unless `shard` is within 1 to `shards`.
    pub fn shard(shard: usize, shards: usize, of: usize) -> Result<(Self, usize)> {
        if !(1..=shards).contains(&shard) {
            let (op, what) = ("shard", "number");
            let expected = format!("within 1 to {shards}");
            return Err(Error::Value { op, what, expected, got: shard.to_string() });
        }
        let start = |shard: usize| (shard as u128 * of as u128 / shards as u128) as usize;
        let first = start(shard - 1);
        Ok((Part { first, of }, start(shard) - first))
    }

    /// Refuses a part of `items` items that does not lie within its batch.
    pub(crate) fn check(self, items: usize) -> Result<()> {
        match self.first.checked_add(items) {
            Some(end) if end <= self.of && self.of <= items.max(MAX_BATCH) => Ok(()),
            _ => Err(Error::Value {
                op: "part",
                what: "items",
                expected: format!("within a batch of {}, at most {MAX_BATCH}", self.of),
                got: format!("{items} from {}", self.first),
            }),
        }
    }
}

/// The noise that a part gets: the whole batch's is drawn, since its order is the batch's, and the rest let go.
struct PartOf {
    source: Box<dyn NoiseSource>,
    whole: Tensor,
    start: usize,
}

/// The noise of `values` values from value `start` of a batch of `elements`; of the whole batch, the source itself.
pub(crate) fn part_of(
    source: Box<dyn NoiseSource>,
    start: usize,
    values: usize,
    elements: usize,
) -> Result<Box<dyn NoiseSource>> {
    if values == elements {
        return Ok(source);
    }
    Ok(Box::new(PartOf { source, whole: Tensor::try_zeros([elements])?, start }))
}

impl NoiseSource for PartOf {
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()> {
        self.source.draw(sigma, sigma_next, self.whole.data_mut())?;
        out.copy_from_slice(&self.whole.data()[self.start..][..out.len()]);
        Ok(())
    }

    fn state(&self) -> Option<NoiseState> {
        let (start, elements) = (self.start, self.whole.data().len());
        Some(NoiseState::Part { source: Box::new(self.source.state()?), start, elements })
    }
}
