use super::launch::count;
use super::launch::{Launcher, Plan, args};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::Result;
use crate::ops::LayerNorm;
use crate::tensor::{DType, Shaped};

const OP: &str = "layer_norm";
const THREADS: u32 = 256;
/// A warp each.
const ROWS: u32 = THREADS / 32;

fn plan(element: DType, rows: u32) -> Plan {
    let grid = [rows.div_ceil(ROWS), 1, 1];
    Plan { kernel: "layer_norm", element, grid, block: [THREADS, 1, 1], shared_memory: 0 }
}

pub(super) fn layer_norm<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &LayerNorm<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let shape = y.shape();
    let (rows, channels) = (count(OP, "rows", shape.rows())?, count(OP, "channels", shape.channels())?);
    let [x, gamma, beta] = [op.x, op.gamma, op.beta].map(DeviceTensor::pointer);
    cuda.launch(&plan(E::DTYPE, rows), args![x, gamma, beta, y.pointer(), rows, channels, op.eps])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_has_a_warp_for_each_row() {
        for (rows, blocks) in [(1, 1), (8, 1), (9, 2), (8192, 1024)] {
            assert_eq!(plan(DType::BF16, rows).grid, [blocks, 1, 1], "{rows}");
        }
    }
}
