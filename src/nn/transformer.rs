use super::{GroupNorm, LayerNorm, Linear, Run, Scope, refuse};
use crate::error::Result;
use crate::ops::{self, Activation, Backend};

/// diffusers' `Attention` of a sequence into itself.
pub struct SelfAttention<B: Backend> {
    /// `to_q`, `to_k` and `to_v`, joined.
    to_qkv: Linear<B>,
    to_out: Linear<B>,
    channels: usize,
    heads: usize,
}

impl<B: Backend> SelfAttention<B> {
    /// Loads the layers.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(backend: &B, scope: &Scope<'_>, channels: usize, heads: usize) -> Result<Self> {
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|name| scope.scope(name));
        Ok(SelfAttention {
            to_qkv: Linear::load_joined(backend, &[&q, &k, &v], channels, channels)?,
            to_out: Linear::load(backend, &scope.scope("to_out.0"), channels, channels)?,
            channels,
            heads,
        })
    }

    /// `residual` plus what `x` finds in itself; both `[N, .., channels]`.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn forward(&self, backend: &B, x: &B::Tensor, residual: &B::Tensor) -> Result<B::Tensor> {
        let (channels, heads) = (self.channels, self.heads);
        let qkv = self.to_qkv.of(x).run(backend)?;
        let [q, k, v] = [0, 1, 2].map(|part| ops::Columns { tensor: &qkv, first: part * channels });
        let found = ops::Attention { q, k, v, channels, heads }.run(backend)?;
        ops::Linear { residual: Some(residual), ..self.to_out.of(&found) }.run(backend)
    }
}

/// What a [`CrossAttention`] looks into: keys, and after them values, in the columns of `[N, .., 2 channels]`.
pub struct KeysValues<B: Backend>(B::Tensor);

impl<B: Backend> KeysValues<B> {
    /// `[N, tokens, 2 channels]`: the keys, then the values.
    pub fn tensor(&self) -> &B::Tensor {
        &self.0
    }
}

/// diffusers' `Attention` of a sequence into a context of another width.
pub struct CrossAttention<B: Backend> {
    to_q: Linear<B>,
    /// `to_k` and `to_v`, joined.
    to_kv: Linear<B>,
    to_out: Linear<B>,
    channels: usize,
    heads: usize,
}

impl<B: Backend> CrossAttention<B> {
    /// Loads the layers; `context` is the width of what is looked into.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(
        backend: &B,
        scope: &Scope<'_>,
        channels: usize,
        context: usize,
        heads: usize,
    ) -> Result<Self> {
        let [k, v] = ["to_k", "to_v"].map(|name| scope.scope(name));
        Ok(CrossAttention {
            to_q: Linear::load_unbiased(backend, &scope.scope("to_q"), channels, channels)?,
            to_kv: Linear::load_joined(backend, &[&k, &v], context, channels)?,
            to_out: Linear::load(backend, &scope.scope("to_out.0"), channels, channels)?,
            channels,
            heads,
        })
    }

    /// The keys and values of `context` `[N, .., context]`.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn keys_values(&self, backend: &B, context: &B::Tensor) -> Result<KeysValues<B>> {
        self.to_kv.of(context).run(backend).map(KeysValues)
    }

    /// `residual` plus what `x` finds in `context`; both `[N, .., channels]`.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        KeysValues(context): &KeysValues<B>,
        residual: &B::Tensor,
    ) -> Result<B::Tensor> {
        let (channels, heads) = (self.channels, self.heads);
        let q = self.to_q.of(x).run(backend)?;
        let q = ops::Columns { tensor: &q, first: 0 };
        let [k, v] = [0, 1].map(|part| ops::Columns { tensor: context, first: part * channels });
        let found = ops::Attention { q, k, v, channels, heads }.run(backend)?;
        ops::Linear { residual: Some(residual), ..self.to_out.of(&found) }.run(backend)
    }
}

/// diffusers' `BasicTransformerBlock`: self-attention, cross-attention, feed-forward, each added to its input.
pub struct BasicTransformerBlock<B: Backend> {
    norm1: LayerNorm<B>,
    attn1: SelfAttention<B>,
    norm2: LayerNorm<B>,
    pub(crate) attn2: CrossAttention<B>,
    norm3: LayerNorm<B>,
    ff_in: Linear<B>,
    ff_out: Linear<B>,
}

