//! AMX, in bf16. A panel of weights is read from memory once for a block of rows and stays in the second cache while all
//! of them are multiplied by it, so the sums of a tile are whole at once or after few parts. The rows' terms are read as
//! they lie, or from a copy that is made once, with an image's padding.
//!
//! Tried and lost, on two cores of an Emerald Rapids at 2.9 TFLOP/s each in registers: all panels for one tile of rows
//! before the next, which reads the weights from farther away (0.8 each, not 2.0); panels as wide as a span, whose tiles lie
//! apart (1.55 in a loop, not 1.75); parts so short that their weights stay in the first cache (1.4), and parts of half or
//! twice as many bytes, a tenth slower in a UNet; asking for rows or weights of the next step (1.5); spans of one panel, for
//! what follows short products; a copy of the terms for each task; an image's terms step by step, so that all taps find
//! them in the nearest cache, a quarter faster in a loop and no faster in a UNet; asking the second cache for the next
//! span's weights, a sixth faster in a loop and not in a UNet. What follows a product of 320 terms with GEGLU takes as long
//! as the product.

use std::ops::Range;

use half::bf16;

use super::super::Compute;
use super::super::amx::{Operands, SIDE, STEP, Tiles};
use super::tile::{Kernel, Run};
use super::{Cut, Finish, PackedWeight, Panel, Part, Places, Product, Rows, Span, TAPS};
use crate::cpu::threads::{for_each_block, tiles, with_scratch};
use crate::pool::PooledTensor;
use crate::simd::{prefetch, vectorised};

/// Rows of a block.
const BLOCK: usize = 16 * SIDE;
/// Bytes of a span, at most, whose terms are summed before its next part is turned to.
const PART: usize = 384 << 10;
/// Bytes of weights of a task, at most, so that the next finds them in the second cache.
const WEIGHTS: usize = 1 << 20;
/// Tasks for a thread, about.
const TASKS: usize = 4;
/// Rows of a tile.
const STRIP: usize = SIDE / 2;

pub(super) fn kernel() -> Kernel<bf16> {
    Kernel { lanes: SIDE, panel: SIDE, span: 2 * SIDE, depth: 2, step: STEP, run: Run::Tiles }
}

/// Numbers that a product copies its rows' terms to: none where tiles can read them as they lie.
pub(super) fn room<E: Compute>(weight: &PackedWeight<E>, places: &impl Places<E>) -> usize {
    let lies_well = weight.inputs().is_multiple_of(STEP) && places.count().is_multiple_of(STRIP);
    if places.all().is_some() && lies_well {
        return 0;
    }
    // The last strip is read to its end, wherever its rows end.
    (places.count() + (STRIP - 1) * places.spacing()) * weight.stored_inputs()
}

impl<E: Compute, R: Rows<E> + Places<E>, F: Finish<E, GROUPS>, const GROUPS: usize>
    Product<'_, E, R, F, GROUPS>
{
    /// Computes all rows, with [`room`]. The weight's kernel is that of tiles, and it has terms.
    pub(super) fn by_tiles(&self, height: usize, room: Option<&mut PooledTensor<E>>) {
        let values = match room {
            Some(room) => {
                copy(self.rows, self.weight.stored_inputs(), room.data_mut());
                room.data()
            }
            None => self.rows.all().expect("room where terms do not lie one after the other"),
        };
        let of_span = self.weight.stride() * GROUPS * self.kernel.span * size_of::<E>();
        let tasks = TASKS * rayon::current_num_threads();
        let cut = Cut { rows: BLOCK, tile: SIDE, spans: WEIGHTS / of_span, tasks };
        self.share(height, &cut, |rows, columns| {
            // SAFETY: a weight is packed for instructions that the machine has.
            let _tiles = unsafe { Tiles::new() };
            self.block(values, &rows, &columns);
        });
    }

    fn block(&self, values: &[E], rows: &Range<usize>, columns: &Range<usize>) {
        let (weight, kernel) = (self.weight, self.kernel);
        let taps_at_once = weight.taps().min(TAPS);
        let parts = (taps_at_once * weight.inputs() * kernel.span * size_of::<E>()).div_ceil(PART);
        let terms_at_once = weight.inputs().div_ceil(parts).next_multiple_of(STEP);
        let strips = Strips::new(self.rows, rows);
        let tile = SIDE * GROUPS * self.span;
        // Sums that need not wait for other terms take the same place for all tiles, in the nearest cache.
        let whole = taps_at_once >= weight.taps() && terms_at_once >= weight.inputs();
        let step = if whole { 0 } else { tile };
        with_scratch(step * strips.pairs().len() * columns.len().div_ceil(kernel.span) + tile, |sums| {
            for taps in tiles(weight.taps(), taps_at_once) {
                for terms in tiles(weight.inputs(), terms_at_once) {
                    let part = Part::new(weight, taps.clone(), terms);
                    let terms = Terms::new(values, self.rows, &part, weight.stored_inputs());
                    let mut at = 0;
                    for span in self.spans_of(columns) {
                        for pair in strips.pairs() {
                            self.tile(&terms, pair, &span, &part, &mut sums[at..][..tile]);
                            at += step;
                        }
                    }
                }
            }
        });
    }

    /// Adds one part of the sums of two strips in a span of columns. Those that are whole then are finished at once.
    fn tile(
        &self,
        terms: &Terms<'_, E>,
        strips: &[Range<usize>],
        span: &Span<'_, E, GROUPS>,
        part: &Part,
        sums: &mut [f32],
    ) {
        let stride = GROUPS * self.span;
        let rows = [0, strips.len() - 1].map(|s| terms.of(self.rows, &strips[s], part).as_ptr().cast());
        for &Panel { weights, width, first, .. } in span.panels() {
            let steps = part.terms.len().div_ceil(STEP);
            let operands = Operands {
                rows,
                spacing: terms.spacing * size_of::<E>(),
                taps: &terms.taps[..part.taps.len()],
                steps,
                weights: weights[part.first * width..].as_ptr().cast(),
                width,
                skipped: self.weight.stored_inputs() - steps * STEP,
            };
            let sums = sums[first..][..(SIDE - 1) * stride + SIDE].as_mut_ptr();
            // SAFETY: `by_tiles` has tiles. `E` is bf16. `Terms::of` has seen that each row of a strip has its terms for every
            // tap. The panel holds the weights of all terms of all taps, and those of this part are among them.
            unsafe { Tiles::multiply::<SIDE>(&operands, sums, stride, part.adds()) };
        }
        if part.last {
            for row in strips.iter().cloned().flatten() {
                prefetch(self.finish.reads(row, &span.columns));
            }
            for (strip, sums) in strips.iter().zip(sums.chunks(STRIP * stride)) {
                for (rows, at) in lines(self.rows, strip.clone()) {
                    self.finish(rows, span, &sums[at * stride..]);
                }
            }
        }
    }
}

