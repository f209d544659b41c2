//! The matrix product that linear layers and convolutions are: rows of `x` times a packed weight.
//!
//! The output is cut into blocks of rows by panels of columns, which are shared over the threads. Within one, the sums
//! over a part of the terms are computed tile by tile while the part of the panel that they need stays in cache, then
//! those over the next part are added to them; when a tile's are whole, what follows takes them to the output while the
//! nearest cache has them. Memory that the end of a tile, the next tile or the next part will need is asked for a few lines
//! at a time while the tile is computed. The order of every sum depends on the weight alone, so a row has the same bits in
//! any company.
//!
//! Tried and lost, on two cores of a Zen 4, 8192x320x2560 in f32 at 198 GFLOP/s and 3x3 over 320 channels in bf16 at 431:
//! one panel to a task, whose rows then come from memory anew for each (135); sums that are loaded before they are added
//! to, rows found by division, and one tap at a time (390 in bf16); what follows for a whole block
//! of rows at once, and memory that is not asked for (8192x320x320 with a residual in bf16, 235 instead of 290). The
//! `gemm` crate reached 200 to 210 in f32. In f32 on a core of an Emerald Rapids at 177 in registers: all that a tile needs
//! asked for at once, in front of it (1024x2560x640, 130 instead of 161; 256x1280x10240 with GEGLU, 134 instead of 158).
//! There two panels to a span make most shapes 2 to 4 % faster by themselves, GEGLU 2 % slower, and a UNet no faster;
//! parts of a quarter or half the size change nothing, of twice the size 2 to 3 % from 2,560 terms on, of more are slower;
//! tiles of 14 rows by two vectors are 4 % slower, and 4 % faster where bf16 is widened.

#[cfg(target_arch = "x86_64")]
mod amx;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use half::bf16;

pub(super) use tile::Kernel;
use tile::{Job, Multiply, ROWS, Run};

use super::epilogue::bias_of;
use super::threads::{share, tiles, with_scratch};
use super::{Compute, Isa, PackedWeight};
use crate::error::Result;
use crate::pool::{HostMemory, Pool, PooledTensor};
use crate::simd::{Ahead, vectorised};

pub(super) fn kernel_f32(isa: Isa) -> Kernel<f32> {
    match isa.in_f32() {
        Isa::Portable => Kernel::of::<portable::Portable>(),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Kernel::of::<neon::Neon>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel::of::<x86::Avx2>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Kernel::of::<x86::Avx512>(),
        _ => unreachable!("a backend has only what its machine has"),
    }
}

pub(super) fn kernel_bf16(isa: Isa) -> Kernel<bf16> {
    match isa {
        Isa::Portable => Kernel::widening::<portable::PortableBf16>(),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Kernel::widening::<neon::NeonBf16>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel::widening::<x86::Avx2Bf16>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Kernel::widening::<x86::Avx512Widening>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => Kernel::of::<x86::Avx512Bf16>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => amx::kernel(),
        _ => unreachable!("a backend has only what its machine has"),
    }
}

/// Where the terms of a product lie.
pub(super) trait Rows<E>: Sync {
    /// A row that has been found.
    type Row: Copy;
    /// Finds a row of the output.
    fn row(&self, row: usize) -> Self::Row;
    /// The row after that.
    fn next(&self, row: Self::Row) -> Self::Row;
    /// What one tap sees there, one value for each input of the weight; `None` for zeros.
    fn seen(&self, row: Self::Row, tap: usize) -> Option<&[E]>;
}

/// The same for tiles, which want rows evenly spaced: places that rows' taps see, numbered so that they are that within a
/// line of the output. Some are padding.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AMX has tiles"))]
pub(super) trait Places<E>: Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// Rows of a line.
    fn line(&self) -> usize;
    /// How many places further the next row of a line sees.
    fn spacing(&self) -> usize;
    /// The place that a tap sees.
    fn place(&self, row: usize, tap: usize) -> usize;
    /// What is there, one value for each input of the weight; `None` for zeros.
    fn at(&self, place: usize) -> Option<&[E]>;
    /// What is at all places, if that lies one after the other.
    fn all(&self) -> Option<&[E]>;
}

