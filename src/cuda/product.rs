//! What linear layers and convolutions have in common: a product of tiles, `kernels/common/product.cuh`, and what becomes
//! of its sums.
//!
//! A block computes a tile of the output. Where an item's output is so small that most of a device would idle, its sums are
//! cut into parts along K, which other blocks compute, and added up afterwards, in order. Into how many parts follows from
//! an item's shape and the device, never from the batch, and no other choice has a say in the order of a sum: so an item
//! has the same bits in every batch.

use bytemuck::{Pod, Zeroable};

use super::launch::{Launcher, Plan, activation, args, count};
use super::{Compute, Cuda, DeviceTensor, split_k};
use crate::error::Result;
use crate::ops::Activation;
use crate::tensor::{DType, Shape};

const OP: &str = "product";

/// A tile of the output, and the kernels that compute such.
#[derive(Debug)]
struct Tile {
    rows: usize,
    columns: usize,
    /// How many tiles of each factor are in shared memory at a time.
    stages: usize,
    linear: &'static str,
    conv2d: &'static str,
}

const TILES: [Tile; 3] = [
    Tile { rows: 128, columns: 128, stages: 3, linear: "linear_128x128", conv2d: "conv2d_128x128" },
    Tile { rows: 128, columns: 64, stages: 4, linear: "linear_128x64", conv2d: "conv2d_128x64" },
    Tile { rows: 64, columns: 64, stages: 4, linear: "linear_64x64", conv2d: "conv2d_64x64" },
];

/// The edge of the smallest tile.
const LEAST: usize = 64;
/// Bytes of a row of a factor's tile.
const TILE_ROW: usize = 64;

/// Where the rows of the first factor come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// A matrix.
    Matrix,
    /// What the taps of a convolution see.
    Pixels,
}

/// A product: `[rows, depth]` times `[depth, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) from: Rows,
    pub(super) element: DType,
    /// Of the whole batch.
    pub(super) rows: usize,
    /// Of one item.
    pub(super) item_rows: usize,
    /// Of the output.
    pub(super) columns: usize,
    /// Of the packed weight.
    pub(super) depth: usize,
    /// A column of the output takes two of the product: GEGLU.
    pub(super) gated: bool,
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProductPlan {
    pub(super) tiles: Plan,
    /// Into how many parts the depth is cut.
    pub(super) splits: usize,
}

impl Product {
    pub(super) fn element_bytes(&self) -> usize {
        self.element.bytes() as usize
    }

    /// Columns of the product.
    pub(super) fn width(&self) -> usize {
        if self.gated { 2 * self.columns } else { self.columns }
    }

    /// What is quickest by estimate on a device of so many multiprocessors.
    pub(super) fn plan(&self, multiprocessors: u32) -> ProductPlan {
        let splits = self.splits(multiprocessors);
        let blocks = |tile: &Tile| self.rows.div_ceil(tile.rows) * self.width().div_ceil(tile.columns);
        let cost = |tile: &&Tile| {
            // A step multiplies an area and reads its edges.
            let area = tile.rows * tile.columns;
            let step = 16 + 32 * 16 * (tile.rows + tile.columns) / area;
            load(blocks(tile) * splits, area, multiprocessors) * step
        };
        // Of equals the smallest: more blocks hide more.
        let tile = TILES.iter().rev().min_by_key(cost).unwrap_or(&TILES[0]);
        let tiles = Plan {
            kernel: if self.from == Rows::Matrix { tile.linear } else { tile.conv2d },
            element: self.element,
            grid: [blocks(tile) as u32, splits as u32, 1],
            block: [if self.element == DType::F32 { 256 } else { 128 }, 1, 1],
            shared_memory: (tile.stages * (tile.rows + tile.columns) * TILE_ROW) as u32,
        };
        ProductPlan { tiles, splits }
    }

    /// Into how many parts the depth is cut: what is quickest for two items, the batch of one guided picture. Counted in
    /// steps of the smallest tile. The constants are estimates, which no GPU has confirmed yet.
    fn splits(&self, multiprocessors: u32) -> usize {
        /// What a block costs besides its steps.
        const BLOCK: usize = 8;
        /// What the second launch costs.
        const LAUNCH: usize = 20;
        /// How many tiles are written and read again in the time of a step.
        const TILES_A_STEP: usize = 12;
        const MOST: usize = 16;
        let steps = (self.depth * self.element_bytes()).div_ceil(TILE_ROW);
        let tiles = (2 * self.item_rows).div_ceil(LEAST) * self.width().div_ceil(LEAST);
        let cost = |&splits: &usize| {
            let sum = if splits > 1 { LAUNCH + tiles * splits / TILES_A_STEP } else { 0 };
            load(tiles * splits, LEAST * LEAST, multiprocessors) * (steps.div_ceil(splits) + BLOCK) / 2 + sum
        };
        (1..=(steps / BLOCK).clamp(1, MOST)).min_by_key(cost).unwrap_or(1)
    }
}

