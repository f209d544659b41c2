//! The matrix product that the heavy operations are made of: the `gemm` crate's microkernels on one block, one thread.

use gemm::Parallelism;

use super::threads::with_scratch;

/// A matrix in a slice: `element(i, j) = data[i strides[0] + j strides[1]]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    extents: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// The matrix with these extents and strides over `data`, which must hold all of it.
    pub(super) fn new(data: &'a [f32], extents: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(fits(data.len(), extents, strides), "a view lies within its data");
        View { data, extents, strides }
    }

    /// A row-major matrix whose rows start `stride` apart.
    pub(super) fn rows(data: &'a [f32], extents: [usize; 2], stride: usize) -> Self {
        View::new(data, extents, [stride, 1])
    }
}

/// Whether the last element lies within `len` values.
fn fits(len: usize, extents: [usize; 2], strides: [usize; 2]) -> bool {
    extents.contains(&0) || (extents[0] - 1) * strides[0] + (extents[1] - 1) * strides[1] < len
}

/// Terms that one product sums. The crate splits longer sums by the block's size and the machine's caches, which would
/// let an item's bits depend on its batch.
const DEPTH: usize = 512;

/// `y = a b`, or `y = y + a b` with `add`, where the rows of `y` start `stride` apart.
pub(super) fn gemm(y: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, add: bool) {
    let ([m, k], [k_b, n]) = (a.extents, b.extents);
    assert!(k == k_b, "inner extents agree");
    assert!(stride >= n && fits(y.len(), [m, n], [stride, 1]), "the product lies within its slice");
    if m == 1 {
        return single_row(y, a, b, add);
    }
    // A sum of no terms is still written.
    for first in (0..k.max(1)).step_by(DEPTH) {
        // SAFETY: `View::new` has asserted that every element of `a` and `b` lies within its slice, and terms `first..`
        // of them are among those. The assertion above says that every element of `y` lies within its slice, and that
        // none of them coincide. `y` is borrowed mutably, so neither `a` nor `b` overlaps it. A stride is less than a
        // slice's length where there is anything to stride to, so it fits an isize.
        unsafe {
            gemm::gemm(
                m,
                n,
                DEPTH.min(k - first),
                y.as_mut_ptr(),
                1,
                stride as isize,
                add || first > 0,
                a.data.as_ptr().wrapping_add(first * a.strides[1]),
                a.strides[1] as isize,
                a.strides[0] as isize,
                b.data.as_ptr().wrapping_add(first * b.strides[0]),
                b.strides[1] as isize,
                b.strides[0] as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// A product of one row. The crate would sum it in another order than that row in a larger batch, so it goes in twice.
fn single_row(y: &mut [f32], a: View<'_>, b: View<'_>, add: bool) {
    let ([_, k], [_, n]) = (a.extents, b.extents);
    let twice = View { extents: [2, k], strides: [0, a.strides[1]], ..a };
    with_scratch(2 * n, |rows| {
        rows[..n].copy_from_slice(&y[..n]);
        gemm(rows, n, twice, b, add);
        y[..n].copy_from_slice(&rows[..n]);
    });
}

/// How many of `rows` rows of a product make a block: enough to pay for reading the weight, but where there are few rows
/// not so many that threads go without. Depends on nothing but the shape.
pub(super) fn block_rows(rows: usize) -> usize {
    const FEW: usize = 1024;
    if rows < FEW { 64 } else { 128 }
}
