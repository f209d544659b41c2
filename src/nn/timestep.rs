use super::{Linear, Run, Scope};
use crate::error::Result;
use crate::ops::{self, Activation, Backend};
use crate::tensor::Tensor;

/// The sinusoids that stand for a number, as diffusers' `get_timestep_embedding` makes them.
///
/// With `half = channels / 2`, `angle[i] = t exp(-ln(10000) i / (half - freq_shift))`: first the sines of all angles,
/// then the cosines, or the other way round with `flip_sin_to_cos`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timesteps {
    /// How many values stand for one number; even.
    pub channels: usize,
    /// Whether the cosines come first.
    pub flip_sin_to_cos: bool,
    /// Below `channels / 2`.
    pub freq_shift: f64,
}

impl Timesteps {
    /// One row `[channels]` for each of `timesteps`, computed in f64.
    pub fn embed(&self, timesteps: &[f32]) -> Vec<f32> {
        timesteps.iter().flat_map(|&timestep| self.row(timestep)).collect()
    }

    fn row(&self, timestep: f32) -> impl Iterator<Item = f32> {
        let half = self.channels / 2;
        let decay = -f64::ln(10_000.0) / (half as f64 - self.freq_shift);
        let angle = move |i| f64::from(timestep) * f64::exp(decay * i as f64);
        let waves: [fn(f64) -> f64; 2] =
            if self.flip_sin_to_cos { [f64::cos, f64::sin] } else { [f64::sin, f64::cos] };
        waves.into_iter().flat_map(move |wave| (0..half).map(move |i| wave(angle(i)) as f32))
    }
}

/// diffusers' `TimestepEmbedding`: two linear layers with SiLU between.
pub struct TimestepEmbedding<B: Backend> {
    linear_1: Linear<B>,
    linear_2: Linear<B>,
}

impl<B: Backend> TimestepEmbedding<B> {
    /// Loads the layers, `[.., inputs]` to `[.., outputs]`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(backend: &B, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(TimestepEmbedding {
            linear_1: Linear::load(backend, &scope.scope("linear_1"), inputs, outputs)?,
            linear_2: Linear::load(backend, &scope.scope("linear_2"), outputs, outputs)?,
        })
    }

    /// The embedding of `x` `[N, inputs]`.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn forward(&self, backend: &B, x: &Tensor) -> Result<B::Tensor> {
        let h = self.hidden(backend, x)?;
        self.linear_2.of(&h).run(backend)
    }

    /// SiLU of the embedding of `x` `[N, inputs]` plus `added` `[N, outputs]`. All readers of a time embedding begin
    /// with that SiLU, so it is applied once, here.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn forward_silu(&self, backend: &B, x: &Tensor, added: Option<&B::Tensor>) -> Result<B::Tensor> {
        let h = self.hidden(backend, x)?;
        ops::Linear { residual: added, activation: Activation::Silu, ..self.linear_2.of(&h) }.run(backend)
    }

    fn hidden(&self, backend: &B, x: &Tensor) -> Result<B::Tensor> {
        let x = backend.upload(x)?;
        ops::Linear { activation: Activation::Silu, ..self.linear_1.of(&x) }.run(backend)
    }
}

/// The `time_emb_proj` of every residual block of a network, read while the blocks are loaded, to become one layer: its
/// output has the columns of all of them, so that one product serves them all, for all steps of a run.
pub struct TimeProjections {
    inputs: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl TimeProjections {
    /// Of a time embedding of so many channels.
    pub fn new(inputs: usize) -> Self {
        TimeProjections { inputs, weight: Vec::new(), bias: Vec::new() }
    }

    /// Reads another block's, and says which column is its first.
    ///
    /// # Errors
    /// Those of [`Scope::tensor`].
    pub fn read(&mut self, scope: &Scope<'_>, outputs: usize) -> Result<usize> {
        let first = self.bias.len();
        self.weight.append(&mut scope.tensor("weight", [outputs, self.inputs])?.into_data());
        self.bias.append(&mut scope.tensor("bias", [outputs])?.into_data());
        Ok(first)
    }

    /// All of them as one layer.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub fn join<B: Backend>(self, backend: &B) -> Result<Linear<B>> {
        let outputs = self.bias.len();
        Linear::new(
            backend,
            Tensor::new([outputs, self.inputs], self.weight)?,
            &Tensor::new([outputs], self.bias)?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_come_first_unless_flipped_and_the_shift_stretches_the_angles() {
        let timesteps = Timesteps { channels: 4, flip_sin_to_cos: false, freq_shift: 1.0 };
        let [fast, slow] = [3.0_f64, 3.0 / 10_000.0];
        let [sines, cosines] =
            [[fast.sin() as f32, slow.sin() as f32], [fast.cos() as f32, slow.cos() as f32]];
        assert_eq!(timesteps.embed(&[3.0]), [sines, cosines].concat());
        let flipped = Timesteps { flip_sin_to_cos: true, ..timesteps };
        assert_eq!(flipped.embed(&[3.0]), [cosines, sines].concat());
        assert_eq!(timesteps.embed(&[3.0, 3.0]).len(), 8);
    }
}
