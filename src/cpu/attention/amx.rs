//! AMX, in bf16. Here queries are rows, read as they lie and written as they lie; keys and values are what products take as
//! their second operand, packed.
//!
//! A block of queries takes in a tile of keys at a time: products, which become weights in place, row by row; then products
//! of those and the values. A column of ones among the values is what adds the weights up, as rounded, so that what the
//! values are multiplied by adds up to 1.
//!
//! What weights are relative to is not the largest score but a whole number near what it was at first: up to 2^8 they lose
//! nothing by being more than 1, and sums shrink, by a power of two, only where a score is farther above.
//!
//! Tried and lost, on two cores of an Emerald Rapids: keys as rows, as vectors have it, as fast with 4,096 keys of 40 and
//! half as fast with 256 of 160, for all that is packed then; 256 keys at a time, no faster; powers by a polynomial in f32,
//! twice the instructions of `weigh`. In a loop of nothing else: weights of one block of queries between products of
//! another, which gains less than it costs to read, for while tiles are multiplied, and some 250 cycles longer, arithmetic
//! of 512 bits has one port instead of two; queries that stay in tiles; scores that lie tile by tile.

use std::arch::x86_64::*;

use super::super::Compute;
use super::super::amx::{Operands, SIDE, STEP, Tiles, is_available};
use super::super::threads::{tiles, with_scratch};
use super::super::write::write;
use super::OutputRows;
use super::kernel::Kernel;
use super::pack::{Head, pair};
use super::x86::{Avx512Bf16, powers};
use crate::simd::prefetch;

/// Keys of a tile.
const KEYS: usize = 128;
/// Numbers from a query's scores to the next's. Without a cache line more, those of all would share few places of the
/// nearest cache.
const PITCH: usize = KEYS + LANES;
/// Numbers of a vector.
const LANES: usize = 16;
/// Words of two values that products take at once.
const WORDS: usize = STEP / 2;
/// Weights up to this power of two are left alone.
const ROOM: f32 = 8.0;

/// How many words the keys and the values of a head are packed in: for every 32 keys, words of their depth; and for every
/// two keys, words of their values.
fn layout(keys: usize, depth: usize) -> [usize; 2] {
    let groups = keys.div_ceil(SIDE);
    [groups * words(depth) * SIDE, groups * WORDS * columns(depth)]
}

/// Words of a query, whole steps.
fn words(depth: usize) -> usize {
    depth.div_ceil(STEP) * WORDS
}

/// Columns of sums, that of the weights included, whole tiles.
fn columns(depth: usize) -> usize {
    (depth + 1).next_multiple_of(LANES)
}

/// How many numbers [`pack`] writes for one head of so many keys.
pub(super) fn packed_len(keys: usize, depth: usize) -> usize {
    layout(keys, depth).iter().sum()
}

/// Packs all keys and values of one head.
pub(super) fn pack<E: Compute>(k: &Head<'_, E>, v: &Head<'_, E>, to: &mut [f32]) {
    let (for_k, for_v) = to.split_at_mut(layout(k.rows, k.depth)[0]);
    let groups =
        for_k.chunks_exact_mut(words(k.depth) * SIDE).zip(for_v.chunks_exact_mut(WORDS * columns(v.depth)));
    for ((for_k, for_v), first) in groups.zip((0..).step_by(SIDE)) {
        prefetch_rows(k, first + SIDE);
        prefetch_rows(v, first + SIDE);
        let (for_k, zeros) = for_k.as_chunks_mut::<SIDE>().0.split_at_mut(k.depth.div_ceil(2));
        k.pack_rows::<Avx512Bf16, SIDE>(first, for_k);
        zeros.fill([0.0; SIDE]);
        for (word, to) in for_v.chunks_exact_mut(columns(v.depth)).enumerate() {
            let rows = first + first_key(word)..v.rows;
            for (i, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *to = v.pairs(rows.clone(), 8 * i);
            }
            // Weights, which are integers on their way, cannot tell of a NaN.
            if !rows.clone().take(2).all(|row| k.is_finite(row)) {
                to.fill(f32::NAN);
            }
            // Nothing past the last value: there, weights are those of the last key again.
            to[v.depth] = match rows.len() {
                0 => 0.0,
                1 => pair(1.0, 0.0),
                _ => Avx512Bf16::ONES,
            };
        }
    }
}

