//! AMX, in bf16. Here queries are rows, read as they lie and written as they lie; keys and values are what products take as
//! their second operand, packed.
//!
//! A block of queries takes in a tile of keys at a time: products, which become weights in place, row by row; then products
//! of those and the values.
//!
//! Tried and lost, on two cores of an Emerald Rapids: keys as rows, as vectors have it, as fast with 4,096 keys of 40 and
//! half as fast with 256 of 160, for all that is packed then; 256 keys at a time, no faster.

use std::arch::x86_64::*;

use super::super::Compute;
use super::super::amx::{Operands, SIDE, STEP, Tiles, is_available};
use super::super::threads::{tiles, with_scratch};
use super::OutputRows;
use super::kernel::{Kernel, exp2};
use super::pack::Head;
use super::x86::Avx512Bf16;

/// Keys of a tile.
const KEYS: usize = 128;
/// Numbers from a query's scores to the next's. Without a cache line more, those of all would share few places of the
/// nearest cache.
const PITCH: usize = KEYS + LANES;
/// Numbers of a vector.
const LANES: usize = 16;
/// Words of two values that products take at once.
const WORDS: usize = STEP / 2;

/// How many words the keys and the values of a head are packed in: for every 32 keys, words of their depth; and for every
/// word of two keys, their values.
fn layout(keys: usize, depth: usize) -> [usize; 2] {
    let groups = keys.div_ceil(SIDE);
    [groups * words(depth) * SIDE, groups * WORDS * columns(depth)]
}

/// Words of a query, whole steps.
fn words(depth: usize) -> usize {
    depth.div_ceil(STEP) * WORDS
}

/// Columns of sums, whole tiles.
fn columns(depth: usize) -> usize {
    depth.next_multiple_of(LANES)
}

/// How many numbers [`pack`] writes for one head of so many keys.
pub(super) fn packed_len(keys: usize, depth: usize) -> usize {
    layout(keys, depth).iter().sum()
}

/// Packs all keys and values of one head.
pub(super) fn pack<E: Compute>(k: &Head<'_, E>, v: &Head<'_, E>, to: &mut [f32]) {
    let (for_k, for_v) = to.split_at_mut(layout(k.rows, k.depth)[0]);
    for (group, to) in for_k.chunks_exact_mut(words(k.depth) * SIDE).enumerate() {
        let (to, zeros) = to.as_chunks_mut::<SIDE>().0.split_at_mut(k.depth.div_ceil(2));
        k.pack_rows::<Avx512Bf16, SIDE>(group * SIDE, to);
        zeros.fill([0.0; SIDE]);
    }
    for (word, to) in for_v.chunks_exact_mut(columns(v.depth)).enumerate() {
        for (i, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *to = v.pairs((2 * word).min(v.rows)..v.rows, 8 * i);
        }
    }
}

/// Writes what queries find among packed keys.
pub(super) fn attend<E: Compute>(q: &Head<'_, E>, keys: usize, packed: &[f32], mut y: OutputRows<'_, E>) {
    assert!(is_available());
    let kernel = Avx512Bf16::new();
    let [words, columns] = [words(q.depth), columns(q.depth)];
    let (k, v) = packed.split_at(layout(keys, q.depth)[0]);
    with_scratch(SIDE * (words + PITCH + columns), |scratch| {
        let (queries, scratch) = scratch.split_at_mut(SIDE * words);
        let (scores, sums) = scratch.split_at_mut(SIDE * PITCH);
        // SAFETY: asserted.
        let _tiles = unsafe { Tiles::new() };
        for rows in tiles(q.rows, SIDE) {
            for (row, to) in rows.zip(queries.chunks_exact_mut(words)) {
                let (to, zeros) = bytemuck::cast_slice_mut(to).split_at_mut(q.depth);
                to.copy_from_slice(q.row(row));
                zeros.fill(E::default());
            }
            let mut block = Block { queries, scores, sums, state: [State::NEW; SIDE] };
            kernel.run(
                #[inline(always)]
                || {
                    let scale = std::f32::consts::LOG2_E / (q.depth as f32).sqrt();
                    for tile in tiles(keys, KEYS) {
                        let k = &k[tile.start * words..];
                        let v = &v[tile.start / 2 * columns..];
                        block.attend(kernel, k, v, tile.len(), scale, tile.start > 0);
                    }
                    for ((sums, state), y) in block.sums.chunks_exact(columns).zip(&block.state).zip(&mut y) {
                        let share = 1.0 / state.total.iter().sum::<f32>();
                        for (y, sum) in y.iter_mut().zip(sums) {
                            *y = E::narrow(sum * share);
                        }
                    }
                },
            );
        }
    });
}

/// A block of [`SIDE`] queries of one head, part of the way through the keys.
struct Block<'a> {
    /// Words of each query.
    queries: &'a [f32],
    /// Of each query and the keys of a tile, [`PITCH`] apart.
    scores: &'a mut [f32],
    /// `sum_s 2^(score - largest) v`, of each query.
    sums: &'a mut [f32],
    state: [State; SIDE],
}