/// Rows of a block: with one panel's sums, and what of `x` they are made of, they fit a second-level cache.
const BLOCK: usize = 32 * ROWS;
/// Bytes of a panel, at most, whose terms are summed before the panel's next part is turned to: an eighth of a
/// second-level cache.
const PART: usize = 128 << 10;
/// Tasks that an output is cut into, about: enough for the threads of one machine to end together.
const TASKS: usize = 32;
/// Columns of a span, at most.
const COLUMNS: usize = 128;
/// Panels of a span, at most: of two groups, whose columns may begin anywhere in the first of two and end in one more.
const PANELS: usize = 2 * 3;
/// Taps that a tile takes at once, if they are so short that loading and storing its sums would show.
const TAPS: usize = 9;

/// Pieces of memory that a tile asks for, at most: what it reads and writes itself, rows that the next one sees, and
/// weights.
const PIECES: usize = 2 + TAPS * ROWS + PANELS;

/// What becomes of sums when they are whole.
pub(super) trait Finish<E: Compute, const GROUPS: usize>: Sync {
    /// What is added to all rows of each group; `None` for zeros.
    fn biases(&self) -> [Option<&[E]>; GROUPS];
    /// What it will read for some columns of a row and is not in a cache yet; what it will for the next row lies as much
    /// further as that itself.
    fn reads(&self, _row: usize, _columns: &Range<usize>) -> &[E] {
        &[]
    }
    /// Writes some columns of some rows, to all of which it adds their biases.
    fn rows<'a>(
        &'a self,
        rows: usize,
        row: impl Fn(usize) -> Option<Finished<'a, E, GROUPS>>,
        columns: &Range<usize>,
        biases: [&'a [f32]; GROUPS],
    );
}

/// Some columns of a row, by its number: the sums of each group, and what to write to.
pub(super) type Finished<'a, E, const GROUPS: usize> = (usize, [&'a [f32]; GROUPS], &'a mut [E]);

/// Memory that a product copies its rows' terms to, if it has to.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only AMX has to"))]
pub(super) fn room<E: Compute>(
    weight: &PackedWeight<E>,
    places: &impl Places<E>,
    pool: &Pool<HostMemory>,
) -> Result<Option<PooledTensor<E>>> {
    let numbers = match weight.kernel().run {
        #[cfg(target_arch = "x86_64")]
        Run::Tiles => amx::room(weight, places),
        Run::Vectors(_) | Run::Widened(_) => 0,
    };
    (numbers > 0).then(|| PooledTensor::new(pool, [numbers])).transpose()
}

/// Computes `y`, whose rows are `width` wide. Column `j` of it is made of output `first + j` of the weight for each
/// `first` of `groups`. It has its [`room`].
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only AMX has room"))]
pub(super) fn product<E: Compute, R: Rows<E> + Places<E>, const GROUPS: usize>(
    weight: &PackedWeight<E>,
    rows: &R,
    y: &mut [E],
    width: usize,
    groups: [usize; GROUPS],
    finish: &impl Finish<E, GROUPS>,
    room: Option<&mut PooledTensor<E>>,
) {
    if y.is_empty() {
        return;
    }
    let (kernel, height) = (weight.kernel(), y.len() / width);
    // A group's columns may begin anywhere in a panel of the weight, and end in one more.
    let whole = groups.iter().all(|first| first % kernel.panel == 0);
    let span = if whole { kernel.span } else { kernel.span + kernel.panel };
    let product = Product { weight, kernel, rows, output: Output::new(y), width, groups, span, finish };
    #[cfg(target_arch = "x86_64")]
    if matches!(kernel.run, Run::Tiles) && weight.inputs() > 0 {
        product.by_tiles(height, room);
        return;
    }
    let cut = Cut { rows: BLOCK, tile: ROWS, spans: usize::MAX, tasks: TASKS };
    product.share(height, &cut, |block, columns| {
        for span in product.spans_of(&columns) {
            product.span(block.clone(), &span);
        }
    });
}

