//! What models are built of: weights as files hold them, and blocks over any [`Backend`], named like diffusers' modules.
//!
//! A layer's `of` gives the operation of [`crate::ops`] with the layer's weights in it. What the operation fuses beyond
//! that is set on it by name, and [`Run::run`] computes it:
//!
//! `ops::Linear { residual: Some(&x), ..self.to_out.of(&y) }.run(backend)`

mod fields;
mod layers;
mod resnet;
mod timestep;
mod transformer;
mod weights;

pub(crate) use fields::{Fields, expect_counts, read_config, refuse};
pub use layers::{Conv2d, GroupNorm, LayerNorm, Linear};
pub use resnet::{ResnetBlock, ResnetShape};
pub use timestep::{TimeProjections, TimestepEmbedding, Timesteps};
pub use transformer::{
    BasicTransformerBlock, CrossAttention, KeysValues, SelfAttention, Transformer2D, TransformerShape,
};
pub use weights::{Scope, Weights};

use crate::error::Result;
use crate::ops::{self, Backend};

/// An operation that can be computed into an output of its own.
pub trait Run<B: Backend> {
    /// Checks the operation, makes its output, computes it.
    ///
    /// # Errors
    /// Those of the operation's `check`, and whatever the backend reports.
    fn run(&self, backend: &B) -> Result<B::Tensor>;
}

macro_rules! run {
    ($($op:ident $launch:ident),*) => {$(
        impl<B: Backend> Run<B> for ops::$op<'_, B> {
            fn run(&self, backend: &B) -> Result<B::Tensor> {
                let mut y = backend.empty(self.check()?)?;
                backend.$launch(self, &mut y)?;
                Ok(y)
            }
        }
    )*};
}
run!(Linear linear, Conv2d conv2d, GroupNorm group_norm, LayerNorm layer_norm);
run!(Attention attention, Concat concat, Enter enter);