/// What a query has found so far.
#[derive(Clone, Copy)]
struct State {
    /// The largest score.
    largest: f32,
    /// Whose sum is `sum_s 2^(score - largest)`.
    total: [f32; LANES],
}

impl State {
    const NEW: State = State { largest: f32::NEG_INFINITY, total: [0.0; LANES] };
}

impl Block<'_> {
    /// Adds what a tile of keys contributes, to what others did if there were any. `scale` takes products of queries and
    /// keys to scores.
    #[inline(always)]
    fn attend(&mut self, kernel: Avx512Bf16, k: &[f32], v: &[f32], keys: usize, scale: f32, add: bool) {
        let [words, columns] = [self.queries.len(), self.sums.len()].map(|len| len / SIDE);
        let padded = keys.next_multiple_of(SIDE);
        let queries = Matrix { words: self.queries, stride: words };
        for (k, first) in k.chunks_exact(words * SIDE).zip((0..padded).step_by(SIDE)) {
            let k = Matrix { words: k, stride: SIDE };
            multiply::<SIDE>(queries, k, words, &mut self.scores[first..], PITCH, false);
        }
        let scores = self.scores.chunks_exact_mut(PITCH);
        for ((scores, state), sums) in scores.zip(&mut self.state).zip(self.sums.chunks_exact_mut(columns)) {
            scores[keys..padded].fill(f32::NEG_INFINITY);
            let shrink = weigh(kernel, &mut scores[..padded], scale, state);
            if add {
                for sums in sums.chunks_exact_mut(LANES) {
                    kernel.store(kernel.mul(kernel.load(sums), shrink), sums);
                }
            }
        }
        let (weights, words) = (Matrix { words: self.scores, stride: PITCH }, padded / 2);
        for first in (0..columns).step_by(SIDE) {
            let v = Matrix { words: &v[first..], stride: columns };
            let sums = &mut self.sums[first..];
            match columns - first {
                LANES => multiply::<LANES>(weights, v, words, sums, columns, add),
                _ => multiply::<SIDE>(weights, v, words, sums, columns, add),
            }
        }
    }
}

/// Turns a query's products with keys into weights, in place, two to a word; returns what earlier sums shrink by. The total
/// is of weights as rounded, so that what the values are multiplied by adds up to 1.
#[inline(always)]
fn weigh(kernel: Avx512Bf16, scores: &mut [f32], scale: f32, state: &mut State) -> __m512 {
    let mut largest = [kernel.splat(state.largest); 2];
    for scores in scores.chunks_exact(SIDE) {
        largest[0] = kernel.max(kernel.load(scores), largest[0]);
        largest[1] = kernel.max(kernel.load(&scores[LANES..]), largest[1]);
    }
    // SAFETY: `kernel` exists.
    let largest = unsafe { _mm512_reduce_max_ps(kernel.max(largest[0], largest[1])) };
    let minus_offset = kernel.splat(-scale * largest);
    let scale = kernel.splat(scale);
    let shrink = exp2(kernel, kernel.mul_add(kernel.splat(state.largest), scale, minus_offset));
    let mut total = kernel.mul(kernel.load(&state.total), shrink);
    let ones = kernel.splat(Avx512Bf16::ONES);
    for first in (0..scores.len()).step_by(SIDE) {
        let low = kernel.mul_add(kernel.load(&scores[first..]), scale, minus_offset);
        let high = kernel.mul_add(kernel.load(&scores[first + LANES..]), scale, minus_offset);
        let (low, high) = (exp2(kernel, low), exp2(kernel, high));
        // SAFETY: `kernel` exists; both are 64 bytes, of which any are valid.
        let words = unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)) };
        total = kernel.dot(ones, words, total);
        kernel.store(words, &mut scores[first / 2..]);
    }
    state.largest = largest;
    kernel.store(total, &mut state.total);
    shrink
}

/// Rows of words, `stride` apart.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    words: &'a [f32],
    stride: usize,
}

/// Adds the products of [`SIDE`] rows of `words` words and as many rows of `COLUMNS` columns to sums, or sets them.
#[inline(always)]
fn multiply<const COLUMNS: usize>(
    rows: Matrix<'_>,
    columns: Matrix<'_>,
    words: usize,
    sums: &mut [f32],
    stride: usize,
    add: bool,
) {
    assert!(words.is_multiple_of(WORDS) && rows.words.len() >= (SIDE - 1) * rows.stride + words);
    assert!(columns.words.len() >= (words - 1) * columns.stride + COLUMNS);
    assert!(sums.len() >= (SIDE - 1) * stride + COLUMNS);
    let first = rows.words.as_ptr();
    let operands = Operands {
        rows: [first, first.wrapping_add(SIDE / 2 * rows.stride)].map(|first| first.cast()),
        spacing: rows.stride * size_of::<f32>(),
        taps: &[0],
        steps: words / WORDS,
        weights: columns.words.as_ptr().cast(),
        width: columns.stride,
        skipped: 0,
    };
    // SAFETY: `attend`, which alone calls what calls this, has tiles; the assertions say that there is what they say.
    unsafe { Tiles::multiply::<COLUMNS>(&operands, sums.as_mut_ptr(), stride, add) };
}