struct Product<'a, E: Compute, R, F, const GROUPS: usize> {
    weight: &'a PackedWeight<E>,
    /// The weight's.
    kernel: Kernel<E>,
    rows: &'a R,
    output: Output<E>,
    /// Of the output.
    width: usize,
    groups: [usize; GROUPS],
    /// Columns that the sums of a group take.
    span: usize,
    finish: &'a F,
}

/// How an output is cut into tasks.
struct Cut {
    /// Rows of a block, at most.
    rows: usize,
    /// What blocks are whole multiples of.
    tile: usize,
    /// Spans of a task, at most.
    spans: usize,
    /// About how many there are, at least.
    tasks: usize,
}

/// Terms that are summed before others are.
struct Part {
    taps: Range<usize>,
    /// Of each tap.
    terms: Range<usize>,
    /// Where in a column the first one's weight is stored.
    first: usize,
    /// Whether no terms are left then.
    last: bool,
}

impl Part {
    fn new<E: Compute>(weight: &PackedWeight<E>, taps: Range<usize>, terms: Range<usize>) -> Self {
        let first = taps.start * weight.stored_inputs() + terms.start;
        let last = taps.end == weight.taps() && terms.end == weight.inputs();
        Part { taps, terms, first, last }
    }

    /// Whether there are sums of other terms already.
    fn adds(&self) -> bool {
        self.first > 0
    }
}

/// Some columns of the output, of which each group's sums are computed together.
struct Span<'a, E, const GROUPS: usize> {
    columns: Range<usize>,
    /// What they are made of, and how many those are.
    panels: [Panel<'a, E>; PANELS],
    count: usize,
    /// Where in a row of sums each group's columns begin.
    firsts: [usize; GROUPS],
    /// What is added to every row of each group.
    biases: [[f32; COLUMNS]; GROUPS],
    /// Whether what a task's rows see is in no cache yet.
    fresh: bool,
}

impl<'a, E, const GROUPS: usize> Span<'a, E, GROUPS> {
    fn panels(&self) -> &[Panel<'a, E>] {
        &self.panels[..self.count]
    }
}

/// Where the terms of a tile's rows begin.
#[derive(Clone, Copy)]
struct Starts<'a, X> {
    /// For each tap.
    of_taps: &'a [[*const X; ROWS]],
    /// How many there are; nothing begins at the places of others.
    rows: usize,
}

/// A panel of a weight.
#[derive(Clone, Copy)]
struct Panel<'a, E> {
    /// Of all terms.
    weights: &'a [E],
    width: usize,
    /// Where its sums begin in a row of sums.
    first: usize,
    /// The weights of the one in its place in the task's next span, if there is one.
    next: &'a [E],
}

impl<'a, E: Compute> Panel<'a, E> {
    /// The weights that will be wanted after those of a part.
    fn ahead(&self, part: &Part) -> &'a [E] {
        let len = part.taps.len() * part.terms.len() * self.width;
        let ahead = if part.last { self.next } else { &self.weights[part.first * self.width + len..] };
        &ahead[..ahead.len().min(len)]
    }
}

