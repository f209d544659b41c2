//! Products on Hopper, `kernels/product_hopper.cu`: its tiles' rows are patches of an image's pixels, which a tensor map
//! shows in boxes.

use bytemuck::{Pod, Zeroable};

use super::{Epilogue, Factors, Kind, OP, Product, ProductPlan, Tile, count};
use crate::cuda::launch::{Boxes, Launcher, args};
use crate::cuda::{Compute, Cuda};
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// Rows of a tile: pixels of a patch.
const ROWS: usize = 128;

pub(super) const KIND: Kind = Kind {
    tiles: [tile(256, 4, 384, "product_hopper_128x256"), tile(128, 3, 288, "product_hopper_128x128"), LEAST],
    step: 128,
    by_tap: true,
    block: 4,
    launch: 10,
};
const LEAST: Tile = tile(64, 4, 288, "product_hopper_128x64");

const fn tile(columns: usize, stages: usize, threads: u32, kernel: &'static str) -> Tile {
    Tile { rows: ROWS, columns, stages, threads, linear: kernel, conv2d: kernel }
}

/// What rows are outputs of: a kernel that moves over an image's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cuda) struct Image {
    pub(in crate::cuda) items: usize,
    pub(in crate::cuda) height: usize,
    pub(in crate::cuda) width: usize,
    pub(in crate::cuda) channels: usize,
    /// Taps each way.
    pub(in crate::cuda) kernel: usize,
    /// Pixels from one output to the next.
    pub(in crate::cuda) stride: usize,
    /// Whether the kernel sees each pixel as two, both ways; its stride is 1 then.
    pub(in crate::cuda) doubled: bool,
}

impl Image {
    /// A matrix, as an image one pixel high.
    pub(in crate::cuda) fn of_matrix(rows: usize, columns: usize) -> Self {
        Image { items: 1, height: 1, width: rows, channels: columns, kernel: 1, stride: 1, doubled: false }
    }

    /// What a convolution moves over, if boxes can show it. They cannot lack the second copy of a last pixel of which the
    /// first is there, as an image does that is upsampled to an odd extent.
    pub(in crate::cuda) fn of_conv2d(
        x: Shape,
        kernel: usize,
        stride: usize,
        upsample: Option<[usize; 2]>,
    ) -> Option<Self> {
        let [items, height, width, channels] = [0, 1, 2, 3].map(|at| x[at]);
        let shown = upsample.is_none_or(|to| stride == 1 && to == [2 * height, 2 * width]);
        let doubled = upsample.is_some();
        shown.then_some(Image { items, height, width, channels, kernel, stride, doubled })
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

/// How outputs are cut into patches. Where pixels are doubled, the even and the odd outputs are cut apart, both ways: what a
/// tap sees of either is a box of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patch {
    log_width: u32,
    log_height: u32,
    /// How many there are along the width, the height and the items; of even and of odd ones together.
    counts: [usize; 3],
}

impl Patch {
    /// The fewest patches; of equals the widest, then the highest.
    pub(super) fn of(image: Image) -> Self {
        let log = ROWS.ilog2();
        let kinds = if image.doubled { 2 } else { 1 };
        let cut = |extent: usize, patch| kinds * extent.div_ceil(image.stride).div_ceil(patch);
        let all = (0..=log).flat_map(|width| (0..=log - width).map(move |height| [width, height]));
        let patches = all.map(|[log_width, log_height]| {
            let extents = [1 << log_width, 1 << log_height, ROWS >> log_width >> log_height];
            let [width, height, items] = extents;
            let counts = [cut(image.width, width), cut(image.height, height), image.items.div_ceil(items)];
            Patch { log_width, log_height, counts }
        });
        let key = |patch: &Patch| (usize::MAX - patch.count(), patch.log_width, patch.log_height);
        patches.max_by_key(key).expect("a patch of one pixel's width")
    }

    pub(super) fn count(&self) -> usize {
        self.counts.iter().product()
    }