impl<B: Backend> BasicTransformerBlock<B> {
    /// Loads the block.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(
        backend: &B,
        scope: &Scope<'_>,
        channels: usize,
        context: usize,
        heads: usize,
    ) -> Result<Self> {
        let inner = channels.saturating_mul(4);
        Ok(BasicTransformerBlock {
            norm1: LayerNorm::load(backend, &scope.scope("norm1"), channels)?,
            attn1: SelfAttention::load(backend, &scope.scope("attn1"), channels, heads)?,
            norm2: LayerNorm::load(backend, &scope.scope("norm2"), channels)?,
            attn2: CrossAttention::load(backend, &scope.scope("attn2"), channels, context, heads)?,
            norm3: LayerNorm::load(backend, &scope.scope("norm3"), channels)?,
            ff_in: Linear::load(backend, &scope.scope("ff.net.0.proj"), channels, inner.saturating_mul(2))?,
            ff_out: Linear::load(backend, &scope.scope("ff.net.2"), inner, channels)?,
        })
    }

    /// `[N, .., channels]` to the same.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn forward(&self, backend: &B, x: &B::Tensor, context: &KeysValues<B>) -> Result<B::Tensor> {
        let h = self.norm1.of(x).run(backend)?;
        let x = self.attn1.forward(backend, &h, x)?;

        let h = self.norm2.of(&x).run(backend)?;
        let x = self.attn2.forward(backend, &h, context, &x)?;

        let h = self.norm3.of(&x).run(backend)?;
        let h = ops::Linear { activation: Activation::Geglu, ..self.ff_in.of(&h) }.run(backend)?;
        ops::Linear { residual: Some(&x), ..self.ff_out.of(&h) }.run(backend)
    }
}

/// diffusers' `Transformer2DModel`: transformer blocks over the pixels of an image, added to it.
pub struct Transformer2D<B: Backend> {
    norm: GroupNorm<B>,
    proj_in: Linear<B>,
    pub(crate) transformer_blocks: Vec<BasicTransformerBlock<B>>,
    proj_out: Linear<B>,
}

/// The sizes of a [`Transformer2D`].
#[derive(Debug, Clone, Copy)]
pub struct TransformerShape {
    /// Channels in and out.
    pub channels: usize,
    /// Width of the context.
    pub cross_attention_dim: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// How many transformer blocks.
    pub layers: usize,
    /// Groups of the normalisation.
    pub groups: usize,
    /// Whether the file holds the projections as linear layers, not as 1x1 convolutions.
    pub use_linear_projection: bool,
}

impl<B: Backend> Transformer2D<B> {
    /// Loads the block.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(backend: &B, scope: &Scope<'_>, shape: TransformerShape) -> Result<Self> {
        const EPS: f32 = 1e-6;
        let TransformerShape { channels, cross_attention_dim, heads, layers, groups, .. } = shape;
        let projection = if shape.use_linear_projection { Linear::load } else { Linear::load_pointwise };
        let block = |i| {
            let scope = scope.scope("transformer_blocks").scope(i);
            BasicTransformerBlock::load(backend, &scope, channels, cross_attention_dim, heads)
        };
        Ok(Transformer2D {
            norm: GroupNorm::load(backend, &scope.scope("norm"), channels, groups, EPS)?,
            proj_in: projection(backend, &scope.scope("proj_in"), channels, channels)?,
            transformer_blocks: (0..layers).map(block).collect::<Result<_>>()?,
            proj_out: projection(backend, &scope.scope("proj_out"), channels, channels)?,
        })
    }

    /// `[N, H, W, channels]` to the same. Takes one item of `contexts` for each transformer block.
    ///
    /// # Errors
    /// [`Error::Value`](crate::error::Error::Value) for fewer contexts than blocks; those of the operations.
    pub fn forward<'a>(
        &self,
        backend: &B,
        x: &B::Tensor,
        contexts: &mut impl Iterator<Item = &'a KeysValues<B>>,
    ) -> Result<B::Tensor>
    where
        B: 'a,
    {
        let h = self.norm.of(x).run(backend)?;
        let mut h = self.proj_in.of(&h).run(backend)?;
        for (done, block) in self.transformer_blocks.iter().enumerate() {
            let context = contexts.next().ok_or_else(|| {
                let expected = format!("one for each of {} blocks", self.transformer_blocks.len());
                refuse("transformer", "contexts", expected, done)
            })?;
            h = block.forward(backend, &h, context)?;
        }
        ops::Linear { residual: Some(x), ..self.proj_out.of(&h) }.run(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::error::Error;
    use crate::nn::Weights;
    use crate::tensor::{Shaped, Tensor};

    #[test]
    fn every_block_wants_a_context() {
        let (cpu, weights) = (Cpu::new(), Weights::synthetic(1));
        let shape = TransformerShape {
            channels: 8,
            cross_attention_dim: 4,
            heads: 2,
            layers: 2,
            groups: 4,
            use_linear_projection: true,
        };
        let transformer = Transformer2D::load(&cpu, &weights.scope("a"), shape).unwrap();
        let context = cpu.upload(&Tensor::zeros([1, 3, 4])).unwrap();
        let contexts = [0, 1].map(|block: usize| {
            transformer.transformer_blocks[block].attn2.keys_values(&cpu, &context).unwrap()
        });
        let x = cpu.upload(&Tensor::zeros([1, 2, 2, 8])).unwrap();
        let forward =
            |given: usize| transformer.forward(&cpu, &x, &mut contexts[..given].iter()).map(|y| y.shape());
        assert_eq!(forward(2), Ok(x.shape()));
        for given in [0, 1] {
            let (expected, got) = ("one for each of 2 blocks".into(), given.to_string());
            assert_eq!(
                forward(given),
                Err(Error::Value { op: "transformer", what: "contexts", expected, got })
            );
        }
    }
}
