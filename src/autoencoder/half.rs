use crate::error::Result;
use crate::nn::{Conv2d, Run, Scope};
use crate::ops::{self, Activation, Backend};
use crate::tensor::Shaped;

/// diffusers' `EncoderTiny` or `DecoderTiny`.
pub(super) struct Half<B: Backend> {
    kind: Kind,
    stages: Vec<Stage<B>>,
    conv_out: Conv2d<B>,
}

/// Which half it is, and so how its stages change the size.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// By convolutions of stride 2.
    Encoder,
    /// By upsampling before convolutions. There is an activation after the first, too.
    Decoder,
}

impl Kind {
    /// How many layers each stage has that have a number but nothing in the file: the decoder's activation and
    /// upsamplings.
    pub fn unweighted(self) -> usize {
        match self {
            Kind::Encoder => 0,
            Kind::Decoder => 1,
        }
    }
}

/// A convolution, which changes the size in all stages but the first, and the blocks after it.
struct Stage<B: Backend> {
    conv: Conv2d<B>,
    blocks: Vec<Block<B>>,
}

/// diffusers' `AutoencoderTinyBlock`: three convolutions, to which the input is added back.
struct Block<B: Backend> {
    conv: [Conv2d<B>; 3],
}

impl<B: Backend> Half<B> {
    /// Loads the layers, which the file numbers through.
    pub fn load(
        kind: Kind,
        backend: &B,
        scope: &Scope<'_>,
        [inputs, channels, outputs]: [usize; 3],
        num_blocks: &[usize],
    ) -> Result<Self> {
        let unweighted = kind.unweighted();
        let mut next = 0;
        let mut stages = Vec::new();
        for &count in num_blocks {
            let conv = if stages.is_empty() {
                Conv2d::load(backend, &scope.scope(next), inputs, channels)?
            } else {
                Conv2d::load_unbiased(backend, &scope.scope(next + unweighted), channels, channels)?
            };
            next += 1 + unweighted;
            let block = |i| Block::load(backend, &scope.scope(next + i), channels);
            let blocks = (0..count).map(block).collect::<Result<_>>()?;
            next += count;
            stages.push(Stage { conv, blocks });
        }
        let conv_out = Conv2d::load(backend, &scope.scope(next), channels, outputs)?;
        Ok(Half { kind, stages, conv_out })
    }

    /// From images `[N, H, W, C]` to latents, or back.
    pub fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let mut h: Option<B::Tensor> = None;
        for Stage { conv, blocks } in &self.stages {
            let conv = match (self.kind, &h) {
                (Kind::Encoder, None) => conv.of(x),
                (Kind::Encoder, Some(h)) => ops::Conv2d { stride: 2, ..conv.of(h) },
                (Kind::Decoder, None) => ops::Conv2d { activation: Activation::Relu, ..conv.of(x) },
                (Kind::Decoder, Some(h)) => {
                    let doubled = [2 * h.shape()[1], 2 * h.shape()[2]];
                    ops::Conv2d { upsample: Some(doubled), ..conv.of(h) }
                }
            };
            let mut y = conv.run(backend)?;
            for block in blocks {
                y = block.forward(backend, &y)?;
            }
            h = Some(y);
        }
        self.conv_out.of(h.as_ref().unwrap_or(x)).run(backend)
    }
}

impl<B: Backend> Block<B> {
    fn load(backend: &B, scope: &Scope<'_>, channels: usize) -> Result<Self> {
        let conv = |name| Conv2d::load(backend, &scope.scope(name), channels, channels);
        Ok(Block { conv: [conv("conv.0")?, conv("conv.2")?, conv("conv.4")?] })
    }

    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let [first, second, third] = &self.conv;
        let activation = Activation::Relu;
        let h = ops::Conv2d { activation, ..first.of(x) }.run(backend)?;
        let h = ops::Conv2d { activation, ..second.of(&h) }.run(backend)?;
        ops::Conv2d { residual: Some(x), activation, ..third.of(&h) }.run(backend)
    }
}
