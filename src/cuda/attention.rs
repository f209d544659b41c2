mod hopper;

use bytemuck::{Pod, Zeroable};

use super::launch::{Launcher, Plan, args};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::{Error, Result};
use crate::ops::{Attention, Columns};
use crate::tensor::{DType, Shape, Shaped};

const OP: &str = "attention";
const THREADS: u32 = 128;

/// As `kernels/common/attention.cuh` has it.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Extents {
    queries: i32,
    keys: i32,
    depth: i32,
    q_row: u32,
    k_row: u32,
    v_row: u32,
    aligned: u32,
    scale: f32,
}

/// A kernel, and the depth of a head that it holds.
type Instance = (&'static str, u32);

const ANYWHERE: [Instance; 6] = [
    ("attention_d32", 32),
    ("attention_d40", 40),
    ("attention_d64", 64),
    ("attention_d80", 80),
    ("attention_d128", 128),
    ("attention_d160", 160),
];

/// The kernel for the smallest depth that holds this one.
fn instance(instances: &[Instance], depth: usize) -> Result<Instance> {
    let found = instances.iter().copied().find(|&(_, most)| depth <= most as usize);
    found.ok_or_else(|| {
        let (what, expected) = ("channels of a head", "at most 160".into());
        Error::Value { op: OP, what, expected, got: depth.to_string() }
    })
}

/// Queries and keys of a tile.
fn tile(element: DType, depth: u32) -> [u32; 2] {
    match element {
        DType::F32 => [64, 32],
        _ if depth <= 80 => [128, 64],
        _ => [64, 64],
    }
}

/// What a block needs: tiles of Q, K and V, their rows an odd number of 16-byte chunks, and in f32 of weights.
fn shared_memory(element: DType, depth: u32) -> u32 {
    let [queries, keys] = tile(element, depth);
    let bytes = if element == DType::F32 { 4 } else { 2 };
    let row = ((depth * bytes / 16) | 1) * 16;
    let weights = if element == DType::F32 { queries * (keys + 4) * bytes } else { 0 };
    (queries + 2 * keys) * row + weights
}

/// What computes `y`; `hopper` tells of a device that runs kernels for Hopper, and of rows that tensor maps can show.
pub(super) fn plan(element: DType, y: Shape, heads: usize, hopper: bool) -> Result<Plan> {
    let (items, queries, depth) = (y[0], y.rows() / y[0], y.channels() / heads);
    let (kernel, tile, threads, shared_memory) = if hopper {
        let (kernel, most) = instance(&hopper::INSTANCES, depth)?;
        (kernel, hopper::QUERIES, hopper::THREADS, hopper::shared_memory(most))
    } else {
        let (kernel, most) = instance(&ANYWHERE, depth)?;
        let [queries, _] = tile(element, most);
        (kernel, queries, THREADS, shared_memory(element, most))
    };
    Ok(Plan {
        kernel,
        element,
        grid: [
            grid("queries", queries.div_ceil(tile as usize))?,
            grid("heads", heads)?,
            grid("items", items)?,
        ],
        block: [threads, 1, 1],
        shared_memory,
    })
}

/// Blocks along one dimension of the grid.
fn grid(what: &'static str, blocks: usize) -> Result<u32> {
    const MOST: u32 = 65_535;
    let fits = u32::try_from(blocks).ok().filter(|&blocks| blocks <= MOST);
    fits.ok_or_else(|| Error::Value {
        op: OP,
        what,
        expected: format!("at most {MOST} blocks"),
        got: blocks.to_string(),
    })
}

fn extents(op: &Attention<'_, impl crate::ops::Backend>, element_bytes: usize) -> Result<Extents> {
    let depth = op.channels / op.heads;
    let rows = [&op.q, &op.k, &op.v].map(|columns| columns.tensor.shape().channels());
    let firsts = [&op.q, &op.k, &op.v].map(|columns| columns.first);
    let lanes = 16 / element_bytes;
    let aligned = [rows, firsts].as_flattened().iter().chain([&depth]).all(|n| n.is_multiple_of(lanes));
    let tokens = |shape: Shape| i32::try_from(shape.rows() / shape[0]);
    let sizes = || -> Result<Extents, std::num::TryFromIntError> {
        Ok(Extents {
            queries: tokens(op.q.tensor.shape())?,
            keys: tokens(op.k.tensor.shape())?,
            depth: depth.try_into()?,
            q_row: rows[0].try_into()?,
            k_row: rows[1].try_into()?,
            v_row: rows[2].try_into()?,
            aligned: aligned.into(),
            scale: (std::f64::consts::LOG2_E / (depth as f64).sqrt()) as f32,
        })
    };
    sizes().map_err(|_| {
        let (what, expected) = ("extents", "below 2^31".into());
        Error::Value {
            op: OP,
            what,
            expected,
            got: format!("{} and {}", op.q.tensor.shape(), op.k.tensor.shape()),
        }
    })
}

pub(super) fn attention<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Attention<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let extents = extents(op, size_of::<E>())?;
    let hopper = cuda.launcher.runs_hopper() && extents.suit_hopper(E::DTYPE);
    let plan = plan(E::DTYPE, y.shape(), op.heads, hopper)?;
    if hopper {
        return hopper::launch(cuda, op, &plan, extents, y);
    }
    let [q, k, v] = [&op.q, &op.k, &op.v].map(pointer);
    cuda.launch(&plan, args![q, k, v, y.pointer(), extents])
}

/// Where an operand's first row begins.
fn pointer<L: Launcher, E: Compute>(columns: &Columns<'_, Cuda<L, E>>) -> u64 {
    columns.tensor.pointer() + (columns.first * size_of::<E>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_for_stable_diffusion() {
        // Batch 2 at 512 x 512: 8 heads, levels of 64, 32, 16 and 8 pixels a side.
        for (side, channels, kernel, blocks) in [
            (64, 320, "attention_d40", 32),
            (32, 640, "attention_d80", 8),
            (16, 1280, "attention_d160", 4),
            (8, 1280, "attention_d160", 1),
        ] {
            let plan = plan(DType::F16, [2, side, side, channels].into(), 8, false).unwrap();
            assert_eq!((plan.kernel, plan.grid), (kernel, [blocks, 8, 2]));
        }
        let sdxl = plan(DType::BF16, [2, 64, 64, 640].into(), 10, false).unwrap();
        assert_eq!((sdxl.kernel, sdxl.grid), ("attention_d64", [32, 10, 2]));
    }

    #[test]
    fn every_tile_fits_any_supported_device() {
        const MOST_OF_THE_SMALLEST: u32 = 99 << 10;
        for element in [DType::F32, DType::F16, DType::BF16] {
            for depth in 1..=160 {
                let plan = plan(element, [1, 7, depth].into(), 1, false).unwrap();
                assert!(
                    plan.shared_memory <= MOST_OF_THE_SMALLEST,
                    "{element} {depth}: {}",
                    plan.shared_memory
                );
            }
        }
    }

    #[test]
    fn too_deep_a_head_is_refused() {
        let error = plan(DType::F16, [1, 7, 161].into(), 1, false).unwrap_err();
        assert!(matches!(error, Error::Value { what: "channels of a head", .. }), "{error}");
    }
}