impl<E: Compute, R: Rows<E>, F: Finish<E, GROUPS>, const GROUPS: usize> Product<'_, E, R, F, GROUPS> {
    /// Calls `f` with blocks of rows and the columns of some spans, until it was called with all of them.
    fn share(&self, height: usize, cut: &Cut, f: impl Fn(Range<usize>, Range<usize>) + Sync) {
        let span = self.kernel.span;
        let (blocks, spans) = (height.div_ceil(cut.rows), self.width.div_ceil(span));
        // As even as they can be.
        let block_rows = height.div_ceil(blocks).next_multiple_of(cut.tile);
        let blocks = height.div_ceil(block_rows);
        // Many columns to a task, so that its rows of `x` are read from memory once, but enough tasks for every thread.
        let spans_at_once = (spans * blocks / cut.tasks).min(cut.spans).clamp(1, spans);
        let terms = (self.weight.taps() * self.weight.inputs()) as u64;
        let work = 2 * (height * self.width * GROUPS) as u64 * terms;
        // Tasks of the same columns are neighbours, so that those too are read from memory once.
        share(spans.div_ceil(spans_at_once) * blocks, work, |task| {
            let (first, row) = (task / blocks * spans_at_once, task % blocks * block_rows);
            f(
                row..height.min(row + block_rows),
                first * span..self.width.min((first + spans_at_once) * span),
            );
        });
    }

    /// Columns, a span at a time.
    fn spans_of(&self, columns: &Range<usize>) -> impl Iterator<Item = Span<'_, E, GROUPS>> {
        let task = columns.clone();
        tiles(task.len(), self.kernel.span)
            .map(move |span| self.span_of(task.start + span.start..task.start + span.end, &task))
    }

    /// A span of a task's columns.
    fn span_of(&self, columns: Range<usize>, task: &Range<usize>) -> Span<'_, E, GROUPS> {
        let panel = self.kernel.panel;
        let mut span = Span {
            columns: columns.clone(),
            panels: [Panel { weights: &[], width: 0, first: 0, next: &[] }; PANELS],
            count: 0,
            firsts: [0; GROUPS],
            biases: self.finish.biases().map(|bias| bias_of(bias, &columns)),
            fresh: columns.start == task.start,
        };
        for (g, group) in self.groups.into_iter().enumerate() {
            let start = group + columns.start;
            span.firsts[g] = g * self.span + start % panel;
            for (i, output) in (start / panel * panel..group + columns.end).step_by(panel).enumerate() {
                let (weights, width) = self.weight.panel(output);
                let next = output + self.kernel.span;
                let next = if next < group + task.end { self.weight.panel(next).0 } else { &[] };
                span.panels[span.count] = Panel { weights, width, first: g * self.span + i * panel, next };
                span.count += 1;
            }
        }
        span
    }

    /// Computes a span of a block of rows.
    fn span(&self, block: Range<usize>, span: &Span<'_, E, GROUPS>) {
        let (kernel, taps, inputs) = (self.kernel, self.weight.taps(), self.weight.inputs());
        let most = PART / (kernel.panel * size_of::<E>());
        let taps_at_once = (most / inputs.max(1)).clamp(1, TAPS);
        let terms_at_once = inputs.div_ceil(inputs.div_ceil(most).max(1)).next_multiple_of(kernel.depth);
        let tile_sums = ROWS * GROUPS * self.span;
        // Sums that need not wait for other terms take the same place for all tiles, in the nearest cache.
        let whole = taps_at_once >= taps && terms_at_once >= inputs;
        let step = if whole { 0 } else { tile_sums };
        let widened = match kernel.run {
            Run::Widened(_) => taps_at_once * ROWS * terms_at_once,
            _ => 0,
        };
        with_scratch(widened + step * block.len().div_ceil(ROWS) + tile_sums, |scratch| {
            let (widened, sums) = scratch.split_at_mut(widened);
            if inputs == 0 {
                sums.fill(0.0);
                tiles(block.len(), ROWS).for_each(|tile| {
                    self.finish(block.start + tile.start..block.start + tile.end, span, sums);
                });
                return;
            }
            for taps in tiles(taps, taps_at_once) {
                for terms in tiles(inputs, terms_at_once) {
                    let part = Part::new(self.weight, taps.clone(), terms);
                    self.part(&part, block.clone(), span, widened, sums, step);
                }
            }
        });
    }

    /// Adds one part of the sums, tile by tile, whose places in `sums` are `step` apart. Those that are whole then are
    /// finished at once. Terms that have to be widened take `widened`.
    fn part(
        &self,
        part: &Part,
        block: Range<usize>,
        span: &Span<'_, E, GROUPS>,
        widened: &mut [f32],
        sums: &mut [f32],
        step: usize,
    ) {
        let (inputs, zeros) = (self.weight.inputs(), self.weight.zeros());
        let tiles = block.len().div_ceil(ROWS);
        let mut of_panels = span.panels.map(|panel| {
            let weights = panel.ahead(part);
            weights.chunks(weights.len().div_ceil(tiles).max(1))
        });
        let mut ahead = Ahead::new();
        let mut starts = [[std::ptr::null(); ROWS]; TAPS];
        let mut row = self.rows.row(block.start);
        for (i, first) in block.clone().step_by(ROWS).enumerate() {
            let tile = first..block.end.min(first + ROWS);
            for r in 0..tile.len() {
                for (starts, tap) in starts.iter_mut().zip(part.taps.clone()) {
                    let seen = self.rows.seen(row, tap).unwrap_or(zeros);
                    starts[r] = seen[..inputs][part.terms.clone()].as_ptr();
                }
                row = self.rows.next(row);
            }
            ahead.clear();
            if part.last {
                ahead.want_rows(self.of_y(tile.start, &span.columns), tile.len(), self.width);
                ahead.want_rows(self.finish.reads(tile.start, &span.columns), tile.len(), self.width);
            }
            if span.fresh {
                self.want_terms(row, ROWS.min(block.end - tile.end), part, &mut ahead);
            }
            of_panels.iter_mut().filter_map(Iterator::next).for_each(|weights| ahead.want(weights));
            let sums = &mut sums[i * step..];
            let starts = Starts { of_taps: &starts[..part.taps.len()], rows: tile.len() };
            match self.kernel.run {
                Run::Vectors(run) => self.multiply(run, starts, span, part, sums, &mut ahead),
                Run::Widened(run) => {
                    // SAFETY: each start has its terms after it, by the slice that it was taken from.
                    let widened = unsafe { widen_rows(starts, part.terms.len(), widened) };
                    let starts = Starts { of_taps: &widened[..part.taps.len()], rows: starts.rows };
                    self.multiply(run, starts, span, part, sums, &mut ahead);
                }
                #[cfg(target_arch = "x86_64")]
                Run::Tiles => unreachable!("AMX takes whole blocks"),
            }
            if part.last {
                self.finish(tile, span, sums);
            }
        }
    }

    /// Adds one part of a tile's sums.
    fn multiply<X>(
        &self,
        run: Multiply<X, E>,
        starts: Starts<'_, X>,
        span: &Span<'_, E, GROUPS>,
        part: &Part,
        sums: &mut [f32],
        ahead: &mut Ahead<PIECES>,
    ) {
        let stride = GROUPS * self.span;
        let lines = ahead.lines().div_ceil(span.count);
        for &Panel { weights, width, first, .. } in span.panels() {
            let weights = &weights[part.first * width..];
            let sums = &mut sums[first..][..(starts.rows - 1) * stride + width];
            let job = Job {
                starts: starts.of_taps,
                terms: part.terms.len(),
                weights: weights.as_ptr(),
                sums: sums.as_mut_ptr(),
                stride,
                add: part.adds(),
                ahead,
                lines,
            };
            // SAFETY: a weight is packed for instructions that the machine has. Each start has its terms after it, by the
            // slice that it was taken from. The panel holds the weights of all terms of all taps, and those of this part
            // are among them. The sums' slice ends where the last row's do.
            unsafe { run(starts.rows, width / self.kernel.lanes, job) };
        }
    }

    /// Writes a tile's columns.
    fn finish(&self, tile: Range<usize>, span: &Span<'_, E, GROUPS>, sums: &[f32]) {
        vectorised(
            #[inline(always)]
            || {
                let (columns, stride) = (&span.columns, GROUPS * self.span);
                let mut biases = [&[][..]; GROUPS];
                for (of_group, bias) in biases.iter_mut().zip(&span.biases) {
                    *of_group = &bias[..columns.len()];
                }
                self.finish.rows(
                    tile.len(),
                    #[inline(always)]
                    |i| {
                        let mut of_groups = [&[][..]; GROUPS];
                        for (of_group, first) in of_groups.iter_mut().zip(span.firsts) {
                            *of_group = &sums[i * stride + first..][..columns.len()];
                        }
                        Some((tile.start + i, of_groups, self.of_y(tile.start + i, columns)))
                    },
                    columns,
                    biases,
                );
            },
        );
    }

    /// Adds the terms of some rows.
    fn want_terms(&self, mut row: R::Row, count: usize, part: &Part, ahead: &mut Ahead<PIECES>) {
        for _ in 0..count {
            part.taps
                .clone()
                .flat_map(|tap| self.rows.seen(row, tap))
                .for_each(|seen| ahead.want(&seen[part.terms.clone()]));
            row = self.rows.next(row);
        }
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "tasks share the output, and each has its part alone")]
    fn of_y(&self, row: usize, columns: &Range<usize>) -> &mut [E] {
        // SAFETY: `span` is called for rows and columns that lie within `y`, by the one task that they belong to.
        unsafe { self.output.part(row * self.width + columns.start, columns.len()) }
    }
}

