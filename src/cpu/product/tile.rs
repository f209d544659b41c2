//! The innermost loop: a few rows times one panel of a packed weight, with all sums in registers.
//!
//! For every `k`, the panel's weights are loaded, `k` of each row is broadcast, and each pair multiplied and added. The
//! rows are read where they lie, by pointer, one for each tap of a convolution's kernel: an image is never gathered into
//! a matrix (the indirect convolution of Dukhan 2019, arXiv 1907.02129).

#![expect(
    clippy::needless_range_loop,
    reason = "rows and vectors, by their numbers, as the formula has them"
)]

use std::sync::atomic::{Ordering, compiler_fence};

use super::super::Compute;
use super::PIECES;
use crate::simd::Ahead;

/// Rows of a tile, at most. With four vectors of columns their sums take 24 registers of AVX-512's 32, with two 12 of
/// AVX2's 16; what is left holds the weights and a broadcast.
pub(in super::super) const ROWS: usize = 6;

/// Terms between which a tile asks for memory.
const TURN: usize = 16;

/// Vector arithmetic on sums of products, and what it wants of a packed weight's layout.
pub(super) trait Lanes {
    /// What weights hold.
    type Element: Compute;
    /// What rows hold: the same, or f32 where they are widened before.
    type Row: Compute;
    /// A vector of sums.
    type Sums: Copy;
    /// A vector of what is multiplied at once, for each sum.
    type Terms: Copy;
    /// Sums of a vector.
    const LANES: usize;
    /// Terms whose weights lie together.
    const DEPTH: usize;
    /// Vectors of a panel.
    const VECTORS: usize;
    /// Parts that these are multiplied in, one after the other, where no instruction can at once.
    const PARTS: usize;

    /// # Safety
    /// So for all of these: the machine has the instruction set, and `LANES` sums, `LANES * DEPTH` weights, a part of
    /// `DEPTH` terms or (for `last`) one term can be accessed at the pointer.
    unsafe fn load(sums: *const f32) -> Self::Sums;
    unsafe fn store(sums: *mut f32, values: Self::Sums);
    unsafe fn zero() -> Self::Sums;
    unsafe fn add(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    unsafe fn prefetch(sums: *const f32);
    /// One part of some weights.
    unsafe fn weights(weights: *const Self::Element, part: usize) -> Self::Terms;
    unsafe fn broadcast(terms: *const Self::Row) -> Self::Terms;
    /// A row's last term where it lacks others of its part, followed by zeros.
    unsafe fn broadcast_last(term: *const Self::Row) -> Self::Terms;
    unsafe fn multiply_add(sums: Self::Sums, a: Self::Terms, b: Self::Terms) -> Self::Sums;

    /// [`tile`], compiled for the instruction set.
    unsafe fn tile<const R: usize, const V: usize>(job: Job<'_, Self::Row, Self::Element>);
}

/// What a tile is computed from.
pub(in super::super) struct Job<'a, X, E> {
    /// For each tap, where its terms begin in each row.
    pub(in super::super) starts: &'a [[*const X; ROWS]],
    /// Terms of a tap.
    pub(in super::super) terms: usize,
    /// For all taps' terms, `DEPTH` together, the panel's columns, each with its `DEPTH` weights.
    pub(in super::super) weights: *const E,
    /// The sums, rows `stride` apart.
    pub(in super::super) sums: *mut f32,
    pub(in super::super) stride: usize,
    /// Whether they hold what earlier terms came to.
    pub(in super::super) add: bool,
    /// Memory that will be needed, of which so many lines are asked for on the way.
    pub(in super::super) ahead: &'a mut Ahead<PIECES>,
    pub(in super::super) lines: usize,
}

/// Computes `R` rows of `V` vectors of columns.
///
/// # Safety
/// As the functions of [`Lanes`], for everything that `job` points to.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const R: usize, const V: usize>(job: Job<'_, L::Row, L::Element>) {
    let lines = job.lines.div_ceil(job.starts.len() * job.terms.div_ceil(TURN));
    // SAFETY: the caller's.
    unsafe {
        if job.add {
            // By the time that they are added to, they are there.
            for r in 0..R {
                for v in 0..V {
                    L::prefetch(job.sums.add(r * job.stride + v * L::LANES));
                }
            }
        }
        let mut sums = [[L::zero(); V]; R];
        let mut weights = job.weights;
        for &starts in job.starts {
            let whole = job.terms - job.terms % L::DEPTH;
            for first in (0..whole).step_by(TURN) {
                job.ahead.ask(lines);
                for k in (first..whole.min(first + TURN)).step_by(L::DEPTH) {
                    step::<L, R, V>(&mut sums, weights, L::PARTS, |r, part| {
                        L::broadcast(starts[r].add(k + part))
                    });
                    weights = weights.add(V * L::LANES * L::DEPTH);
                }
            }
            if whole < job.terms {
                step::<L, R, V>(&mut sums, weights, 1, |r, _| L::broadcast_last(starts[r].add(whole)));
                weights = weights.add(V * L::LANES * L::DEPTH);
            }
        }
        for r in 0..R {
            for v in 0..V {
                let to = job.sums.add(r * job.stride + v * L::LANES);
                L::store(to, if job.add { L::add(L::load(to), sums[r][v]) } else { sums[r][v] });
            }
        }
    }
}

