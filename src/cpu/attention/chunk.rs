//! One head of a chunk of queries on its way through the keys.

use std::ops::Range;

use super::super::threads::tiles;
use super::super::{Compute, Cpu};
use super::kernel::{Block, Kernel, Keys, PANEL};
use crate::ops::Columns;
use crate::tensor::Shaped;

/// Keys of a tile.
const KEYS: usize = 32 * PANEL;

/// One head of some rows of a tensor.
pub(super) struct Head<'a, E> {
    data: &'a [E],
    /// From one row to the next.
    stride: usize,
    rows: usize,
    depth: usize,
}

impl<'a, E: Compute> Head<'a, E> {
    pub fn new(columns: &Columns<'a, Cpu<E>>, rows: Range<usize>, head: usize, depth: usize) -> Self {
        let stride = columns.tensor.shape().channels();
        let first = rows.start * stride + columns.first + head * depth;
        Head { data: &columns.tensor.data()[first..], stride, rows: rows.len(), depth }
    }

    /// The values of one row; none past the last.
    #[inline(always)]
    fn row(&self, at: usize) -> &'a [E] {
        if at < self.rows { &self.data[at * self.stride..][..self.depth] } else { &[] }
    }

    /// `W` rows as columns of words, `[depth in words, W]`; 0 for what is past the last.
    #[inline(always)]
    fn pack_rows<K: Kernel, const W: usize>(&self, first: usize, to: &mut [[f32; W]]) {
        for column in 0..W {
            let row = self.row(first + column);
            if row.is_empty() {
                to.iter_mut().for_each(|to| to[column] = 0.0);
            }
            for (values, to) in row.chunks(K::PER_WORD).zip(&mut *to) {
                to[column] = word::<E, K>(values[0], values.get(1).copied().unwrap_or_default());
            }
        }
    }

    /// [`PANEL`] columns of some rows as rows of words, `[rows in words, PANEL]`; 0 for what is past the last.
    #[inline(always)]
    fn pack_columns<K: Kernel>(&self, rows: Range<usize>, first: usize, to: &mut [[f32; PANEL]]) {
        let values = |at: usize| -> [E; PANEL] {
            let row = self.row(at);
            match row.get(first..first + PANEL) {
                Some(values) => std::array::from_fn(|i| values[i]),
                None => std::array::from_fn(|i| row.get(first + i).copied().unwrap_or_default()),
            }
        };
        for (at, to) in rows.clone().step_by(K::PER_WORD).zip(to) {
            let next = if at + 1 < rows.end { values(at + 1) } else { Default::default() };
            let values = values(at);
            *to = std::array::from_fn(|i| word::<E, K>(values[i], next[i]));
        }
    }
}

/// The word of two neighbours along a sum, or of the first alone where a word holds one.
#[inline(always)]
fn word<E: Compute, K: Kernel>(first: E, second: E) -> f32 {
    if K::PER_WORD == 1 {
        return first.widen();
    }
    // Both are bf16, the upper half of an f32.
    f32::from_bits(first.widen().to_bits() >> 16 | second.widen().to_bits())
}

/// One head of a chunk of queries, in blocks of `W`, and room for a tile of keys.
pub(super) struct Chunk<'a, K, const W: usize> {
    kernel: K,
    depth: usize,
    /// `[blocks, depth in words, W]`
    queries: &'a mut [[f32; W]],
    /// `[blocks, depth in panels, W]`
    sums: &'a mut [[f32; W]],
    /// `[blocks, W]`, as is `total`.
    largest: &'a mut [[f32; W]],
    total: &'a mut [[f32; W]],
    tile: &'a mut [[f32; W]],
    k: &'a mut [[f32; PANEL]],
    v: &'a mut [[f32; PANEL]],
}

impl<'a, K: Kernel, const W: usize> Chunk<'a, K, W> {
    /// How many rows of `W` numbers and then of [`PANEL`] it needs, in the order of its fields.
    fn layout<E>(q: &Head<'_, E>) -> ([usize; 5], [usize; 2]) {
        let (blocks, words, panels) =
            (q.rows.div_ceil(W), q.depth.div_ceil(K::PER_WORD), q.depth.div_ceil(PANEL));
        (
            [blocks * words, blocks * panels * PANEL, blocks, blocks, KEYS],
            [KEYS / PANEL * words, panels * KEYS.div_ceil(K::PER_WORD)],
        )
    }

