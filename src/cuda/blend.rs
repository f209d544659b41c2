use super::launch::{args, count};
use super::{Compute, Cuda, DeviceTensor, Launcher, Plan};
use crate::error::Result;
use crate::ops::Blend;
use crate::tensor::{DType, Shaped};

/// A thread takes 16 bytes where no plane is cut, else one value.
fn plan(values: u32, pixels: u32) -> Plan {
    let of_thread = if pixels.is_multiple_of(4) { 4 } else { 1 };
    Plan::one_thread_each("blend", DType::F32, values / of_thread)
}

pub(super) fn blend<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Blend<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, f32>,
) -> Result<()> {
    let (shape, mask) = (y.shape(), op.mask.shape());
    let values = count("blend", "elements", shape.elements())?;
    let [items, channels, pixels] = [shape[0], shape[1], shape[2] * shape[3]].map(|extent| extent as u32);
    let [mask_items, mask_channels] = [mask[0] as u32, mask[1] as u32];
    let (a, b, mask) = (op.a.pointer(), op.b.pointer(), op.mask.pointer());
    cuda.launch(
        &plan(values, pixels),
        args![a, b, mask, y.pointer(), items, channels, mask_items, mask_channels, pixels],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_four_values_where_planes_are_multiples_of_four() {
        assert_eq!(plan(4096, 64).grid, [4, 1, 1]);
        assert_eq!(plan(4095, 63).grid, [16, 1, 1]);
    }
}
