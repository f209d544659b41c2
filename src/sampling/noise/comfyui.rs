use super::{Noise, NoiseSource, brownian_range, expect_index_each};
use crate::error::Result;
use crate::rng::{BrownianNoise, Mt19937, prepare_noise};
use crate::sampling::samplers::NoiseKind;

/// ComfyUI on the CPU: one generator draws the whole batch; ancestral samplers have a generator of their own, and
/// Brownian ones a path for the whole batch.
pub(super) struct Comfyui {
    seed: u64,
    /// Seeds the generator of ancestral noise.
    step_seed: u64,
    /// Where the generator of the initial noise stands: what churn goes on with.
    generator: Mt19937,
}

impl Comfyui {
    pub(super) fn new(seed: u64, step_seed: u64) -> Self {
        Comfyui { seed, step_seed, generator: Mt19937::new(seed) }
    }
}

impl Noise for Comfyui {
    fn initial(&mut self, item: usize, batch_index: Option<&[usize]>, out: &mut [f32]) -> Result<()> {
        let Some(batch_index) = batch_index else {
            self.generator.randn(out);
            return Ok(());
        };
        expect_index_each("comfyui noise", Some(batch_index), out.len() / item.max(1))?;
        prepare_noise(self.seed, batch_index, out)?;
        let mut skipped = vec![0.0; item];
        let draws = batch_index.iter().max().map_or(0, |last| last + 1);
        (0..draws).for_each(|_| self.generator.randn(&mut skipped));
        Ok(())
    }

    fn steps(
        &mut self,
        kind: NoiseKind,
        sigmas: &[f32],
        items: usize,
        item: usize,
    ) -> Result<Box<dyn NoiseSource>> {
        Ok(match kind {
            NoiseKind::None | NoiseKind::Gaussian => Box::new(Mt19937::new(self.step_seed)),
            NoiseKind::Continued => Box::new(self.generator.clone()),
            NoiseKind::Brownian => {
                let (lowest, highest) = brownian_range(sigmas);
                Box::new(BrownianNoise::new(self.seed, items * item, lowest, highest)?)
            }
        })
    }
}
