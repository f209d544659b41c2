//! AMX, in bf16. A panel of weights is read from memory once for a block of rows and stays in the second cache while all
//! of them are multiplied by it, so the sums of a tile are whole at once or after few parts. The rows' terms are in that
//! cache as well: as they lie, or copied once for all panels of a task.
//!
//! Tried and lost, on two cores of an Emerald Rapids at 2.9 TFLOP/s each in registers: all panels for one tile of rows
//! before the next, which reads the weights from farther away (0.8 each, not 2.0); asking for the next panel's weights
//! while one is multiplied, which gains a tenth in a loop of nothing else and nothing in a UNet. What follows a product of
//! 320 terms with GEGLU takes as long as the product.

use std::ops::Range;

use half::bf16;

use super::super::Compute;
use super::super::amx::{Operands, SIDE, STEP, Tiles};
use super::tile::{Kernel, Run};
use super::{Finish, Panel, Part, Places, Product, Rows, TAPS};
use crate::cpu::threads::{tiles, with_scratch};
use crate::simd::vectorised;

/// Rows of a block.
const BLOCK: usize = 8 * SIDE;
/// Bytes of a panel, at most, whose terms are summed before its next part is turned to.
const PART: usize = 384 << 10;
/// Rows of a tile.
const STRIP: usize = SIDE / 2;

pub(super) fn kernel() -> Kernel<bf16> {
    Kernel { lanes: SIDE, panel: 2 * SIDE, depth: 2, step: STEP, run: Run::Tiles }
}

