//! Attention on Hopper, `kernels/attention_hopper.cu`: tensor maps show it one head's rows in boxes.

use super::{Extents, Instance, pointer};
use crate::cuda::launch::{Boxes, Launcher, Plan, args};
use crate::cuda::{Compute, Cuda, DeviceTensor};
use crate::error::Result;
use crate::ops::{Attention, Columns};
use crate::tensor::{DType, Shaped};

pub(super) const INSTANCES: [Instance; 4] = [
    ("attention_hopper_d40", 40),
    ("attention_hopper_d64", 64),
    ("attention_hopper_d80", 80),
    ("attention_hopper_d160", 160),
];

/// Two warpgroups that multiply, and a warp that asks for tiles.
pub(super) const THREADS: u32 = 288;
/// Of a tile.
pub(super) const QUERIES: u32 = 128;
const KEYS: u32 = 64;
/// Tiles of keys or values in shared memory.
const STAGES: u32 = 4;
/// Of a box: 128 bytes.
const CHANNELS: u32 = 64;

/// The tile of Q, and the stages.
pub(super) fn shared_memory(depth: u32) -> u32 {
    (QUERIES + STAGES * KEYS) * 128 * depth.div_ceil(CHANNELS)
}

impl Extents {
    /// Whether tensor maps can show the rows.
    pub(super) fn suit_hopper(&self, element: DType) -> bool {
        element != DType::F32 && self.aligned == 1 && self.queries > 0 && self.keys > 0
    }
}

pub(super) fn launch<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Attention<'_, Cuda<L, E>>,
    plan: &Plan,
    extents: Extents,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let map = |columns: &Columns<'_, Cuda<L, E>>, tokens| {
        let shape = columns.tensor.shape();
        let (items, rows, depth) = (shape[0], shape.rows() / shape[0], op.channels / op.heads);
        let row = shape.channels();
        cuda.tensor_map(&Boxes {
            pointer: pointer(columns),
            element: E::DTYPE,
            extents: [depth, op.heads, rows, items].map(|extent| extent as u64),
            strides: [depth, row, rows * row].map(|values| (values * size_of::<E>()) as u64),
            lengths: [CHANNELS, 1, tokens, 1],
            steps: [1; 4],
        })
    };
    let (q, k, v) = (map(&op.q, QUERIES)?, map(&op.k, KEYS)?, map(&op.v, KEYS)?);
    cuda.launch(plan, args![q, k, v, y.pointer(), extents])
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    #[test]
    fn plans_for_stable_diffusion() {
        for (side, channels, kernel, blocks, kib) in [
            (64, 320, "attention_hopper_d40", 32, 48),
            (32, 640, "attention_hopper_d80", 8, 96),
            (16, 1280, "attention_hopper_d160", 2, 144),
            (8, 1280, "attention_hopper_d160", 1, 144),
        ] {
            let plan = plan(DType::F16, [2, side, side, channels].into(), 8, true).unwrap();
            assert_eq!((plan.kernel, plan.grid, plan.shared_memory), (kernel, [blocks, 8, 2], kib << 10));
        }
    }

    #[test]
    fn what_a_tensor_map_cannot_show_is_left_to_other_kernels() {
        let extents = |aligned, keys| Extents {
            queries: 64,
            keys,
            depth: 40,
            q_row: 320,
            k_row: 320,
            v_row: 320,
            aligned,
            scale: 1.0,
        };
        assert!(extents(1, 77).suit_hopper(DType::F16) && extents(1, 77).suit_hopper(DType::BF16));
        assert!(!extents(0, 77).suit_hopper(DType::F16));
        assert!(!extents(1, 0).suit_hopper(DType::F16));
        assert!(!extents(1, 77).suit_hopper(DType::F32));
    }
}
