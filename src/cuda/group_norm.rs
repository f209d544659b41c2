use bytemuck::{Pod, Zeroable};

use super::launch::{Buffer, Launcher, Plan, activation, args, count};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::Result;
use crate::ops::GroupNorm;
use crate::tensor::{DType, Shape, Shaped};

const OP: &str = "group_norm";
const THREADS: u32 = 256;
/// Pixels of a chunk whose moments are taken together.
const PIXELS: u32 = 64;
/// A group of more bytes than these is taken in chunks. The smallest devices give a block 99 KiB.
const MOST_ON_CHIP: usize = 96 << 10;
/// Bytes of the moments of one chunk of one group.
const MOMENTS: usize = 8;

/// As `kernels/group_norm.cu` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Groups {
    pixels: u32,
    channels: u32,
    groups: u32,
    activation: u32,
    eps: f32,
}

/// One launch, or two with the chunks' moments between.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plans {
    OnChip(Plan),
    Chunks { moments: Plan, apply: Plan, workspace: usize },
}

pub(super) fn plan(element: DType, x: Shape, groups: u32) -> Result<Plans> {
    let (items, pixels) = (count(OP, "items", x[0])?, count(OP, "pixels", x.rows() / x[0])?);
    let plan =
        |kernel, grid, shared_memory| Plan { kernel, element, grid, block: [THREADS, 1, 1], shared_memory };
    let group = x.elements() / x[0] / groups as usize * element.bytes() as usize;
    if group <= MOST_ON_CHIP {
        return Ok(Plans::OnChip(plan("group_norm", [groups, items, 1], group as u32)));
    }
    let grid = [pixels.div_ceil(PIXELS), items, 1];
    const AFFINE: u32 = 12;
    Ok(Plans::Chunks {
        moments: plan("group_norm_moments", grid, 0),
        apply: plan("group_norm_apply", grid, AFFINE * groups),
        workspace: grid[0] as usize * x[0] * groups as usize * MOMENTS,
    })
}

pub(super) fn group_norm<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &GroupNorm<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let shape = y.shape();
    let sizes = Groups {
        pixels: count(OP, "pixels", shape.rows() / shape[0])?,
        channels: count(OP, "channels", shape.channels())?,
        groups: count(OP, "groups", op.groups)?,
        activation: activation(op.activation),
        eps: op.eps,
    };
    let [x, gamma, beta] = [op.x, op.gamma, op.beta].map(DeviceTensor::pointer);
    match plan(E::DTYPE, shape, sizes.groups)? {
        Plans::OnChip(plan) => cuda.launch(&plan, args![x, gamma, beta, y.pointer(), sizes]),
        Plans::Chunks { moments, apply, workspace } => {
            let between = Buffer::new::<u8>(&cuda.pool, workspace)?;
            cuda.launch(&moments, args![x, between.pointer(), sizes])?;
            cuda.launch(&apply, args![x, gamma, beta, between.pointer(), y.pointer(), sizes])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_fit_stay_on_chip() {
        for (side, channels, element, on_chip) in [
            (64, 320, DType::F16, true),
            (64, 320, DType::F32, false),
            (64, 960, DType::F16, false),
            (32, 640, DType::BF16, true),
            (8, 2560, DType::F32, true),
            (128, 320, DType::F16, false),
        ] {
            let plans = plan(element, [2, side, side, channels].into(), 32).unwrap();
            assert_eq!(matches!(plans, Plans::OnChip(_)), on_chip, "{side} {channels} {element}: {plans:?}");
        }
    }

    #[test]
    fn chunks_cover_every_pixel_once() {
        let Plans::Chunks { moments, apply, workspace } =
            plan(DType::F32, [2, 65, 65, 320].into(), 32).unwrap()
        else {
            panic!("it does not fit on chip");
        };
        assert_eq!((moments.grid, apply.grid, workspace), ([67, 2, 1], [67, 2, 1], 67 * 2 * 32 * 8));
    }
}