impl<E: Compute, R: Rows<E> + Places<E>, F: Finish<E, GROUPS>, const GROUPS: usize>
    Product<'_, E, R, F, GROUPS>
{
    /// Computes all rows. The weight's kernel is that of tiles, and it has terms.
    pub(super) fn by_tiles(&self, height: usize) {
        self.share(height, BLOCK, SIDE, |rows, columns| {
            // SAFETY: a weight is packed for instructions that the machine has.
            let _tiles = unsafe { Tiles::new() };
            self.block(&rows, &columns);
        });
    }

    fn block(&self, rows: &Range<usize>, columns: &Range<usize>) {
        let (weight, panel) = (self.weight, self.weight.kernel().panel);
        let taps_at_once = weight.taps().min(TAPS);
        let parts = (taps_at_once * weight.inputs() * panel * size_of::<E>()).div_ceil(PART);
        let terms_at_once = weight.inputs().div_ceil(parts).next_multiple_of(STEP);
        let strips = Strips::new(rows, self.rows.line());
        let tile = SIDE * GROUPS * self.span;
        // Sums that need not wait for other terms take the same place for all tiles, in the nearest cache.
        let whole = taps_at_once >= weight.taps() && terms_at_once >= weight.inputs();
        let step = if whole { 0 } else { tile };
        let sums = step * strips.pairs().len() * columns.len().div_ceil(panel) + tile;
        let room = Terms::room(self.rows, rows, weight.taps(), terms_at_once);
        with_scratch(sums + (room * size_of::<E>()).div_ceil(size_of::<f32>()), |scratch| {
            let (sums, room) = scratch.split_at_mut(sums);
            for taps in tiles(weight.taps(), taps_at_once) {
                for terms in tiles(weight.inputs(), terms_at_once) {
                    let part = Part { taps: taps.clone(), terms };
                    let terms =
                        Terms::new(self.rows, rows, &part, weight.inputs(), bytemuck::cast_slice_mut(room));
                    let mut at = 0;
                    for columns in self.panels_of(columns) {
                        for pair in strips.pairs() {
                            self.tile(&terms, pair, &columns, &part, &mut sums[at..][..tile]);
                            at += step;
                        }
                    }
                }
            }
        });
    }

    /// Adds one part of the sums of two strips in a panel of columns. Those that are whole then are finished at once.
    fn tile(
        &self,
        terms: &Terms<'_, E>,
        strips: &[Range<usize>],
        columns: &Range<usize>,
        part: &Part,
        sums: &mut [f32],
    ) {
        let last = part.is_last(self.weight);
        if last {
            strips.iter().for_each(|strip| self.prefetch_columns(strip.clone(), columns));
        }
        let stride = GROUPS * self.span;
        let rows = [0, strips.len() - 1].map(|s| terms.of(self.rows, &strips[s], part).as_ptr().cast());
        for Panel { weights, width, first } in self.panels(columns) {
            let weights = &weights[part.first(self.weight) * width..];
            for half in (0..width).step_by(SIDE) {
                let steps = part.terms.len().div_ceil(STEP);
                let operands = Operands {
                    rows,
                    spacing: terms.spacing * size_of::<E>(),
                    taps: &terms.taps[..part.taps.len()],
                    steps,
                    weights: weights[2 * half..].as_ptr().cast(),
                    width,
                    skipped: self.weight.stored_inputs() - steps * STEP,
                };
                let sums = sums[first + half..][..(SIDE - 1) * stride + SIDE].as_mut_ptr();
                // SAFETY: `by_tiles` has tiles. `E` is bf16. `Terms::of` has seen that each row of a strip has its terms for
                // every tap. The panel holds the weights of all terms of all taps, and those of this part are among them.
                unsafe { Tiles::multiply::<SIDE>(&operands, sums, stride, part.adds()) };
            }
        }
        if last {
            for (strip, sums) in strips.iter().zip(sums.chunks_mut(STRIP * stride)) {
                self.finish(strip.clone(), columns, sums);
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
    /// Cuts them where lines end.
    fn new(rows: &Range<usize>, line: usize) -> Self {
        let mut of = Strips { strips: [const { 0..0 }; BLOCK], count: 0 };
        let mut first = rows.start;
        while first < rows.end {
            let end = rows.end.min(first + STRIP).min((first / line + 1) * line);
            of.strips[of.count] = first..end;
            (first, of.count) = (end, of.count + 1);
        }
        of
    }

    fn pairs(&self) -> std::slice::Chunks<'_, Range<usize>> {
        self.strips[..self.count].chunks(2)
    }
}

/// Some terms of what a block's rows see.
struct Terms<'a, E> {
    /// Those of each place from `first` on, `pitch` apart.
    values: &'a [E],
    first: usize,
    pitch: usize,
    /// Numbers from a row's to those of the next.
    spacing: usize,
    /// Bytes from the first tap's to each other's.
    taps: [usize; TAPS],
    /// Numbers from where a strip's first row's begin to where those of its last row, for the last tap, end.
    reach: usize,
}

impl<'a, E: Compute> Terms<'a, E> {
    /// Numbers that might have to be copied for some of the taps, of so many terms.
    fn room(places: &impl Places<E>, rows: &Range<usize>, taps: usize, terms: usize) -> usize {
        let all = seen(places, rows, &(0..taps)).len();
        // A strip that its line's end cuts short is read beyond it.
        (all + (STRIP - 1) * places.spacing()) * terms.next_multiple_of(STEP)
    }

    fn new(
        places: &'a impl Places<E>,
        rows: &Range<usize>,
        part: &Part,
        inputs: usize,
        room: &'a mut [E],
    ) -> Self {
        let seen = seen(places, rows, &part.taps);
        let stored = part.terms.len().next_multiple_of(STEP);
        let (first, pitch, values) = match places.all() {
            Some(all) if stored == part.terms.len() && rows.len().is_multiple_of(STRIP) => {
                (0, inputs, &all[part.terms.start..])
            }
            _ => {
                copy(places, seen.clone(), &part.terms, stored, room);
                (seen.start, stored, &*room)
            }
        };
        let tap = |tap| places.place(rows.start, tap) - places.place(rows.start, part.taps.start);
        let mut taps = [0; TAPS];
        for (i, number) in part.taps.clone().enumerate() {
            taps[i] = tap(number) * pitch * size_of::<E>();
        }
        let spacing = places.spacing() * pitch;
        let reach = (STRIP - 1) * spacing + tap(part.taps.end - 1) * pitch + stored;
        Terms { values, first, pitch, spacing, taps, reach }
    }

    /// Those of a strip.
    fn of(&self, places: &impl Places<E>, strip: &Range<usize>, part: &Part) -> &[E] {
        &self.values[(places.place(strip.start, part.taps.start) - self.first) * self.pitch..][..self.reach]
    }
}

/// The places that some taps of a block's rows see.
fn seen<E>(places: &impl Places<E>, rows: &Range<usize>, taps: &Range<usize>) -> Range<usize> {
    places.place(rows.start, taps.start)..places.place(rows.end - 1, taps.end - 1) + 1
}

/// Copies some terms of places, and the zeros that make them `stored`.
fn copy<E: Compute>(
    places: &impl Places<E>,
    seen: Range<usize>,
    terms: &Range<usize>,
    stored: usize,
    room: &mut [E],
) {
    vectorised(
        #[inline(always)]
        || {
            for (place, to) in seen.zip(room.chunks_exact_mut(stored)) {
                let (to, zeros) = to.split_at_mut(terms.len());
                zeros.fill(E::default());
                match places.at(place) {
                    Some(values) => copy_terms(to, &values[terms.clone()]),
                    None => to.fill(E::default()),
                }
            }
        },
    );
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
