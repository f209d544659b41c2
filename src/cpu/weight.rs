use super::Compute;
use super::gemm::View;
use crate::error::Result;
use crate::ops::expect_weight;
use crate::tensor::{DType, Shape, Shaped, Tensor};

/// A weight transposed to `[inputs, outputs]`: the microkernels then read it as it lies, with no packing per call.
#[derive(Debug, Clone)]
pub struct PackedWeight {
    shape: Shape,
    transposed: Tensor,
}

impl PackedWeight {
    pub(super) fn new<E: Compute>(weight: &Tensor) -> Result<Self> {
        let shape = weight.shape();
        expect_weight(shape)?;
        let outputs = shape[0];
        let inputs = shape[1..].iter().product();
        let mut transposed = Tensor::try_zeros([inputs, outputs])?;
        for (m, row) in weight.data().chunks_exact(inputs.max(1)).enumerate() {
            for (k, &value) in row.iter().enumerate() {
                transposed.data_mut()[k * outputs + m] = E::narrow(value).widen();
            }
        }
        Ok(PackedWeight { shape, transposed })
    }

    /// The part of the transposed weight in these `inputs` and `outputs`.
    pub(super) fn part(&self, inputs: std::ops::Range<usize>, outputs: std::ops::Range<usize>) -> View<'_> {
        let stride = self.shape[0];
        let first = (inputs.start * stride + outputs.start).min(self.transposed.data().len());
        View::rows(&self.transposed.data()[first..], [inputs.len(), outputs.len()], stride)
    }
}

impl Shaped for PackedWeight {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        self.transposed.dtype()
    }
}
