use super::{Noise, NoiseSource, brownian_range, refuse_batch_index};
use crate::error::Result;
use crate::rng::{BrownianNoise, Mt19937};
use crate::sampling::samplers::NoiseKind;

/// k-diffusion as its own programs use it, on the CPU: torch's global generator is seeded once, and all noise comes from
/// it in turn; a Brownian path takes its seed from it.
pub(super) struct KDiffusion {
    generator: Mt19937,
}

impl KDiffusion {
    pub(super) fn new(seed: u64) -> Self {
        KDiffusion { generator: Mt19937::new(seed) }
    }
}

impl Noise for KDiffusion {
    fn initial(&mut self, _: usize, batch_index: Option<&[usize]>, out: &mut [f32]) -> Result<()> {
        refuse_batch_index("k-diffusion", batch_index)?;
        self.generator.randn(out);
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
            NoiseKind::None | NoiseKind::Gaussian | NoiseKind::Continued => Box::new(self.generator.clone()),
            NoiseKind::Brownian => {
                let (lowest, highest) = brownian_range(sigmas);
                // torch.randint(0, 2**63 - 1, [])
                let seed = self.generator.next_u64() % i64::MAX as u64;
                Box::new(BrownianNoise::new(seed, items * item, lowest, highest)?)
            }
        })
    }
}