/// Copies terms of some rows to `widened`; returns where they begin there.
///
/// # Safety
/// So many terms lie at each start of these rows.
unsafe fn widen_rows<E: Compute>(
    Starts { of_taps, rows }: Starts<'_, E>,
    terms: usize,
    widened: &mut [f32],
) -> [[*const f32; ROWS]; TAPS] {
    let mut of_widened = [[std::ptr::null(); ROWS]; TAPS];
    vectorised(
        #[inline(always)]
        || {
            let mut widened = widened.chunks_exact_mut(terms);
            for (starts, of_widened) in of_taps.iter().zip(&mut of_widened) {
                for ((&start, of_widened), to) in starts[..rows].iter().zip(of_widened).zip(&mut widened) {
                    // SAFETY: the caller's.
                    let from = unsafe { std::slice::from_raw_parts(start, terms) };
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = from.widen();
                    }
                    *of_widened = to.as_ptr();
                }
            }
        },
    );
    of_widened
}

/// `sums = x weights`, or `sums + x weights` with `add`, where a panel's weights are given: rows by terms, terms by the
/// panel's columns, rows by those but `stride` apart. The kernel is one that the machine has.
pub(super) fn multiply(
    kernel: Kernel<f32>,
    x: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    stride: usize,
    add: bool,
) {
    let Run::Vectors(run) = kernel.run else { unreachable!("f32 is multiplied as it is, by vectors") };
    let (terms, mut nothing) = (weights.len() / kernel.panel, Ahead::new());
    for (x, sums) in x.chunks(ROWS * terms).zip(sums.chunks_mut(ROWS * stride)) {
        let rows = x.len() / terms;
        assert_eq!(x.len(), rows * terms, "whole rows");
        let starts = std::array::from_fn(|r| x[r.min(rows - 1) * terms..].as_ptr());
        let (starts, sums) = (&[starts], sums[..(rows - 1) * stride + kernel.panel].as_mut_ptr());
        let ahead = &mut nothing;
        let job = Job { starts, terms, weights: weights.as_ptr(), sums, stride, add, ahead, lines: 0 };
        // SAFETY: the caller's promise of the instructions; each row has its terms, the weights are those of as many, and
        // the sums' slice ends where the last row's do.
        unsafe { run(rows, kernel.panel / kernel.lanes, job) };
    }
}

/// An output that several threads write parts of.
pub(super) struct Output<E>(*mut E);

// SAFETY: all that can be done with it is `part`, whose caller sees to it that no two threads have the same values.
unsafe impl<E: Send> Sync for Output<E> {}

impl<E> Output<E> {
    pub(super) fn new(y: &mut [E]) -> Self {
        Output(y.as_mut_ptr())
    }

    /// # Safety
    /// The values are there, and nobody else has any of them while the slice lives.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "which is what the caller answers for")]
    pub(super) unsafe fn part(&self, first: usize, len: usize) -> &mut [E] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(first), len) }
    }
}
