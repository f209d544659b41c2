//! What linear layers and convolutions have in common: a product of tiles, `kernels/common/product.cuh`, and what becomes
//! of its sums.
//!
//! A block computes a tile of the output. Where an item's output is so small that most of a device would idle, its sums are
//! cut into parts along K, which other blocks compute, and added up afterwards, in order. Into how many parts follows from
//! an item's shape and the device, never from the batch, and no other choice has a say in the order of a sum: so an item
//! has the same bits in every batch.

mod hopper;

use bytemuck::{Pod, Zeroable};

use super::launch::{Launcher, Plan, activation, args, count};
use super::{Compute, Cuda, DeviceTensor, split_k};
use crate::error::Result;
use crate::ops::Activation;
use crate::tensor::{DType, Shape};

pub(super) use hopper::Image;
use hopper::Patch;

const OP: &str = "product";

/// A tile of the output, and the kernels that compute such.
#[derive(Debug)]
struct Tile {
    rows: usize,
    columns: usize,
    /// How many tiles of each factor are in shared memory at a time.
    stages: usize,
    /// Of a block, for 16-bit elements; twice as many for f32.
    threads: u32,
    linear: &'static str,
    conv2d: &'static str,
}

/// Kernels of one kind, and what is weighed to choose among them. The unit of time is a step of the smallest tile. The
/// constants are estimates, which no GPU has confirmed yet.
#[derive(Debug)]
struct Kind {
    /// The smallest one last.
    tiles: [Tile; 3],
    /// Bytes of a row of a factor's tile: how deep a step goes.
    step: usize,
    /// Whether a step ends with its tap, though the next would have room in it.
    by_tap: bool,
    /// What a block costs besides its steps.
    block: usize,
    /// What the second launch costs.
    launch: usize,
}

const ANYWHERE: Kind = Kind {
    tiles: [
        Tile {
            rows: 128,
            columns: 128,
            stages: 3,
            threads: 128,
            linear: "linear_128x128",
            conv2d: "conv2d_128x128",
        },
        Tile {
            rows: 128,
            columns: 64,
            stages: 4,
            threads: 128,
            linear: "linear_128x64",
            conv2d: "conv2d_128x64",
        },
        Tile {
            rows: 64,
            columns: 64,
            stages: 4,
            threads: 128,
            linear: "linear_64x64",
            conv2d: "conv2d_64x64",
        },
    ],
    step: 64,
    by_tap: false,
    block: 8,
    launch: 20,
};

impl Kind {
    fn least(&self) -> &Tile {
        &self.tiles[2]
    }
}

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
    /// What the rows are of, if a tensor map can show it.
    pub(super) image: Option<Image>,
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

/// What a plan depends on of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gpu {
    pub(super) multiprocessors: u32,
    pub(super) hopper: bool,
}

impl Gpu {
    fn of(launcher: &impl Launcher) -> Self {
        Gpu { multiprocessors: launcher.multiprocessors(), hopper: launcher.runs_hopper() }
    }
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProductPlan {
    pub(super) tiles: Plan,
    /// Into how many parts the depth is cut.
    pub(super) splits: usize,
    /// Of a kernel for Hopper: what its tiles' rows are.
    patch: Option<Patch>,
}

impl Product {
    pub(super) fn element_bytes(&self) -> usize {
        self.element.bytes() as usize
    }

    /// Columns of the product.
    pub(super) fn width(&self) -> usize {
        if self.gated { 2 * self.columns } else { self.columns }
    }

    /// What is quickest by estimate on a device.
    pub(super) fn plan(&self, gpu: Gpu) -> ProductPlan {
        let patch = self.image.filter(|_| gpu.hopper && self.suits_hopper()).map(Patch::of);
        let kind = if patch.is_some() { &hopper::KIND } else { &ANYWHERE };
        let splits = self.splits(kind, gpu.multiprocessors);
        let blocks = |tile: &Tile| {
            let down = patch.map_or(self.rows.div_ceil(tile.rows), |patch| patch.count());
            down * self.width().div_ceil(tile.columns)
        };
        let cost = |tile: &&Tile| {
            // A step multiplies an area and reads its edges.
            let area = tile.rows * tile.columns;
            let step = 16 + 32 * 16 * (tile.rows + tile.columns) / area;
            kind.load(blocks(tile) * splits, tile, gpu.multiprocessors) * step
        };
        // Of equals the smallest: more blocks hide more.
        let tile = kind.tiles.iter().rev().min_by_key(cost).unwrap_or(kind.least());
        let tiles = Plan {
            kernel: if self.from == Rows::Matrix { tile.linear } else { tile.conv2d },
            element: self.element,
            grid: [blocks(tile) as u32, splits as u32, 1],
            block: [if self.element == DType::F32 { 2 * tile.threads } else { tile.threads }, 1, 1],
            shared_memory: (tile.stages * (tile.rows + tile.columns) * kind.step) as u32,
        };
        ProductPlan { tiles, splits, patch }
    }

