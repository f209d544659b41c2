//! Values for models that no file holds, to measure and test with.

use rayon::prelude::*;

use crate::error::Result;
use crate::rng::CounterStream;
use crate::tensor::{Shape, Tensor};

/// Values that one thread scales at a time.
const PART: usize = 1 << 16;

/// Normal values for the tensor `name`, the same whenever it is asked for. A weight `[outputs, inputs..]` has the
/// deviation at which a sum over its inputs keeps their variance, so that activations stay of order 1 however deep the
/// model; the scales of norms lie about 1, biases about 0.
pub(super) fn tensor(values: CounterStream, name: &str, shape: Shape) -> Result<Tensor> {
    const SPREAD: f32 = 0.1;
    let (mean, deviation) = match &*shape {
        [_] if name.ends_with("bias") => (0.0, SPREAD),
        [_] => (1.0, SPREAD),
        [_, inputs @ ..] => (0.0, inputs.iter().map(|&extent| extent as f32).product::<f32>().powf(-0.5)),
        [] => (0.0, 1.0),
    };
    let mut tensor = Tensor::try_zeros(shape)?;
    let address = hash(name);
    values.randn(address as u32, (address >> 32) as u32, 0, tensor.data_mut());
    tensor.data_mut().par_chunks_mut(PART).for_each(|part| {
        part.iter_mut().for_each(|value| *value = mean + deviation * *value);
    });
    Ok(tensor)
}

/// FNV-1a in 64 bits (Fowler, Noll and Vo), which no release of Rust will change.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