/// Twice the time that the busiest multiprocessor takes over `blocks` tiles of an area, in those of the smallest tile when
/// all work is hidden behind other work. One such tile keeps half of it busy, three all of it.
fn load(blocks: usize, area: usize, multiprocessors: u32) -> usize {
    let tiles = blocks.div_ceil(multiprocessors.max(1) as usize) * area / (LEAST * LEAST);
    (2 * tiles).max(tiles + 3)
}

/// What becomes of a product's sums, as `kernels/common/epilogue.cuh` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Epilogue {
    y: u64,
    bias: u64,
    shift: u64,
    residual: u64,
    partial: u64,
    rows: u32,
    columns: u32,
    shift_rows: u32,
    shift_stride: u32,
    activation: u32,
    whole: u32,
}

/// A row for each so many rows of the output, out of a table.
pub(super) struct Shift {
    pub(super) pointer: u64,
    pub(super) rows: usize,
    /// Values from one row to the next.
    pub(super) stride: usize,
}

/// What a product's sums meet.
pub(super) struct Addends<'a, L: Launcher, E> {
    pub(super) bias: Option<&'a DeviceTensor<L, E>>,
    pub(super) shift: Option<Shift>,
    pub(super) residual: Option<&'a DeviceTensor<L, E>>,
    pub(super) activation: Activation,
}

/// Launches what computes `product` into `y`; `arguments` completes the epilogue to what the kernel takes.
pub(super) fn run<L: Launcher, E: Compute, A: Pod>(
    cuda: &Cuda<L, E>,
    product: &Product,
    addends: &Addends<'_, L, E>,
    y: &mut DeviceTensor<L, E>,
    arguments: impl FnOnce(Epilogue) -> A,
) -> Result<()> {
    let plan = product.plan(cuda.launcher.multiprocessors());
    let [bias, residual] = [addends.bias, addends.residual].map(|t| t.map_or(0, DeviceTensor::pointer));
    let none = Shift { pointer: 0, rows: 1, stride: 0 };
    let shift = addends.shift.as_ref().unwrap_or(&none);
    count(OP, "columns", product.width())?;
    let mut epilogue = Epilogue {
        y: y.pointer(),
        bias,
        shift: shift.pointer,
        residual,
        partial: 0,
        rows: count(OP, "rows", product.rows)?,
        columns: count(OP, "columns", product.columns)?,
        shift_rows: count(OP, "rows", shift.rows)?,
        shift_stride: count(OP, "columns", shift.stride)?,
        activation: activation(addends.activation),
        whole: u32::from(
            whole_chunks::<E>(product.columns, &[y.pointer(), bias, residual])
                && whole_chunks::<E>(shift.stride, &[shift.pointer]),
        ),
    };
    if plan.splits == 1 {
        return cuda.launch(&plan.tiles, args![arguments(epilogue)]);
    }
    let parts: Shape = [plan.splits, product.rows, product.width()].into();
    let partial = DeviceTensor::<L, f32>::empty(&cuda.pool, parts)?;
    epilogue.partial = partial.pointer();
    cuda.launch(&plan.tiles, args![arguments(epilogue)])?;
    cuda.launch(&split_k::plan(product), args![epilogue, plan.splits as u32])
}