    /// How many numbers [`Chunk::new`] needs.
    pub fn scratch<E>(q: &Head<'_, E>) -> usize {
        let (wide, narrow) = Self::layout(q);
        W * wide.iter().sum::<usize>() + PANEL * narrow.iter().sum::<usize>()
    }

    /// The queries before the first key.
    #[inline(always)]
    pub fn new<E: Compute>(kernel: K, scratch: &'a mut [f32], q: &Head<'_, E>) -> Self {
        let (wide, narrow) = Self::layout(q);
        let (scratch, panels) = scratch.split_at_mut(W * wide.iter().sum::<usize>());
        let (mut scratch, mut panels) = (scratch.as_chunks_mut().0, panels.as_chunks_mut().0);
        let [queries, sums, largest, total, tile] = wide.map(|rows| split_off(&mut scratch, rows));
        let [k, v] = narrow.map(|rows| split_off(&mut panels, rows));
        for (b, block) in queries.chunks_exact_mut(wide[0] / wide[2]).enumerate() {
            q.pack_rows::<K, W>(b * W, block);
        }
        sums.fill([0.0; W]);
        largest.fill([f32::NEG_INFINITY; W]);
        total.fill([0.0; W]);
        Chunk { kernel, depth: q.depth, queries, sums, largest, total, tile, k, v }
    }

    /// Goes through all keys and writes what was found to the rows of `y`.
    #[inline(always)]
    pub fn attend<E: Compute, const V: usize>(
        mut self,
        k: &Head<'_, E>,
        v: &Head<'_, E>,
        y: &mut [&mut [E]],
    ) {
        for keys in tiles(k.rows, KEYS) {
            self.attend_to::<E, V>(k, v, keys);
        }
        self.store(y);
    }

    #[inline(always)]
    fn attend_to<E: Compute, const V: usize>(
        &mut self,
        k: &Head<'_, E>,
        v: &Head<'_, E>,
        keys: Range<usize>,
    ) {
        let (words, blocks) = (self.depth.div_ceil(K::PER_WORD), self.total.len());
        for (panel, at) in self.k.chunks_exact_mut(words).zip(keys.clone().step_by(PANEL)) {
            k.pack_rows::<K, PANEL>(at, panel);
        }
        for (panel, at) in
            self.v.chunks_exact_mut(keys.len().div_ceil(K::PER_WORD)).zip((0..self.depth).step_by(PANEL))
        {
            v.pack_columns::<K>(keys.clone(), at, panel);
        }
        let panels = keys.len().div_ceil(PANEL) * words;
        let keys = Keys { count: keys.len(), k: &self.k[..panels], v: self.v };
        let scale = std::f32::consts::LOG2_E / (self.depth as f32).sqrt();
        let states = self
            .sums
            .chunks_exact_mut(self.sums.len() / blocks)
            .zip(&mut *self.largest)
            .zip(&mut *self.total);
        for (queries, ((sums, largest), total)) in self.queries.chunks_exact(words).zip(states) {
            let mut block = Block { queries, sums, largest, total };
            block.attend::<K, V>(self.kernel, keys, scale, self.tile);
        }
    }

    #[inline(always)]
    fn store<E: Compute>(&self, y: &mut [&mut [E]]) {
        let blocks = self.sums.chunks_exact(self.sums.len() / self.total.len()).zip(&*self.total);
        for (y, (sums, total)) in y.chunks_mut(W).zip(blocks) {
            for (t, y) in y.iter_mut().enumerate() {
                let factor = 1.0 / total[t];
                for (y, sum) in y.iter_mut().zip(sums) {
                    *y = E::narrow(sum[t] * factor);
                }
            }
        }
    }
}

/// Takes the first `count` rows from `rest`.
fn split_off<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (first, others) = std::mem::take(rest).split_at_mut(count);
    *rest = others;
    first
}
