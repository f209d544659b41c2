use super::launch::Launcher;
use super::{Compute, Cuda, DeviceTensor};
use crate::error::Result;
use crate::ops::expect_weight;
use crate::tensor::{DType, Shape, Shaped, Tensor};

/// A weight in device memory, a row for each output. A row holds for each tap its channels, and zeros up to a whole chunk
/// of 16 bytes: so kernels copy nothing but chunks.
pub struct PackedWeight<L: Launcher, E> {
    shape: Shape,
    rows: DeviceTensor<L, E>,
}

impl<L: Launcher, E: Compute> PackedWeight<L, E> {
    pub(super) fn new(cuda: &Cuda<L, E>, weight: &Tensor) -> Result<Self> {
        expect_weight(weight.shape())?;
        let host = packed::<E>(weight)?;
        let mut rows = DeviceTensor::empty(&cuda.pool, host.shape())?;
        rows.write(&host)?;
        Ok(PackedWeight { shape: weight.shape(), rows })
    }

    pub(super) fn pointer(&self) -> u64 {
        self.rows.pointer()
    }

    /// Values of a row.
    pub(super) fn depth(&self) -> usize {
        self.rows.shape().channels()
    }
}

impl<L: Launcher, E: Compute> Shaped for PackedWeight<L, E> {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn dtype(&self) -> DType {
        E::DTYPE
    }
}

fn packed<E: Compute>(weight: &Tensor) -> Result<Tensor<E>> {
    let (outputs, channels) = (weight.shape()[0], weight.shape().channels());
    let taps: usize = weight.shape()[1..].iter().rev().skip(1).product();
    let tap = channels.next_multiple_of(16 / size_of::<E>());
    let mut packed = Tensor::try_zeros([outputs, taps * tap])?;
    let to = packed.data_mut().chunks_exact_mut(tap.max(1));
    for (to, from) in to.zip(weight.data().chunks_exact(channels.max(1))) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = E::from_f32(from);
        }
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_is_filled_up_with_zeros() {
        let weight =
            Tensor::new([2, 3, 3, 5], (1..=90).map(|value| value as f32).collect()).expect("as many");
        let packed = packed::<half::f16>(&weight).expect("memory");
        assert_eq!(*packed.shape(), [2, 9 * 8]);
        for (tap, values) in packed.data().chunks(8).enumerate() {
            let expected: Vec<f32> =
                (0..8).map(|c| if c < 5 { (tap * 5 + c + 1) as f32 } else { 0.0 }).collect();
            assert_eq!(values.iter().map(|value| value.to_f32()).collect::<Vec<_>>(), expected, "tap {tap}");
        }
    }

    #[test]
    fn an_empty_weight_is_packed() {
        for shape in [[0, 3], [3, 0], [0, 0]] {
            let packed = packed::<f32>(&Tensor::zeros(shape)).expect("memory");
            assert!(packed.data().iter().all(|&value| value == 0.0) && packed.shape()[0] == shape[0]);
        }
    }
}
