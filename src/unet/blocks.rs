use super::config::{Config, Level};
use crate::error::Result;
use crate::nn::{
    Conv2d, KeysValues, ResnetBlock, ResnetShape, Run, Scope, TimeProjections, Transformer2D,
    TransformerShape,
};
use crate::ops::{self, Backend};
use crate::tensor::Shaped;

/// What every block needs besides its input.
pub(super) struct Given<'a, B: Backend> {
    pub backend: &'a B,
    /// What each residual block adds to each item.
    pub table: &'a B::Tensor,
    /// What each cross-attention looks into, in the order in which they run.
    pub contexts: std::slice::Iter<'a, KeysValues<B>>,
}

impl<B: Backend> Given<'_, B> {
    fn resnet(&self, block: &ResnetBlock<B>, x: &B::Tensor) -> Result<B::Tensor> {
        block.forward(self.backend, x, self.table)
    }

    fn attend(&mut self, block: &Transformer2D<B>, x: &B::Tensor) -> Result<B::Tensor> {
        block.forward(self.backend, x, &mut self.contexts)
    }
}

/// diffusers' `DownBlock2D` and `CrossAttnDownBlock2D`.
pub(super) struct DownBlock<B: Backend> {
    resnets: Vec<ResnetBlock<B>>,
    /// One for each residual block, or none.
    pub attentions: Vec<Transformer2D<B>>,
    /// Absent from the last block.
    downsampler: Option<Conv2d<B>>,
}

impl<B: Backend> DownBlock<B> {
    pub fn load(
        backend: &B,
        scope: &Scope<'_>,
        config: &Config,
        index: usize,
        projections: &mut TimeProjections,
    ) -> Result<Self> {
        let level = &config.levels[index];
        let finer = &config.levels[index.saturating_sub(1)];
        let resnet = |i| {
            let inputs = if i == 0 { finer.channels } else { level.channels };
            load_resnet(
                backend,
                &scope.scope("resnets").scope(i),
                config,
                [inputs, level.channels],
                projections,
            )
        };
        let downsampler = (index + 1 < config.levels.len()).then(|| {
            Conv2d::load(backend, &scope.scope("downsamplers.0.conv"), level.channels, level.channels)
        });
        Ok(DownBlock {
            resnets: (0..level.layers).map(resnet).collect::<Result<_>>()?,
            attentions: if level.down_attention {
                load_attentions(backend, scope, config, level, level.layers)?
            } else {
                Vec::new()
            },
            downsampler: downsampler.transpose()?,
        })
    }

    /// Goes on from the last of `skips`, and adds every output that the way up will want.
    pub fn forward(&self, given: &mut Given<'_, B>, skips: &mut Vec<B::Tensor>) -> Result<()> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let mut h = given.resnet(resnet, last(skips))?;
            if let Some(attention) = self.attentions.get(i) {
                h = given.attend(attention, &h)?;
            }
            skips.push(h);
        }
        if let Some(conv) = &self.downsampler {
            let conv = ops::Conv2d { stride: 2, ..conv.of(last(skips)) };
            skips.push(conv.run(given.backend)?);
        }
        Ok(())
    }
}

/// The output that comes next on the way up. There is always one: what the first convolution gave.
pub(super) fn last<T>(skips: &[T]) -> &T {
    &skips[skips.len() - 1]
}

/// diffusers' `UNetMidBlock2DCrossAttn`.
pub(super) struct MidBlock<B: Backend> {
    resnets: [ResnetBlock<B>; 2],
    pub attention: Transformer2D<B>,
}

impl<B: Backend> MidBlock<B> {
    pub fn load(
        backend: &B,
        scope: &Scope<'_>,
        config: &Config,
        projections: &mut TimeProjections,
    ) -> Result<Self> {
        let level = &config.levels[config.levels.len() - 1];
        let mut resnet =
            |name| load_resnet(backend, &scope.scope(name), config, [level.channels; 2], projections);
        Ok(MidBlock {
            resnets: [resnet("resnets.0")?, resnet("resnets.1")?],
            attention: load_attention(backend, &scope.scope("attentions.0"), config, level)?,
        })
    }