/// Begins to bring [`SIDE`] rows, which lie too far apart for the machine to guess.
fn prefetch_rows<E: Compute>(head: &Head<'_, E>, first: usize) {
    for row in first..head.rows.min(first + SIDE) {
        prefetch(head.row(row));
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
            prefetch_rows(q, rows.end);
            for (row, to) in rows.zip(queries.chunks_exact_mut(words)) {
                let (to, zeros) = bytemuck::cast_slice_mut(to).split_at_mut(q.depth);
                to.copy_from_slice(q.row(row));
                zeros.fill(E::default());
            }
            sums.fill(0.0);
            let mut block = Block { queries, scores, sums, state: [State::NEW; SIDE] };
            kernel.run(
                #[inline(always)]
                || {
                    let scale = std::f32::consts::LOG2_E / (q.depth as f32).sqrt();
                    for tile in tiles(keys, KEYS) {
                        let k = &k[tile.start * words..];
                        let v = &v[tile.start / 2 * columns..];
                        block.attend(kernel, k, v, tile.len(), scale);
                    }
                    for (sums, y) in block.sums.chunks_exact(columns).zip(&mut y) {
                        let share = 1.0 / sums[q.depth];
                        write(
                            y,
                            [sums],
                            [],
                            #[inline(always)]
                            |[sum], []| sum * share,
                        );
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
    /// `sum_s 2^(score - offset) v` of each query, and that of a `v` of 1.
    sums: &'a mut [f32],
    state: [State; SIDE],
}

/// What a query's weights are relative to.
#[derive(Clone, Copy)]
struct State {
    minus_offset: f32,
    /// A product above which has the offset follow.
    limit: f32,
}

impl Block<'_> {
    /// Adds what a tile of keys contributes. `scale` takes products of queries and keys to scores.
    #[inline(always)]
    fn attend(&mut self, kernel: Avx512Bf16, k: &[f32], v: &[f32], keys: usize, scale: f32) {
        let [words, columns] = [self.queries.len(), self.sums.len()].map(|len| len / SIDE);
        let padded = keys.next_multiple_of(SIDE);
        let queries = Matrix { words: self.queries, stride: words };
        for (k, first) in k.chunks_exact(words * SIDE).zip((0..padded).step_by(SIDE)) {
            let k = Matrix { words: k, stride: SIDE };
            multiply::<SIDE>(queries, k, words, &mut self.scores[first..], PITCH, false);
        }
        let scores = self.scores.chunks_exact_mut(PITCH);
        for ((scores, state), sums) in scores.zip(&mut self.state).zip(self.sums.chunks_exact_mut(columns)) {
            let scores = &mut scores[..padded];
            state.follow(kernel, scores, scale, sums);
            weigh(kernel, scores, scale, state.minus_offset);
        }
        let (weights, words) = (Matrix { words: self.scores, stride: PITCH }, padded / 2);
        for first in (0..columns).step_by(SIDE) {
            let v = Matrix { words: &v[first..], stride: columns };
            let sums = &mut self.sums[first..];
            match columns - first {
                LANES => multiply::<LANES>(weights, v, words, sums, columns, true),
                _ => multiply::<SIDE>(weights, v, words, sums, columns, true),
            }
        }
    }
}

impl State {
    const NEW: State = State { minus_offset: f32::INFINITY, limit: f32::NEG_INFINITY };

    /// Has the offset follow the products of a tile, and shrinks sums by as much.
    #[inline(always)]
    fn follow(&mut self, kernel: Avx512Bf16, products: &[f32], scale: f32, sums: &mut [f32]) {
        let mut largest = [kernel.splat(f32::NEG_INFINITY); 2];
        for products in products.chunks_exact(SIDE) {
            largest[0] = kernel.max(kernel.load(products), largest[0]);
            largest[1] = kernel.max(kernel.load(&products[LANES..]), largest[1]);
        }
        let largest = kernel.max(largest[0], largest[1]);
        // SAFETY: `kernel` exists.
        if unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(largest, kernel.splat(self.limit)) } == 0 {
            return;
        }
        // SAFETY: as above.
        let largest = unsafe { _mm512_reduce_max_ps(largest) };
        let minus_offset = (-scale * largest).floor();
        let power = kernel.splat(minus_offset - self.minus_offset);
        for sums in sums.chunks_exact_mut(LANES) {
            // SAFETY: as above.
            let shrunk = unsafe { _mm512_scalef_ps(kernel.load(sums), power) };
            kernel.store(shrunk, sums);
        }
        *self = State { minus_offset, limit: largest + ROOM / scale };
    }
}

/// Turns a query's products with keys into weights, in place.
#[inline(always)]
fn weigh(kernel: Avx512Bf16, products: &mut [f32], scale: f32, minus_offset: f32) {
    let scale = kernel.splat(scale * Avx512Bf16::UNIT);
    let minus_offset = kernel.splat(minus_offset * Avx512Bf16::UNIT + Avx512Bf16::ORIGIN);
    for first in (0..products.len()).step_by(SIDE) {
        let low = kernel.mul_add(kernel.load(&products[first..]), scale, minus_offset);
        let high = kernel.mul_add(kernel.load(&products[first + LANES..]), scale, minus_offset);
        // SAFETY: `kernel` exists.
        let words = unsafe { _mm512_castsi512_ps(powers(low, high)) };
        kernel.store(words, &mut products[first / 2..]);
    }
}

/// The key of a group of [`SIDE`] that a word of weights begins with, followed by the next: [`weigh`] takes four of the
/// first half and four of the second at a time.
fn first_key(word: usize) -> usize {
    let (four, pair) = (word / 4, word % 4);
    4 * four + pair / 2 * LANES + pair % 2 * 2
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
