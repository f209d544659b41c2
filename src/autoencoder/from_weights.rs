//! The configuration that a file's tensors tell of, for files that come without one.

use super::config::Config;
use super::half::Kind;
use super::layout::Layout;
use crate::error::Result;
use crate::nn::{Scope, Weights};

impl Config {
    /// Works out the configuration from the names and shapes of the tensors, in diffusers' layout or in TAESD's own.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::FileTensor`] for tensors that every such autoencoder has in this shape,
    /// [`Error::Value`] for sizes that make no sense.
    ///
    /// [`Error::MissingTensor`]: crate::error::Error::MissingTensor
    /// [`Error::FileTensor`]: crate::error::Error::FileTensor
    /// [`Error::Value`]: crate::error::Error::Value
    pub fn from_weights(weights: &Weights) -> Result<Self> {
        let layout = Layout::of(weights);
        let in_file = |name: &str| layout.in_file(name);
        let file = weights.renamed(&in_file);
        let encoder = Sizes::of(Kind::Encoder, &file.scope("encoder.layers"))?;
        let decoder = Sizes::of(Kind::Decoder, &file.scope("decoder.layers"))?;
        Config {
            in_channels: encoder.inputs,
            out_channels: decoder.outputs,
            latent_channels: decoder.inputs,
            encoder_channels: encoder.channels,
            decoder_channels: decoder.channels,
            num_encoder_blocks: encoder.num_blocks,
            num_decoder_blocks: decoder.num_blocks,
        }
        .checked()
    }
}

/// The sizes of one half.
struct Sizes {
    inputs: usize,
    channels: usize,
    outputs: usize,
    num_blocks: Vec<usize>,
}

impl Sizes {
    fn of(kind: Kind, layers: &Scope<'_>) -> Result<Self> {
        let [channels, inputs, _, _] = layers.extents("0.weight")?;
        let mut num_blocks = Vec::new();
        let mut next = 0;
        loop {
            next += 1 + kind.unweighted();
            let blocks = (next..).take_while(|i| layers.contains(&format!("{i}.conv.0.weight"))).count();
            num_blocks.push(blocks);
            next += blocks;
            // A stage begins with a convolution without a bias. The last convolution has one.
            let conv = layers.scope(next + kind.unweighted());
            if !conv.contains("weight") || conv.contains("bias") {
                break;
            }
        }
        let [outputs, _, _, _] = layers.extents(&format!("{next}.weight"))?;
        Ok(Sizes { inputs, channels, outputs, num_blocks })
    }
}
