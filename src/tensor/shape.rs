use std::fmt;
use std::ops::Deref;

use super::DType;

/// The extents of a tensor, outermost first; at most five of them. The last one is contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; Shape::MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The largest number of dimensions: a batch of latents, one per step.
    pub const MAX_RANK: usize = 5;

    /// A shape from a slice of extents; `None` if there are more than [`Shape::MAX_RANK`].
    pub fn try_from_slice(extents: &[usize]) -> Option<Self> {
        let mut dims = [1; Shape::MAX_RANK];
        dims.get_mut(..extents.len())?.copy_from_slice(extents);
        Some(Shape { dims, rank: extents.len() })
    }

    /// The number of elements: the product of the extents, 1 for a scalar, `usize::MAX` if it is larger than that.
    pub fn elements(&self) -> usize {
        product(self)
    }

    /// The last extent: channels in `[N, H, W, C]`. 1 for a scalar.
    pub fn channels(&self) -> usize {
        self.last().copied().unwrap_or(1)
    }

    /// The number of rows of [`Shape::channels`] elements each, `usize::MAX` if it is larger than that.
    pub fn rows(&self) -> usize {
        self.split_last().map_or(1, |(_, outer)| product(outer))
    }

    /// The same shape with its first extent (the batch) replaced; a scalar has none.
    pub fn with_batch(mut self, batch: usize) -> Self {
        if self.rank > 0 {
            self.dims[0] = batch;
        }
        self
    }

    /// The same shape with its last extent (the channels) replaced; a scalar has none.
    pub fn with_channels(mut self, channels: usize) -> Self {
        if self.rank > 0 {
            self.dims[self.rank - 1] = channels;
        }
        self
    }
}

fn product(extents: &[usize]) -> usize {
    extents.iter().fold(1, |product, &extent| product.saturating_mul(extent))
}

impl<const RANK: usize> From<[usize; RANK]> for Shape {
    fn from(extents: [usize; RANK]) -> Self {
        const { assert!(RANK <= Shape::MAX_RANK) };
        let mut dims = [1; Shape::MAX_RANK];
        dims[..RANK].copy_from_slice(&extents);
        Shape { dims, rank: RANK }
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Anything that has a [`Shape`]: host tensors, device tensors, packed weights.
pub trait Shaped {
    /// Its logical shape.
    fn shape(&self) -> Shape;
    /// The type of its elements.
    fn dtype(&self) -> DType;
    /// Bytes of all its elements, `u64::MAX` if they are more than that.
    fn bytes(&self) -> u64 {
        (self.shape().elements() as u64).saturating_mul(self.dtype().bytes())
    }
}
