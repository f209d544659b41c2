use super::{Conv2d, GroupNorm, Linear, Run, Scope, TimeProjections};
use crate::error::Result;
use crate::ops::{self, Activation, Backend};

/// diffusers' `ResnetBlock2D`: two convolutions, told the time between them, around which the input is added back.
pub struct ResnetBlock<B: Backend> {
    norm1: GroupNorm<B>,
    conv1: Conv2d<B>,
    /// The first of the columns in a table of [`TimeProjections`] that are this block's.
    first: usize,
    norm2: GroupNorm<B>,
    conv2: Conv2d<B>,
    /// Only where the number of channels changes.
    conv_shortcut: Option<Linear<B>>,
}

/// The sizes of a [`ResnetBlock`].
#[derive(Debug, Clone, Copy)]
pub struct ResnetShape {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Groups of both normalisations.
    pub groups: usize,
    /// Epsilon of both normalisations.
    pub eps: f32,
}

impl<B: Backend> ResnetBlock<B> {
    /// Loads the block, all but its `time_emb_proj`, which it adds to `projections`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(
        backend: &B,
        scope: &Scope<'_>,
        shape: ResnetShape,
        projections: &mut TimeProjections,
    ) -> Result<Self> {
        let ResnetShape { inputs, outputs, groups, eps } = shape;
        let conv_shortcut = (inputs != outputs)
            .then(|| Linear::load_pointwise(backend, &scope.scope("conv_shortcut"), inputs, outputs))
            .transpose()?;
        Ok(ResnetBlock {
            norm1: GroupNorm::load(backend, &scope.scope("norm1"), inputs, groups, eps)?,
            conv1: Conv2d::load(backend, &scope.scope("conv1"), inputs, outputs)?,
            first: projections.read(&scope.scope("time_emb_proj"), outputs)?,
            norm2: GroupNorm::load(backend, &scope.scope("norm2"), outputs, groups, eps)?,
            conv2: Conv2d::load(backend, &scope.scope("conv2"), outputs, outputs)?,
            conv_shortcut,
        })
    }

    /// `[N, H, W, inputs]` to `[N, H, W, outputs]`; a row of `table` is what the time adds to an item.
    ///
    /// # Errors
    /// Those of the operations; so for every `forward` of this module.
    pub fn forward(&self, backend: &B, x: &B::Tensor, table: &B::Tensor) -> Result<B::Tensor> {
        let shift = Some(ops::Shift { table, first: self.first });
        let h = ops::GroupNorm { activation: Activation::Silu, ..self.norm1.of(x) }.run(backend)?;
        let h = ops::Conv2d { shift, ..self.conv1.of(&h) }.run(backend)?;
        let h = ops::GroupNorm { activation: Activation::Silu, ..self.norm2.of(&h) }.run(backend)?;
        let shortcut = self.conv_shortcut.as_ref().map(|conv| conv.of(x).run(backend)).transpose()?;
        ops::Conv2d { residual: Some(shortcut.as_ref().unwrap_or(x)), ..self.conv2.of(&h) }.run(backend)
    }
}
