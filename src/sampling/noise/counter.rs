use serde::{Deserialize, Serialize};

use super::{Noise, NoiseSource, NoiseState, brownian_range, expect_index_each, per_item};
use crate::error::{Error, Result};
use crate::rng::{BrownianNoise, CounterStream, Draw, Normals};
use crate::sampling::samplers::NoiseKind;

/// Noise by address ([`CounterStream`]): each item's depends on the seed and its place alone. Draw 0 is the initial
/// noise, the steps' follow; Brownian paths are seeded with the seed plus the item's place.
pub(super) struct Counter {
    seed: u64,
}

impl Counter {
    pub(super) fn new(seed: u64) -> Self {
        Counter { seed }
    }
}

/// The draws of one item, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterDraws {
    /// The stream's seed.
    pub seed: u64,
    /// The item's place in its batch.
    pub item: u32,
    /// The next draw.
    pub draw: u32,
}

impl NoiseSource for CounterDraws {
    fn draw(&mut self, _: f64, _: f64, out: &mut [f32]) -> Result<()> {
        CounterStream::new(self.seed).randn(self.item, self.draw, 0, out);
        self.draw = self.draw.wrapping_add(1);
        Ok(())
    }

    fn has_addresses(&self) -> bool {
        true
    }

    fn draws(&mut self, _: f64, _: f64, _: usize) -> Result<Vec<Draw>> {
        let draw = CounterStream::new(self.seed).draw(self.item, self.draw);
        self.draw = self.draw.wrapping_add(1);
        Ok(vec![Draw::Normal(draw)])
    }

    fn state(&self) -> Option<NoiseState> {
        Some(NoiseState::Counter(self.clone()))
    }
}

impl Noise for Counter {
    fn initial(&mut self, item: usize, batch_index: Option<&[usize]>, out: &mut [f32]) -> Result<()> {
        expect_index_each("counter noise", batch_index, out.len() / item.max(1))?;
        for (index, out) in out.chunks_exact_mut(item.max(1)).enumerate() {
            let index = batch_index.map_or(index, |batch_index| batch_index[index]);
            CounterStream::new(self.seed).randn(place(index)?, 0, 0, out);
        }
        Ok(())
    }

    fn steps(
        &mut self,
        kind: NoiseKind,
        sigmas: &[f32],
        items: usize,
        item: usize,
    ) -> Result<Box<dyn NoiseSource>> {
        if kind == NoiseKind::Brownian {
            let (lowest, highest) = brownian_range(sigmas);
            let seeds: Vec<u64> = (0..items as u64).map(|item| self.seed.wrapping_add(item)).collect();
            let noise = BrownianNoise::with_normals(Normals::Counter, &seeds, item, lowest, highest)?;
            return Ok(Box::new(noise));
        }
        let seed = self.seed;
        let source = |item| -> Result<Box<dyn NoiseSource>> {
            Ok(Box::new(CounterDraws { seed, item: place(item)?, draw: 1 }))
        };
        Ok(per_item((0..items).map(source).collect::<Result<_>>()?))
    }
}

/// An item's place as the stream counts it.
fn place(item: usize) -> Result<u32> {
    u32::try_from(item).map_err(|_| Error::Value {
        op: "counter noise",
        what: "item",
        expected: format!("at most {}", u32::MAX),
        got: item.to_string(),
    })
}
