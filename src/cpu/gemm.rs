//! The matrix product that the heavy operations are made of: the `gemm` crate's microkernels on one block, one thread.

use gemm::Parallelism;

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

/// `y = a b`, or `y = y + a b` with `add`, where the rows of `y` start `stride` apart.
pub(super) fn gemm(y: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, add: bool) {
    let ([m, k], [k_b, n]) = (a.extents, b.extents);
    assert!(k == k_b, "inner extents agree");
    assert!(stride >= n && fits(y.len(), [m, n], [stride, 1]), "the product lies within its slice");
    // SAFETY: `View::new` has asserted that every element of `a` and `b` lies within its slice, the assertion above
    // that every element of `y` does, and that none of them coincide. `y` is borrowed mutably, so neither `a` nor `b`
    // overlaps it. Strides of more than one element are less than a slice's length, so they fit an isize; others the
    // product never uses.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.data.as_ptr(),
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