    fn extents(&self) -> [u32; 3] {
        [1 << self.log_width, 1 << self.log_height, ROWS as u32 >> self.log_width >> self.log_height]
    }
}

impl Product {
    /// Whether tensor maps can show both factors, and at least half of what they bring in a step is there. Nothing in this
    /// depends on the batch.
    pub(super) fn suits_hopper(&self) -> bool {
        let channels = self.image.map_or(0, |image| image.channels);
        let chunk = 16 / self.element_bytes();
        self.element != DType::F32
            && channels.is_multiple_of(chunk)
            && 2 * channels * self.element_bytes() >= KIND.step
            && self.rows > 0
            && self.columns > 0
    }
}

/// As `kernels/product_hopper.cu` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Products {
    items: u32,
    height: u32,
    width: u32,
    kernel: u32,
    stride: u32,
    doubled: u32,
    chunks: u32,
    across: u32,
    down: u32,
    log_width: u32,
    log_height: u32,
    padding: u32,
    epilogue: Epilogue,
}

pub(super) fn launch<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    product: &Product,
    plan: &ProductPlan,
    patch: Patch,
    image: Image,
    factors: Factors,
    epilogue: Epilogue,
) -> Result<()> {
    let Image { items, height, width, channels, kernel, stride, doubled } = image;
    let (element, bytes) = (product.element, product.element_bytes());
    let chunk = KIND.step / bytes;
    // The kernel's own name says how wide its tiles are.
    let tile = KIND.tiles.iter().find(|tile| tile.linear == plan.tiles.kernel).unwrap_or(&LEAST);
    let halves = if product.gated { 2 } else { 1 };
    let tap = product.depth / image.taps();
    let map = |pointer, extents: [usize; 4], lengths, steps| {
        let [a, b, c, _] = extents.map(|extent| extent as u64);
        let a = a * bytes as u64;
        let strides = [a, a * b, a * b * c];
        let extents = extents.map(|extent| extent as u64);
        cuda.tensor_map(&Boxes { pointer, element, extents, strides, lengths, steps })
    };
    let [patch_width, patch_height, patch_items] = patch.extents();
    let step = stride as u32;
    let x = map(
        factors.x,
        [channels, width, height, items],
        [chunk as u32, patch_width * step, patch_height * step, patch_items],
        [1, step, step, 1],
    )?;
    let weight = map(
        factors.weight,
        [tap, image.taps(), product.columns, halves],
        [chunk as u32, 1, (tile.columns / halves) as u32, halves as u32],
        [1; 4],
    )?;
    let [across, down, _] = patch.counts;
    let output = |extent: usize| if doubled { 2 * extent } else { extent.div_ceil(stride) };
    let products = Products {
        items: count(OP, "items", items)?,
        height: count(OP, "height", output(height))?,
        width: count(OP, "width", output(width))?,
        kernel: count(OP, "kernel", kernel)?,
        stride: step,
        doubled: doubled.into(),
        chunks: count(OP, "depth", tap.div_ceil(chunk))?,
        across: count(OP, "width", across)?,
        down: count(OP, "height", down)?,
        log_width: patch.log_width,
        log_height: patch.log_height,
        padding: 0,
        epilogue,
    };
    cuda.launch(&plan.tiles, args![x, weight, products])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(items: usize, height: usize, width: usize) -> ([u32; 3], usize) {
        moved(items, [height, width], 1, None)
    }

    fn moved(
        items: usize,
        [height, width]: [usize; 2],
        stride: usize,
        upsample: Option<[usize; 2]>,
    ) -> ([u32; 3], usize) {
        let x = [items, height, width, 320].into();
        let patch = Patch::of(Image::of_conv2d(x, 3, stride, upsample).expect("an image"));
        (patch.extents(), patch.count())
    }

    #[test]
    fn patches_waste_nothing_on_images_of_stable_diffusion() {
        // 512, 768 and 1024 pixels, two items.
        assert_eq!(patch(2, 64, 64), ([64, 2, 1], 64));
        assert_eq!(patch(2, 32, 32), ([32, 4, 1], 16));
        assert_eq!(patch(2, 16, 16), ([16, 8, 1], 4));
        assert_eq!(patch(2, 8, 8), ([8, 8, 2], 1));
        assert_eq!(patch(2, 96, 96), ([32, 4, 1], 144));
        assert_eq!(patch(2, 48, 48), ([16, 8, 1], 36));
        assert_eq!(patch(2, 24, 24), ([8, 8, 2], 9));
        assert_eq!(patch(2, 128, 128), ([128, 1, 1], 256));
        // Halved, and doubled.
        assert_eq!(moved(2, [64, 64], 2, None), patch(2, 32, 32));
        assert_eq!(moved(2, [16, 16], 2, None), patch(2, 8, 8));
        assert_eq!(moved(2, [32, 32], 1, Some([64, 64])), ([32, 4, 1], 64));
        assert_eq!(moved(2, [8, 8], 1, Some([16, 16])), ([8, 8, 2], 4));
        // A matrix is cut into rows.
        assert_eq!(patch(1, 1, 8192), ([128, 1, 1], 64));
    }

    #[test]
    fn patches_cover_any_image() {
        for [items, height, width] in [[1, 1, 1], [3, 5, 7], [1, 17, 130], [129, 1, 1], [5, 12, 20]] {
            let (extents, count) = patch(items, height, width);
            let fits = |extent: usize, patch: u32| extent.div_ceil(patch as usize);
            let [w, h, n] = extents;
            assert_eq!(count, fits(width, w) * fits(height, h) * fits(items, n), "{items} {height} {width}");
            assert_eq!(extents.iter().product::<u32>(), 128);
        }
    }

    #[test]
    fn a_box_reaches_no_further_than_it_may() {
        for extent in [3, 64, 127, 128, 255, 300, 4096] {
            for image in [[1, 1, extent], [1, extent, 1], [extent, 1, 1]] {
                let ([width, height, items], _) = moved(image[0], [image[1], image[2]], 2, None);
                assert!(2 * width <= 256 && 2 * height <= 256 && items <= 256, "{image:?}");
            }
        }
    }

    #[test]
    fn convolutions_that_halve_or_double_an_image_take_kernels_for_hopper() {
        let device = super::super::Gpu { multiprocessors: 132, hopper: true };
        let kernel = |[height, width]: [usize; 2], channels, stride, upsample: Option<[usize; 2]>| {
            let [rows, columns] = upsample.unwrap_or([height, width]).map(|extent| extent.div_ceil(stride));
            let product = Product {
                from: super::super::Rows::Pixels,
                image: Image::of_conv2d([2, height, width, channels].into(), 3, stride, upsample),
                element: DType::F16,
                rows: 2 * rows * columns,
                item_rows: rows * columns,
                columns: channels,
                depth: 9 * channels,
                gated: false,
            };
            product.plan(device).tiles.kernel
        };
        for channels in [320, 640, 1280] {
            for extents in [[64, 64], [65, 33], [32, 17], [9, 9]] {
                let doubled = Some(extents.map(|extent| 2 * extent));
                assert!(kernel(extents, channels, 2, None).starts_with("product_hopper"), "{extents:?}");
                assert!(kernel(extents, channels, 1, doubled).starts_with("product_hopper"), "{extents:?}");
                let odd = Some(extents.map(|extent| 2 * extent - 1));
                assert!(kernel(extents, channels, 1, odd).starts_with("conv2d"), "{extents:?}");
            }
        }
    }

    #[test]
    fn what_a_tensor_map_cannot_show_is_left_to_other_kernels() {
        let product = |element, channels| Product {
            from: super::super::Rows::Matrix,
            image: Some(Image::of_matrix(77, channels)),
            element,
            rows: 77,
            item_rows: 77,
            columns: 640,
            depth: channels,
            gated: false,
        };
        assert!(product(DType::F16, 320).suits_hopper() && product(DType::BF16, 40).suits_hopper());
        // Rows that are no multiple of 16 bytes, that fill too little of a step, and f32.
        assert!(!product(DType::F16, 324).suits_hopper());
        assert!(!product(DType::F16, 24).suits_hopper());
        assert!(!product(DType::F32, 320).suits_hopper());
    }
}