    pub fn forward(&self, given: &mut Given<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let [first, second] = &self.resnets;
        let h = given.resnet(first, x)?;
        let h = given.attend(&self.attention, &h)?;
        given.resnet(second, &h)
    }
}

/// diffusers' `UpBlock2D` and `CrossAttnUpBlock2D`.
pub(super) struct UpBlock<B: Backend> {
    resnets: Vec<ResnetBlock<B>>,
    /// One for each residual block, or none.
    pub attentions: Vec<Transformer2D<B>>,
    /// Absent from the last block.
    upsampler: Option<Conv2d<B>>,
}

impl<B: Backend> UpBlock<B> {
    /// Loads the block of the level `index`; the levels count from the finest, up blocks from the coarsest.
    pub fn load(
        backend: &B,
        scope: &Scope<'_>,
        config: &Config,
        index: usize,
        projections: &mut TimeProjections,
    ) -> Result<Self> {
        let level = &config.levels[index];
        let finer = &config.levels[index.saturating_sub(1)];
        let coarser = config.levels.get(index + 1).unwrap_or(level);
        let layers = level.layers + 1;
        let resnet = |i| {
            let inputs = if i == 0 { coarser.channels } else { level.channels };
            let skip = if i + 1 == layers { finer.channels } else { level.channels };
            load_resnet(
                backend,
                &scope.scope("resnets").scope(i),
                config,
                [inputs + skip, level.channels],
                projections,
            )
        };
        let upsampler = (index > 0).then(|| {
            Conv2d::load(backend, &scope.scope("upsamplers.0.conv"), level.channels, level.channels)
        });
        Ok(UpBlock {
            resnets: (0..layers).map(resnet).collect::<Result<_>>()?,
            attentions: if level.up_attention {
                load_attentions(backend, scope, config, level, layers)?
            } else {
                Vec::new()
            },
            upsampler: upsampler.transpose()?,
        })
    }

    /// Takes one of `skips` for each residual block, from the end.
    pub fn forward(
        &self,
        given: &mut Given<'_, B>,
        mut x: B::Tensor,
        skips: &mut Vec<B::Tensor>,
    ) -> Result<B::Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            if let Some(skip) = skips.pop() {
                x = ops::Concat { a: &x, b: &skip }.run(given.backend)?;
            }
            x = given.resnet(resnet, &x)?;
            if let Some(attention) = self.attentions.get(i) {
                x = given.attend(attention, &x)?;
            }
        }
        if let (Some(conv), Some(next)) = (&self.upsampler, skips.last()) {
            // Not simply twice the size: an odd size was halved to the next whole number.
            let size = [next.shape()[1], next.shape()[2]];
            x = ops::Conv2d { upsample: Some(size), ..conv.of(&x) }.run(given.backend)?;
        }
        Ok(x)
    }
}

fn load_resnet<B: Backend>(
    backend: &B,
    scope: &Scope<'_>,
    config: &Config,
    [inputs, outputs]: [usize; 2],
    projections: &mut TimeProjections,
) -> Result<ResnetBlock<B>> {
    let shape = ResnetShape { inputs, outputs, groups: config.norm_num_groups, eps: config.norm_eps };
    ResnetBlock::load(backend, scope, shape, projections)
}

fn load_attentions<B: Backend>(
    backend: &B,
    scope: &Scope<'_>,
    config: &Config,
    level: &Level,
    layers: usize,
) -> Result<Vec<Transformer2D<B>>> {
    let scope = scope.scope("attentions");
    (0..layers).map(|i| load_attention(backend, &scope.scope(i), config, level)).collect()
}

fn load_attention<B: Backend>(
    backend: &B,
    scope: &Scope<'_>,
    config: &Config,
    level: &Level,
) -> Result<Transformer2D<B>> {
    let shape = TransformerShape {
        channels: level.channels,
        cross_attention_dim: config.cross_attention_dim,
        heads: level.heads,
        layers: level.transformer_layers,
        groups: config.norm_num_groups,
        use_linear_projection: config.use_linear_projection,
    };
    Transformer2D::load(backend, scope, shape)
}