#[inline(always)]
unsafe fn step<L: Lanes, const R: usize, const V: usize>(
    sums: &mut [[L::Sums; V]; R],
    weights: *const L::Element,
    parts: usize,
    broadcast: impl Fn(usize, usize) -> L::Terms,
) {
    // SAFETY: the caller's.
    unsafe {
        for part in 0..parts {
            if part > 0 {
                // What the parts have in common is loaded again: to hold it, AVX2 has too few registers.
                compiler_fence(Ordering::SeqCst);
            }
            let mut terms = [L::weights(weights, part); V];
            for v in 1..V {
                terms[v] = L::weights(weights.add(v * L::LANES * L::DEPTH), part);
            }
            for r in 0..R {
                let x = broadcast(r, part);
                for v in 0..V {
                    sums[r][v] = L::multiply_add(sums[r][v], x, terms[v]);
                }
            }
        }
    }
}

/// The tiles of one instruction set, and the layout of the panels they read.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<E> {
    /// Columns of a vector.
    pub(in super::super) lanes: usize,
    /// Columns of a panel.
    pub(in super::super) panel: usize,
    /// Columns of some panels, whose sums are finished together.
    pub(super) span: usize,
    /// Terms that lie together.
    pub(in super::super) depth: usize,
    /// Terms that a tap's weights are filled up to a multiple of, by zeros.
    pub(in super::super) step: usize,
    pub(super) run: Run<E>,
}

/// What computes sums.
#[derive(Debug, Clone, Copy)]
pub(super) enum Run<E> {
    /// A tile's, by vectors.
    Vectors(Multiply<E, E>),
    /// The same, of rows that were widened.
    Widened(Multiply<f32, E>),
    /// A block's, by AMX; `E` is bf16.
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

/// Computes so many rows, at most [`ROWS`], of so many vectors of a panel. Unsafe, for the machine has to have the
/// instruction set, and `job` to point to what it says for that many.
pub(super) type Multiply<X, E> = unsafe fn(usize, usize, Job<'_, X, E>);

impl<E> Kernel<E> {
    /// Of vectors that multiply what rows hold.
    pub(super) fn of<L: Lanes<Element = E, Row = E>>() -> Self {
        Self::by_vectors::<L>(1, Run::Vectors(run::<L>))
    }

    /// Of vectors that multiply f32. Spans of two panels, so that rows are widened for no more than every second.
    pub(super) fn widening<L: Lanes<Element = E, Row = f32>>() -> Self {
        Self::by_vectors::<L>(2, Run::Widened(run::<L>))
    }

    fn by_vectors<L: Lanes<Element = E>>(panels: usize, run: Run<E>) -> Self {
        let panel = L::LANES * L::VECTORS;
        Kernel { lanes: L::LANES, panel, span: panels * panel, depth: L::DEPTH, step: L::DEPTH, run }
    }

    /// The width of a panel for the last `columns` columns: a power of two vectors.
    pub(in super::super) fn width(&self, columns: usize) -> usize {
        (columns.div_ceil(self.lanes).next_power_of_two() * self.lanes).min(self.panel)
    }
}

/// # Safety
/// As of [`Multiply`].
unsafe fn run<L: Lanes>(rows: usize, vectors: usize, job: Job<'_, L::Row, L::Element>) {
    // SAFETY: the caller's.
    unsafe {
        match (rows, vectors) {
            (1, 1) => L::tile::<1, 1>(job),
            (2, 1) => L::tile::<2, 1>(job),
            (3, 1) => L::tile::<3, 1>(job),
            (4, 1) => L::tile::<4, 1>(job),
            (5, 1) => L::tile::<5, 1>(job),
            (6, 1) => L::tile::<6, 1>(job),
            (1, 2) => L::tile::<1, 2>(job),
            (2, 2) => L::tile::<2, 2>(job),
            (3, 2) => L::tile::<3, 2>(job),
            (4, 2) => L::tile::<4, 2>(job),
            (5, 2) => L::tile::<5, 2>(job),
            (6, 2) => L::tile::<6, 2>(job),
            (1, 4) => L::tile::<1, 4>(job),
            (2, 4) => L::tile::<2, 4>(job),
            (3, 4) => L::tile::<3, 4>(job),
            (4, 4) => L::tile::<4, 4>(job),
            (5, 4) => L::tile::<5, 4>(job),
            (6, 4) => L::tile::<6, 4>(job),
            _ => unreachable!("a tile has 1 to 6 rows and 1, 2 or 4 vectors"),
        }
    }
}