/// The rows of a block that one tile takes each.
struct Strips {
    strips: [Range<usize>; BLOCK],
    count: usize,
}

impl Strips {
    fn new<E>(places: &impl Places<E>, rows: &Range<usize>) -> Self {
        let mut of = Strips { strips: [const { 0..0 }; BLOCK], count: 0 };
        let mut first = rows.start;
        while first < rows.end {
            let end = lines(places, first..rows.end).last().map_or(rows.end, |(rows, _)| rows.end);
            of.strips[of.count] = first..end;
            (first, of.count) = (end, of.count + 1);
        }
        of
    }

    fn pairs(&self) -> std::slice::Chunks<'_, Range<usize>> {
        self.strips[..self.count].chunks(2)
    }
}

/// The rows that a tile from the first on reaches, line by line, and which of its own rows those begin with: between lines
/// there is padding.
fn lines<E>(places: &impl Places<E>, rows: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
    let (line, spacing, first) = (places.line(), places.spacing(), places.place(rows.start, 0));
    let mut next = rows.start;
    std::iter::from_fn(move || {
        let distance = places.place(next, 0) - first;
        let at = distance / spacing;
        if next >= rows.end || at >= STRIP || !distance.is_multiple_of(spacing) {
            return None;
        }
        let start = next;
        next = rows.end.min((start / line + 1) * line).min(start + STRIP - at);
        Some((start..next, at))
    })
}

/// Some terms of what rows see.
struct Terms<'a, E> {
    /// Those of each place, `pitch` apart.
    values: &'a [E],
    pitch: usize,
    /// Numbers from a row's to those of the next.
    spacing: usize,
    /// Bytes from the first tap's to each other's.
    taps: [usize; TAPS],
    /// Numbers from where a strip's first row's begin to where those of its last row, for the last tap, end.
    reach: usize,
}

impl<'a, E: Compute> Terms<'a, E> {
    fn new(values: &'a [E], places: &impl Places<E>, part: &Part, pitch: usize) -> Self {
        let tap = |tap| places.place(0, tap) - places.place(0, part.taps.start);
        let mut taps = [0; TAPS];
        for (i, number) in part.taps.clone().enumerate() {
            taps[i] = tap(number) * pitch * size_of::<E>();
        }
        let spacing = places.spacing() * pitch;
        let stored = part.terms.len().next_multiple_of(STEP);
        let reach = (STRIP - 1) * spacing + tap(part.taps.end - 1) * pitch + stored;
        Terms { values: &values[part.terms.start..], pitch, spacing, taps, reach }
    }

    /// Those of a strip.
    fn of(&self, places: &impl Places<E>, strip: &Range<usize>, part: &Part) -> &[E] {
        &self.values[places.place(strip.start, part.taps.start) * self.pitch..][..self.reach]
    }
}

/// Copies the terms of all places to where they lie `pitch` apart, with the zeros that fill them up.
fn copy<E: Compute>(places: &impl Places<E>, pitch: usize, to: &mut [E]) {
    /// Places of a task.
    const PLACES: usize = 64;
    /// What copying a number costs, in floating-point operations of a product.
    const FLOPS: u64 = 32;
    let (item, flops) = (to.len(), FLOPS * to.len() as u64);
    for_each_block(to, item, PLACES * pitch, flops, |_, block, to| {
        vectorised(
            #[inline(always)]
            || {
                for (place, to) in (block * PLACES..).zip(to.chunks_exact_mut(pitch)) {
                    let terms = if place < places.count() { places.at(place) } else { None };
                    let (to, zeros) = to.split_at_mut(terms.map_or(0, <[E]>::len));
                    copy_terms(to, terms.unwrap_or_default());
                    zeros.fill(E::default());
                }
            },
        );
    });
}

/// Copies few terms, without the call that copying a slice is.
#[inline(always)]
fn copy_terms<E: Copy>(to: &mut [E], from: &[E]) {
    let ((to, last), (from, from_last)) = (to.as_chunks_mut::<32>(), from.as_chunks::<32>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    for (to, from) in last.iter_mut().zip(from_last) {
        *to = *from;
    }
}