    /// Steps along the depth.
    fn steps(&self, kind: &Kind) -> usize {
        let taps = self.image.filter(|_| kind.by_tap).map_or(1, |image| image.taps());
        taps * (self.depth / taps * self.element_bytes()).div_ceil(kind.step)
    }

    /// Into how many parts the depth is cut: what is quickest for two items, the batch of one guided picture.
    fn splits(&self, kind: &Kind, multiprocessors: u32) -> usize {
        /// How many of the smallest tiles are written and read again in the time of a step.
        const TILES_A_STEP: usize = 12;
        const MOST: usize = 16;
        let (steps, least) = (self.steps(kind), kind.least());
        let tiles = (2 * self.item_rows).div_ceil(least.rows) * self.width().div_ceil(least.columns);
        let cost = |&splits: &usize| {
            let sum = if splits > 1 { kind.launch + tiles * splits / TILES_A_STEP } else { 0 };
            kind.load(tiles * splits, least, multiprocessors) * (steps.div_ceil(splits) + kind.block) / 2
                + sum
        };
        (1..=(steps / kind.block).clamp(1, MOST)).min_by_key(cost).unwrap_or(1)
    }
}

impl Kind {
    /// Twice the time that the busiest multiprocessor takes over so many tiles, in those of the smallest tile when all work
    /// is hidden behind other work. One such tile keeps half of it busy, three all.
    fn load(&self, blocks: usize, tile: &Tile, multiprocessors: u32) -> usize {
        let area = |tile: &Tile| tile.rows * tile.columns;
        let tiles = blocks.div_ceil(multiprocessors.max(1) as usize) * area(tile) / area(self.least());
        (2 * tiles).max(tiles + 3)
    }
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

/// Where a product's factors begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    pub(super) x: u64,
    pub(super) weight: u64,
}

/// Launches what computes `product` into `y`; `arguments` completes the epilogue to what the kernel takes, if it is not
/// one for Hopper.
pub(super) fn run<L: Launcher, E: Compute, A: Pod>(
    cuda: &Cuda<L, E>,
    product: &Product,
    factors: Factors,
    addends: &Addends<'_, L, E>,
    y: &mut DeviceTensor<L, E>,
    arguments: impl FnOnce(Epilogue) -> A,
) -> Result<()> {
    let plan = product.plan(Gpu::of(&*cuda.launcher));
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
    let launch = |epilogue| match (plan.patch, product.image) {
        (Some(patch), Some(image)) => hopper::launch(cuda, product, &plan, patch, image, factors, epilogue),
        _ => cuda.launch(&plan.tiles, args![arguments(epilogue)]),
    };
    if plan.splits == 1 {
        return launch(epilogue);
    }
    let parts: Shape = [plan.splits, product.rows, product.width()].into();
    let partial = DeviceTensor::<L, f32>::empty(&cuda.pool, parts)?;
    epilogue.partial = partial.pointer();
    launch(epilogue)?;
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

    /// A100, RTX 4060, RTX 5090, and H100 with and without the kernels that are its own.
    const DEVICES: [Gpu; 5] = [plain(108), plain(24), plain(170), plain(132), HOPPER];
    const HOPPER: Gpu = Gpu { multiprocessors: 132, hopper: true };

    const fn plain(multiprocessors: u32) -> Gpu {
        Gpu { multiprocessors, hopper: false }
    }

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
                    let image = match from {
                        Rows::Matrix => Some(Image::of_matrix(rows, depth)),
                        Rows::Pixels => Image::of_conv2d([batch, edge, edge, depth / 9].into(), 3, 1, None),
                    };
                    products.push(Product { from, image, element, rows, item_rows, columns, depth, gated });
                }
            }
        }
        // What halves an image, and what doubles it.
        for (edge, columns) in [(64, 320), (32, 640), (16, 1280), (8, 1280), (96, 320), (48, 640), (128, 320)]
        {
            for (y, stride, upsample) in [(edge / 2, 2, None), (2 * edge, 1, Some([2 * edge; 2]))] {
                products.push(Product {
                    from: Rows::Pixels,
                    image: Image::of_conv2d([2, edge, edge, columns].into(), 3, stride, upsample),
                    element: DType::BF16,
                    rows: 2 * y * y,
                    item_rows: y * y,
                    columns,
                    depth: 9 * columns,
                    gated: false,
                });
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
                image: None,
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

    fn kinds_and_tiles() -> impl Iterator<Item = (&'static Kind, &'static Tile)> {
        [&ANYWHERE, &hopper::KIND]
            .into_iter()
            .flat_map(|kind| kind.tiles.iter().map(move |tile| (kind, tile)))
    }

    fn kind_and_tile(plan: &Plan) -> (&'static Kind, &'static Tile) {
        let computes = |(_, tile): &(&Kind, &Tile)| [tile.linear, tile.conv2d].contains(&plan.kernel);
        kinds_and_tiles().find(computes).expect("a tile's kernel")
    }

    #[test]
    fn tiles_cover_the_output_and_parts_the_depth() {
        for product in products() {
            for device in DEVICES {
                let ProductPlan { tiles, splits, patch } = product.plan(device);
                let (kind, tile) = kind_and_tile(&tiles);
                let [down, across] =
                    [product.rows.div_ceil(tile.rows), product.width().div_ceil(tile.columns)];
                let down = patch.map_or(down, |patch| patch.count());
                assert_eq!(tiles.grid, [(down * across) as u32, splits as u32, 1], "{product:?}");
                let steps = product.steps(kind);
                assert!(splits <= steps && splits >= 1, "{product:?}: {splits} parts of {steps} steps");
            }
        }
    }

    #[test]
    fn every_plan_fits_every_device() {
        for product in products() {
            let plan = product.plan(plain(132)).tiles;
            // Half of what an RTX 4060's multiprocessor has, less what a driver keeps: so two blocks run at a time.
            assert!(plan.shared_memory <= 49 * 1024, "{plan:?}");
            assert!(plan.grid[1] <= 65_535, "{plan:?}");
            // What a block of an H100 has, and half of its multiprocessor's.
            let plan = product.plan(HOPPER).tiles;
            let most = if plan.block[0] > 288 { 226 * 1024 } else { 112 * 1024 };
            assert!(plan.shared_memory <= most && plan.grid[1] <= 65_535, "{plan:?}");
        }
    }

    #[test]
    fn a_device_is_busy_wherever_there_is_work_enough() {
        for product in products().iter().filter(|product| product.rows > product.item_rows) {
            for device in DEVICES {
                let plan = product.plan(device).tiles;
                let (kind, _) = kind_and_tile(&plan);
                let (steps, least) = (product.steps(kind), kind.least());
                let blocks = plan.grid[0] * plan.grid[1];
                let tiles = product.rows.div_ceil(least.rows) * product.width().div_ceil(least.columns);
                let busy = (device.multiprocessors as usize / 2).min(tiles * steps / 24);
                assert!(blocks as usize >= busy, "{product:?}: {blocks} blocks on {device:?}");
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
            image: None,
            element: DType::F16,
            rows: 2 * edge * edge,
            item_rows: edge * edge,
            columns,
            depth: 9 * columns,
            gated: false,
        };
        assert!(conv(8, 1280).plan(plain(132)).splits > 4);
        assert!(conv(16, 1280).plan(plain(132)).splits > 1);
        assert_eq!(conv(64, 320).plan(plain(132)).splits, 1);
        assert_eq!(conv(128, 320).plan(plain(132)).splits, 1);
        // What is wide enough takes the largest tile.
        assert_eq!(conv(64, 1280).plan(plain(132)).tiles.kernel, "conv2d_128x128");
    }

    #[test]
    fn the_kernels_of_all_tiles_exist() {
        let kernels: Vec<&str> =
            FILES.iter().flat_map(|file| file.kernels).map(|kernel| kernel.name).collect();
        for name in kinds_and_tiles().flat_map(|(_, tile)| [tile.linear, tile.conv2d]) {
            assert!(kernels.contains(&name), "{name}");
        }
    }
}
