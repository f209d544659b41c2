use super::{A1111Source, Noise, NoiseSource, brownian_range, expect_index_each, per_item};
use crate::error::Result;
use crate::rng::{BrownianNoise, Mt19937, Philox};
use crate::sampling::samplers::NoiseKind;

/// AUTOMATIC1111's web UI: item k has the seed plus k and a generator of its own, which goes on from the initial noise to
/// that of the steps; with an ENSD ("eta noise seed delta") the steps have one that is seeded so much higher.
pub(super) struct A1111 {
    source: A1111Source,
    seed: u64,
    ensd: u64,
    /// What draws the noise of the steps, once there is initial noise.
    generators: Vec<Box<dyn NoiseSource>>,
}

impl A1111 {
    pub(super) fn new(source: A1111Source, seed: u64, ensd: u64) -> Self {
        A1111 { source, seed, ensd, generators: Vec::new() }
    }

    fn generator(&self, seed: u64) -> Box<dyn NoiseSource> {
        match self.source.topology() {
            None => Box::new(Mt19937::new(seed)),
            Some(topology) => Box::new(Philox::new(seed, topology)),
        }
    }

    fn seeds(&self, items: usize) -> impl Iterator<Item = u64> {
        let seed = self.seed;
        (0..items as u64).map(move |item| seed.wrapping_add(item))
    }
}

impl Noise for A1111 {
    fn initial(&mut self, item: usize, batch_index: Option<&[usize]>, out: &mut [f32]) -> Result<()> {
        self.generators.clear();
        expect_index_each("a1111 noise", batch_index, out.len() / item.max(1))?;
        for (index, out) in out.chunks_exact_mut(item.max(1)).enumerate() {
            let index = batch_index.map_or(index, |batch_index| batch_index[index]);
            let seed = self.seed.wrapping_add(index as u64);
            let mut generator = self.generator(seed);
            generator.draw(0.0, 0.0, out)?;
            if self.ensd != 0 {
                generator = self.generator(seed.wrapping_add(self.ensd));
            }
            self.generators.push(generator);
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
            let seeds: Vec<u64> = self.seeds(items).collect();
            let noise = BrownianNoise::with_normals(self.source.normals(), &seeds, item, lowest, highest)?;
            return Ok(Box::new(noise));
        }
        if self.generators.len() == items {
            return Ok(per_item(std::mem::take(&mut self.generators)));
        }
        Ok(per_item(self.seeds(items).map(|seed| self.generator(seed.wrapping_add(self.ensd))).collect()))
    }
}
