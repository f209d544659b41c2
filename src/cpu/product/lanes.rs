//! How an instruction set is told to the innermost loop.

/// Implements `Lanes` by one instruction, or a few, for each of its functions.
macro_rules! lanes {
    (
        $(#[$doc:meta])* $name:ident: $features:literal, $element:ty, rows of $row:ty, $sums:ty, $terms:ty,
        $lanes:literal lanes, depth $depth:literal, parts $parts:literal, $vectors:literal vectors;
        $load:ident, $store:ident, $zero:expr, $add:ident;
        |$near:ident| $prefetch:expr;
        |$weights:ident, $part:pat_param| $load_weights:expr;
        |$pair:ident| $broadcast:expr;
        |$term:ident| $broadcast_last:expr;
        |$s:ident, $a:ident, $b:ident| $multiply_add:expr
    ) => {
        $(#[$doc])*
        pub(super) struct $name;

        // SAFETY of each: the caller says that the machine has the instructions and that the pointers are good.
        impl super::tile::Lanes for $name {
            type Element = $element;
            type Row = $row;
            type Sums = $sums;
            type Terms = $terms;
            const LANES: usize = $lanes;
            const DEPTH: usize = $depth;
            const VECTORS: usize = $vectors;
            const PARTS: usize = $parts;

            #[inline(always)]
            unsafe fn load(sums: *const f32) -> $sums {
                // SAFETY: as above.
                unsafe { $load(sums) }
            }
            #[inline(always)]
            unsafe fn store(sums: *mut f32, values: $sums) {
                // SAFETY: as above.
                unsafe { $store(sums, values) }
            }
            #[inline(always)]
            unsafe fn zero() -> $sums {
                // SAFETY: as above.
                unsafe { $zero }
            }
            #[inline(always)]
            unsafe fn add(a: $sums, b: $sums) -> $sums {
                // SAFETY: as above.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn prefetch($near: *const f32) {
                // SAFETY: as above.
                unsafe { $prefetch }
            }
            #[inline(always)]
            unsafe fn weights($weights: *const $element, $part: usize) -> $terms {
                // SAFETY: as above.
                unsafe { $load_weights }
            }
            #[inline(always)]
            unsafe fn broadcast($pair: *const $row) -> $terms {
                // SAFETY: as above.
                unsafe { $broadcast }
            }
            #[inline(always)]
            unsafe fn broadcast_last($term: *const $row) -> $terms {
                // SAFETY: as above.
                unsafe { $broadcast_last }
            }
            #[inline(always)]
            unsafe fn multiply_add($s: $sums, $a: $terms, $b: $terms) -> $sums {
                // SAFETY: as above.
                unsafe { $multiply_add }
            }
            #[target_feature(enable = $features)]
            unsafe fn tile<const R: usize, const V: usize>(job: super::tile::Job<'_, $row, $element>) {
                // SAFETY: as above.
                unsafe { super::tile::tile::<Self, R, V>(job) }
            }
        }
    };
}
pub(super) use lanes;
