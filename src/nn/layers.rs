use super::Scope;
use crate::error::Result;
use crate::ops::{self, Activation, Backend};
use crate::tensor::{Shaped, Tensor};

/// A fully connected layer; a convolution with a 1x1 kernel is one too, channels being last.
pub struct Linear<B: Backend> {
    weight: B::Weight,
    bias: Option<B::Tensor>,
}

impl<B: Backend> Linear<B> {
    /// Loads `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// Those of [`Scope::tensor`], and whatever the backend reports; so for every `load` of this module.
    pub fn load(backend: &B, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bias = Some(backend.upload(&scope.tensor("bias", [outputs])?)?);
        Ok(Linear { bias, ..Linear::load_unbiased(backend, scope, inputs, outputs)? })
    }

    /// Loads `weight` `[outputs, inputs]` of a layer without a bias.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_unbiased(backend: &B, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Linear::load_joined(backend, &[scope], inputs, outputs)
    }

    /// Loads several layers like those of [`Linear::load_unbiased`] as one, which has the outputs of all, in order.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_joined(backend: &B, scopes: &[&Scope<'_>], inputs: usize, outputs: usize) -> Result<Self> {
        let mut joined = Vec::new();
        for scope in scopes {
            joined.append(&mut scope.tensor("weight", [outputs, inputs])?.into_data());
        }
        let weight = Tensor::new([scopes.len() * outputs, inputs], joined)?;
        Ok(Linear { weight: backend.pack(weight)?, bias: None })
    }

    /// A layer of these `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub fn new(backend: &B, weight: Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Linear { bias: Some(backend.upload(bias)?), weight: backend.pack(weight)? })
    }

    /// Loads a convolution's `weight` `[outputs, inputs, 1, 1]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_pointwise(backend: &B, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.tensor("weight", [outputs, inputs, 1, 1])?.reshaped([outputs, inputs])?;
        Linear::new(backend, weight, &scope.tensor("bias", [outputs])?)
    }

    /// Channels of its output.
    pub fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }

    /// The layer applied to `x` `[.., inputs]`.
    pub fn of<'a>(&'a self, x: &'a B::Tensor) -> ops::Linear<'a, B> {
        ops::Linear {
            x,
            weight: &self.weight,
            bias: self.bias.as_ref(),
            residual: None,
            activation: Activation::Identity,
        }
    }
}

/// A convolution with a 3x3 kernel.
pub struct Conv2d<B: Backend> {
    weight: B::Weight,
    bias: Option<B::Tensor>,
}

impl<B: Backend> Conv2d<B> {
    /// Loads `weight` `[outputs, inputs, 3, 3]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(backend: &B, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bias = Some(backend.upload(&scope.tensor("bias", [outputs])?)?);
        Ok(Conv2d { bias, ..Conv2d::load_unbiased(backend, scope, inputs, outputs)? })
    }

    /// Loads `weight` `[outputs, inputs, 3, 3]` of a layer without a bias.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_unbiased(backend: &B, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.tensor("weight", [outputs, inputs, 3, 3])?.channels_last()?;
        Ok(Conv2d { weight: backend.pack(weight)?, bias: None })
    }

    /// The layer applied to `x` `[N, H, W, inputs]`, with stride 1.
    pub fn of<'a>(&'a self, x: &'a B::Tensor) -> ops::Conv2d<'a, B> {
        ops::Conv2d {
            x,
            weight: &self.weight,
            bias: self.bias.as_ref(),
            shift: None,
            residual: None,
            activation: Activation::Identity,
            stride: 1,
            upsample: None,
        }
    }
}

/// Group normalisation with a scale and an offset per channel.
pub struct GroupNorm<B: Backend> {
    weight: B::Tensor,
    bias: B::Tensor,
    groups: usize,
    eps: f32,
}

impl<B: Backend> GroupNorm<B> {
    /// Loads `weight` and `bias`, both `[channels]`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(backend: &B, scope: &Scope<'_>, channels: usize, groups: usize, eps: f32) -> Result<Self> {
        let weight = backend.upload(&scope.tensor("weight", [channels])?)?;
        let bias = backend.upload(&scope.tensor("bias", [channels])?)?;
        Ok(GroupNorm { weight, bias, groups, eps })
    }

    /// The layer applied to `x` `[N, .., channels]`.
    pub fn of<'a>(&'a self, x: &'a B::Tensor) -> ops::GroupNorm<'a, B> {
        ops::GroupNorm {
            x,
            gamma: &self.weight,
            beta: &self.bias,
            groups: self.groups,
            eps: self.eps,
            activation: Activation::Identity,
        }
    }
}

/// Layer normalisation over the channels, with torch's epsilon of 1e-5.
pub struct LayerNorm<B: Backend> {
    weight: B::Tensor,
    bias: B::Tensor,
}

impl<B: Backend> LayerNorm<B> {
    /// Loads `weight` and `bias`, both `[channels]`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load(backend: &B, scope: &Scope<'_>, channels: usize) -> Result<Self> {
        let weight = backend.upload(&scope.tensor("weight", [channels])?)?;
        let bias = backend.upload(&scope.tensor("bias", [channels])?)?;
        Ok(LayerNorm { weight, bias })
    }

    /// The layer applied to `x` `[.., channels]`.
    pub fn of<'a>(&'a self, x: &'a B::Tensor) -> ops::LayerNorm<'a, B> {
        ops::LayerNorm { x, gamma: &self.weight, beta: &self.bias, eps: 1e-5 }
    }
}