/// Whether rows of so many elements, in all tensors that begin at these addresses, are whole chunks of 16 bytes.
pub(super) fn whole_chunks<E>(columns: usize, pointers: &[u64]) -> bool {
    const CHUNK: u64 = 16;
    let aligned = |bytes: u64| bytes.is_multiple_of(CHUNK);
    aligned((columns * size_of::<E>()) as u64) && pointers.iter().all(|&pointer| aligned(pointer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::manifest::FILES;

    /// A100, H100, RTX 4060, RTX 5090.
    const DEVICES: [u32; 4] = [108, 132, 24, 170];

    /// Products of SD 1.5 at 512 pixels, SD 2.1 at 768 and SDXL at 1024: convolutions with 3x3 taps, and linear layers.
    fn products() -> Vec<Product> {
        let levels = [
            (64, vec![320]),
            (32, vec![320, 640]),
            (16, vec![640, 1280]),
            (8, vec![1280]),
            (96, vec![320]),
            (48, vec![640]),
            (24, vec![1280]),
            (12, vec![1280]),
            (128, vec![320]),
        ];
        let mut products = Vec::new();
        for (edge, widths) in levels {
            for (&columns, batch) in widths.iter().flat_map(|width| [1, 2, 16].map(|batch| (width, batch))) {
                for (from, element, depth, gated) in [
                    (Rows::Pixels, DType::F16, 9 * columns, false),
                    (Rows::Pixels, DType::F32, 9 * 2 * columns, false),
                    (Rows::Matrix, DType::BF16, columns, false),
                    (Rows::Matrix, DType::F16, columns, true),
                    (Rows::Matrix, DType::F32, 4 * columns, false),
                ] {
                    let (rows, item_rows) = (batch * edge * edge, edge * edge);
                    products.push(Product { from, element, rows, item_rows, columns, depth, gated });
                }
            }
        }
        // The time embedding, keys and values of a prompt, the first and the last convolution.
        for (from, item_rows, columns, depth) in [
            (Rows::Matrix, 1, 1280, 320),
            (Rows::Matrix, 1, 20160, 1280),
            (Rows::Matrix, 77, 2560, 2048),
            (Rows::Pixels, 4096, 320, 72),
            (Rows::Pixels, 4096, 4, 2880),
        ] {
            let element = DType::F16;
            products.push(Product {
                from,
                element,
                rows: 2 * item_rows,
                item_rows,
                columns,
                depth,
                gated: false,
            });
        }
        products
    }

    fn tile(plan: &Plan) -> &'static Tile {
        TILES.iter().find(|tile| [tile.linear, tile.conv2d].contains(&plan.kernel)).expect("a tile's kernel")
    }

    #[test]
    fn tiles_cover_the_output_and_parts_the_depth() {
        for product in products() {
            for device in DEVICES {
                let ProductPlan { tiles, splits } = product.plan(device);
                let tile = tile(&tiles);
                let [down, across] =
                    [product.rows.div_ceil(tile.rows), product.width().div_ceil(tile.columns)];
                assert_eq!(tiles.grid, [(down * across) as u32, splits as u32, 1], "{product:?}");
                let steps = (product.depth * product.element_bytes()).div_ceil(TILE_ROW);
                assert!(splits <= steps && splits >= 1, "{product:?}: {splits} parts of {steps} steps");
            }
        }
    }

    #[test]
    fn every_plan_fits_every_device() {
        for product in products() {
            let plan = product.plan(132).tiles;
            // Half of what an RTX 4060's multiprocessor has, less what a driver keeps: so two blocks run at a time.
            assert!(plan.shared_memory <= 49 * 1024, "{plan:?}");
            assert!(plan.grid[1] <= 65_535, "{plan:?}");
        }
    }

    #[test]
    fn a_device_is_busy_wherever_there_is_work_enough() {
        for product in products().iter().filter(|product| product.rows > product.item_rows) {
            for device in DEVICES {
                let plan = product.plan(device).tiles;
                let steps = (product.depth * product.element_bytes()).div_ceil(TILE_ROW);
                let blocks = plan.grid[0] * plan.grid[1];
                let least = product.rows.div_ceil(LEAST) * product.width().div_ceil(LEAST) * steps / 24;
                let busy = (device as usize / 2).min(least);
                assert!(blocks as usize >= busy, "{product:?}: {blocks} blocks on {device}");
            }
        }
    }

    #[test]
    fn no_choice_that_changes_sums_depends_on_the_batch() {
        for product in products() {
            for device in DEVICES {
                let splits =
                    |batch| Product { rows: batch * product.item_rows, ..product }.plan(device).splits;
                assert!([2, 3, 8, 64].iter().all(|&batch| splits(batch) == splits(1)), "{product:?}");
            }
        }
    }

    #[test]
    fn small_images_are_cut_along_their_depth_and_large_ones_are_not() {
        let conv = |edge: usize, columns| Product {
            from: Rows::Pixels,
            element: DType::F16,
            rows: 2 * edge * edge,
            item_rows: edge * edge,
            columns,
            depth: 9 * columns,
            gated: false,
        };
        assert!(conv(8, 1280).plan(132).splits > 4);
        assert!(conv(16, 1280).plan(132).splits > 1);
        assert_eq!(conv(64, 320).plan(132).splits, 1);
        assert_eq!(conv(128, 320).plan(132).splits, 1);
        // What is wide enough takes the largest tile.
        assert_eq!(conv(64, 1280).plan(132).tiles.kernel, "conv2d_128x128");
    }

    #[test]
    fn the_kernels_of_all_tiles_exist() {
        let kernels: Vec<&str> =
            FILES.iter().flat_map(|file| file.kernels).map(|kernel| kernel.name).collect();
        for name in TILES.iter().flat_map(|tile| [tile.linear, tile.conv2d]) {
            assert!(kernels.contains(&name), "{name}");
        }
    }
}
