use super::launch::{args, count};
use super::{Compute, Cuda, DeviceTensor, Launcher, Plan};
use crate::error::Result;
use crate::ops::Leave;
use crate::tensor::{DType, Shaped};

fn plan(element: DType, items: u32, pixels: u32) -> Plan {
    Plan::one_thread_each("leave", element, items * pixels)
}

pub(super) fn leave<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Leave<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, f32>,
) -> Result<()> {
    let shape = y.shape();
    let branch = count("leave", "elements", shape.elements())?;
    let [items, channels, pixels] = [shape[0], shape[1], shape[2] * shape[3]].map(|extent| extent as u32);
    let x = op.x.pointer() + u64::from(branch) * (op.branch * size_of::<E>()) as u64;
    cuda.launch(&plan(E::DTYPE, items, pixels), args![x, y.pointer(), items, pixels, channels])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_has_a_thread() {
        assert_eq!(plan(DType::BF16, 2, 64 * 64).grid, [32, 1, 1]);
        assert_eq!(plan(DType::BF16, 1, 257).grid, [2, 1, 1]);
    }
}
