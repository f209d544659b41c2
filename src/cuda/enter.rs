use super::launch::{args, count};
use super::{Compute, Cuda, DeviceTensor, Launcher, Plan};
use crate::error::Result;
use crate::ops::Enter;
use crate::tensor::{DType, Shaped};

fn plan(element: DType, items: u32, pixels: u32) -> Plan {
    Plan::one_thread_each("enter", element, items * pixels)
}

/// One launch for each part.
pub(super) fn enter<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Enter<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    count("enter", "elements", y.shape().elements())?;
    let (width, copies) = (y.shape().channels() as u32, op.copies as u32);
    let mut first = 0u32;
    for (scale, x) in op.parts {
        let [items, channels, pixels] =
            [x.shape()[0], x.shape()[1], x.shape()[2] * x.shape()[3]].map(|e| e as u32);
        let plan = plan(E::DTYPE, items, pixels);
        let (x, y) = (x.pointer(), y.pointer());
        cuda.launch(&plan, args![x, y, *scale, items, pixels, channels, first, width, copies])?;
        first += channels;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_has_a_thread() {
        assert_eq!(plan(DType::F16, 2, 64 * 64).grid, [32, 1, 1]);
        assert_eq!(plan(DType::F16, 3, 7 * 11).grid, [1, 1, 1]);
    }
}
