use rayon::prelude::*;

use super::{DType, Element, Shape, Shaped};
use crate::error::{Error, Result};
use crate::simd::want_large_pages;

/// A dense tensor in host memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<E: Element = f32> {
    shape: Shape,
    data: Vec<E>,
}

impl<E: Element> Tensor<E> {
    /// A tensor over `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not hold exactly `shape.elements()` values.
    pub fn new(shape: impl Into<Shape>, data: Vec<E>) -> Result<Self> {
        let shape = shape.into();
        if data.len() != shape.elements() {
            return Err(Error::Shape {
                op: "tensor",
                tensor: "data",
                expected: format!("{shape}, {} values", shape.elements()),
                got: [data.len()].into(),
            });
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of zeros, if there is memory for it.
    ///
    /// # Errors
    /// [`Error::Value`] if there is not.
    pub fn try_zeros(shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let mut data = bytemuck::allocation::try_zeroed_vec(shape.elements()).map_err(|()| Error::Value {
            op: "tensor",
            what: "memory",
            expected: format!("enough for {shape} {} values", E::DTYPE),
            got: "too little".into(),
        })?;
        want_large_pages(&mut data);
        Ok(Tensor { shape, data })
    }

    /// A tensor of zeros, of a size that is known to fit; [`Tensor::try_zeros`] is for others.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Tensor { shape, data: vec![E::default(); shape.elements()] }
    }

    /// The elements, last dimension contiguous.
    pub fn data(&self) -> &[E] {
        &self.data
    }

    /// The elements, last dimension contiguous.
    pub fn data_mut(&mut self) -> &mut [E] {
        &mut self.data
    }

    /// The elements, without a copy.
    pub fn into_data(self) -> Vec<E> {
        self.data
    }

    /// The same values in another element type, each rounded to nearest.
    pub fn cast<F: Element>(&self) -> Tensor<F> {
        Tensor { shape: self.shape, data: self.data.iter().map(|v| F::from_f64(v.to_f64())).collect() }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements differs.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Result<Self> {
        Tensor::new(shape, self.data)
    }

    /// The tensor `copies` times over, along the first dimension; a scalar becomes a vector.
    pub fn repeated(&self, copies: usize) -> Self {
        let shape = match self.shape.first() {
            Some(batch) => self.shape.with_batch(batch * copies),
            None => [copies].into(),
        };
        Tensor { shape, data: self.data.repeat(copies) }
    }

    /// Items `range` of the first dimension.
    ///
    /// # Errors
    /// [`Error::Value`] if the range does not lie within the first dimension.
    pub fn items(&self, range: std::ops::Range<usize>) -> Result<Self> {
        let batch = self.shape.first().copied().unwrap_or(0);
        if range.start > range.end || range.end > batch {
            return Err(Error::Value {
                op: "tensor",
                what: "item range",
                expected: format!("within 0..{batch}"),
                got: format!("{range:?}"),
            });
        }
        let item = self.data.len() / batch.max(1);
        Ok(Tensor {
            shape: self.shape.with_batch(range.len()),
            data: self.data[range.start * item..range.end * item].to_vec(),
        })
    }

    /// `[N, C, H, W]` to `[N, H, W, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensor does not have four dimensions.
    pub fn channels_last(&self) -> Result<Self> {
        let [n, c, h, w] = self.four_dims("[N, C, H, W]")?;
        Ok(Tensor { shape: [n, h, w, c].into(), data: swap_inner(&self.data, n, c, h * w) })
    }

    /// `[N, H, W, C]` to `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensor does not have four dimensions.
    pub fn channels_first(&self) -> Result<Self> {
        let [n, h, w, c] = self.four_dims("[N, H, W, C]")?;
        Ok(Tensor { shape: [n, c, h, w].into(), data: swap_inner(&self.data, n, h * w, c) })
    }

    fn four_dims(&self, expected: &str) -> Result<[usize; 4]> {
        self.shape.as_ref().try_into().map_err(|_| Error::Shape {
            op: "layout",
            tensor: "x",
            expected: expected.to_owned(),
            got: self.shape,
        })
    }
}

/// `[n, a, b]` to `[n, b, a]`, items in parallel where there is enough to do: a model's weights come this way.
fn swap_inner<E: Element>(data: &[E], n: usize, a: usize, b: usize) -> Vec<E> {
    const WORTH_SHARING: usize = 1 << 16;
    let mut out = vec![E::default(); data.len()];
    let item = (data.len() / n.max(1)).max(1);
    let items = out.par_chunks_exact_mut(item).zip(data.par_chunks_exact(item));
    items.with_min_len(WORTH_SHARING.div_ceil(item)).for_each(|(out, item)| {
        for (j, row) in out.chunks_exact_mut(a).enumerate() {
            row.iter_mut().zip(item[j..].iter().step_by(b)).for_each(|(out, &value)| *out = value);
        }
    });
    out
}

impl<E: Element> Shaped for Tensor<E> {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        E::DTYPE
    }
}
