//! Softmax over tiles of keys as they come (Milakov & Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv
//! 2205.14135), so the scores of a block of queries need one tile of memory however many keys there are.
//!
//! Blocks of queries are shared over the threads, each with all of its heads, so that a block of `y` lies in one piece.
//! Everything is kept with the queries innermost: scores `[keys, queries]`, sums `[depth, queries]`. Each query then has
//! a vector lane of its own, no maximum or sum runs across lanes, and every product reads its operands as they lie.

use super::gemm::{View, gemm};
use super::linear::tiles;
use super::math::exp;
use super::threads::{for_each_block, with_scratch};
use super::{Compute, Cpu};
use crate::ops::{Attention, Columns};
use crate::pool::PooledTensor;
use crate::simd::vectorised;
use crate::tensor::Shaped;

/// Queries of a block.
const QUERIES: usize = 64;
/// Keys of a tile.
const KEYS: usize = 256;

pub(super) fn attention<E: Compute>(op: &Attention<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let (channels, items) = (op.channels, op.q.tensor.shape()[0]);
    let [all_queries, all_keys] = [&op.q, &op.k].map(|of| of.tensor.shape().rows() / items);
    let depth = channels / op.heads;
    for_each_block(y.data_mut(), all_queries * channels, QUERIES * channels, op.flops(), |n, b, y| {
        let queries = y.len() / channels;
        with_scratch((2 * depth + KEYS + 3) * queries + 2 * KEYS * depth, |scratch| {
            let (tile, scratch) = scratch.split_at_mut(2 * KEYS * depth);
            for head in 0..op.heads {
                let mut state = State::new(scratch, queries, depth);
                let (q, stride) = rows(&op.q, n * all_queries + b * QUERIES, head * depth);
                state.load(q, stride);
                for keys in tiles(all_keys, KEYS) {
                    let [k, v] = [&op.k, &op.v].map(|of| rows(of, n * all_keys + keys.start, head * depth));
                    let (k_tile, v_tile) = tile.split_at_mut(KEYS * depth);
                    widen_rows(k, depth, &mut k_tile[..keys.len() * depth]);
                    widen_rows(v, depth, &mut v_tile[..keys.len() * depth]);
                    state.attend((k_tile, depth), (v_tile, depth), keys.len());
                }
                state.store(&mut y[head * depth..], channels);
            }
        });
    });
}

/// What begins at this row and column, and how far apart rows start.
fn rows<'a, E: Compute>(columns: &Columns<'a, Cpu<E>>, row: usize, column: usize) -> (&'a [E], usize) {
    let stride = columns.tensor.shape().channels();
    (&columns.tensor.data()[row * stride + columns.first + column..], stride)
}

/// Copies rows of `depth` values; they come with how far apart they start.
fn widen_rows<E: Compute>((rows, stride): (&[E], usize), depth: usize, to: &mut [f32]) {
    for (to, row) in to.chunks_exact_mut(depth).zip(rows.chunks(stride)) {
        to.iter_mut().zip(row).for_each(|(to, value)| *to = value.widen());
    }
}

/// One head of a block of queries, part of the way through the keys.
struct State<'a> {
    queries: usize,
    depth: usize,
    /// `q / sqrt D`, `[depth, queries]`.
    q: &'a mut [f32],
    /// `sum_s exp(score - largest) v`, `[depth, queries]`.
    y: &'a mut [f32],
    /// Of a tile of keys, `[keys, queries]`.
    scores: &'a mut [f32],
    /// The largest score so far of each query.
    largest: &'a mut [f32],
    /// `sum_s exp(score - largest)` of each query.
    sum: &'a mut [f32],
    /// `exp(old largest - new largest)` of each query.
    shrink: &'a mut [f32],
}

impl<'a> State<'a> {
    fn new(scratch: &'a mut [f32], queries: usize, depth: usize) -> Self {
        let (q, scratch) = scratch.split_at_mut(depth * queries);
        let (y, scratch) = scratch.split_at_mut(depth * queries);
        let (scores, scratch) = scratch.split_at_mut(KEYS * queries);
        let (largest, scratch) = scratch.split_at_mut(queries);
        let (sum, shrink) = scratch.split_at_mut(queries);
        y.fill(0.0);
        largest.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        State { queries, depth, q, y, scores, largest, sum, shrink }
    }

    /// Takes in queries whose rows start `stride` apart.
    fn load<E: Compute>(&mut self, q: &[E], stride: usize) {
        let scale = 1.0 / (self.depth as f32).sqrt();
        for (t, q) in q.chunks(stride).take(self.queries).enumerate() {
            for (d, &q) in q[..self.depth].iter().enumerate() {
                self.q[d * self.queries + t] = q.widen() * scale;
            }
        }
    }

    /// Adds the contributions of a tile of keys; each operand with how far apart its rows start.
    fn attend(&mut self, (k, k_stride): (&[f32], usize), (v, v_stride): (&[f32], usize), keys: usize) {
        let k = View::rows(k, [keys, self.depth], k_stride);
        let q = View::rows(self.q, [self.depth, self.queries], self.queries);
        gemm(self.scores, self.queries, k, q, false);
        self.exponentiate(keys);
        let v = View::new(v, [self.depth, keys], [1, v_stride]);
        let weights = View::rows(self.scores, [keys, self.queries], self.queries);
        gemm(self.y, self.queries, v, weights, true);
    }

    /// Turns scores into `exp(score - largest)`, rescaling what came before where the largest has grown.
    fn exponentiate(&mut self, keys: usize) {
        let scores = &mut self.scores[..keys * self.queries];
        vectorised(
            #[inline(always)]
            || {
                self.shrink.copy_from_slice(self.largest);
                for row in scores.chunks_exact(self.queries) {
                    for (largest, &score) in self.largest.iter_mut().zip(row) {
                        *largest = if score > *largest { score } else { *largest };
                    }
                }
                for (shrink, largest) in self.shrink.iter_mut().zip(&*self.largest) {
                    *shrink = exp(*shrink - largest);
                }
                for (sum, shrink) in self.sum.iter_mut().zip(&*self.shrink) {
                    *sum *= shrink;
                }
                for row in self.y.chunks_exact_mut(self.queries) {
                    for (y, shrink) in row.iter_mut().zip(&*self.shrink) {
                        *y *= shrink;
                    }
                }
                for row in scores.chunks_exact_mut(self.queries) {
                    for ((score, sum), largest) in row.iter_mut().zip(&mut *self.sum).zip(&*self.largest) {
                        *score = exp(*score - largest);
                        *sum += *score;
                    }
                }
            },
        );
    }

    /// Writes the finished rows, which start `stride` apart.
    fn store<E: Compute>(&self, y: &mut [E], stride: usize) {
        for (t, y) in y.chunks_mut(stride).enumerate() {
            for (d, y) in y[..self.depth].iter_mut().enumerate() {
                *y = E::narrow(self.y[d * self.queries + t] / self.sum[t]);
            }
        }
    }
}
