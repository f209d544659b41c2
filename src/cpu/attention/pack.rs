//! Heads as they lie in tensors, and the words that products want: four rows or columns at a time, in loops that
//! compilers turn into shuffles.
//!
//! Tried and lost: the same loops compiled for AVX-512, which LLVM turns into scatters; packing keys and values again
//! for every chunk of queries, a fifth of the time, for their rows lie a page apart.

use std::ops::Range;

use super::super::compute::widened;
use super::super::threads::tiles;
use super::super::{Compute, Cpu};
use super::kernel::{Kernel, Keys, PANEL};
use crate::ops::Columns;
use crate::tensor::Shaped;

/// Keys of a tile; whole panels, and whole words.
pub(super) const KEYS: usize = 32 * PANEL;

/// How many numbers [`pack`] writes for one head of so many keys.
pub(super) fn packed_len<K: Kernel>(keys: usize, depth: usize) -> usize {
    PANEL * tiles(keys, KEYS).flat_map(|tile| tile_len::<K>(tile.len(), depth)).sum::<usize>()
}

/// How many columns of panels the keys, and the values, of one tile are.
fn tile_len<K: Kernel>(keys: usize, depth: usize) -> [usize; 2] {
    [keys.div_ceil(PANEL) * depth.div_ceil(K::PER_WORD), depth.div_ceil(PANEL) * keys.div_ceil(K::PER_WORD)]
}

/// Packs all tiles of keys and values of one head, one after the other.
pub(super) fn pack<E: Compute, K: Kernel>(k: &Head<'_, E>, v: &Head<'_, E>, to: &mut [f32]) {
    let mut to = to.as_chunks_mut().0;
    for keys in tiles(k.rows, KEYS) {
        let [for_k, for_v] =
            tile_len::<K>(keys.len(), k.depth).map(|len| to.split_off_mut(..len).unwrap_or_default());
        let panels = for_k.chunks_exact_mut(k.depth.div_ceil(K::PER_WORD));
        for (first, panel) in keys.clone().step_by(PANEL).zip(panels) {
            k.pack_rows::<K, PANEL>(first, panel);
        }
        let panels = for_v.chunks_exact_mut(keys.len().div_ceil(K::PER_WORD));
        for (first, panel) in (0..v.depth).step_by(PANEL).zip(panels) {
            v.pack_columns::<K>(keys.clone(), first, panel);
        }
        if !K::SHOWS_NAN {
            let words = keys.len().div_ceil(K::PER_WORD);
            for key in keys.clone().filter(|&key| !k.is_finite(key)) {
                let word = (key - keys.start) / K::PER_WORD;
                for_v.iter_mut().skip(word).step_by(words).for_each(|values| values.fill(f32::NAN));
            }
        }
    }
}

/// The tiles that [`pack`] wrote.
pub(super) fn packed_tiles<K: Kernel>(
    keys: usize,
    depth: usize,
    packed: &[f32],
) -> impl Iterator<Item = Keys<'_>> {
    let mut packed = packed.as_chunks().0;
    tiles(keys, KEYS).map(move |keys| {
        let [k, v] = tile_len::<K>(keys.len(), depth).map(|len| packed.split_off(..len).unwrap_or_default());
        Keys { count: keys.len(), k, v }
    })
}

/// One head of some rows of a tensor.
pub(super) struct Head<'a, E> {
    data: &'a [E],
    /// From one row to the next.
    stride: usize,
    pub rows: usize,
    pub depth: usize,
}

impl<'a, E: Compute> Head<'a, E> {
    pub fn new(columns: &Columns<'a, Cpu<E>>, rows: Range<usize>, head: usize, depth: usize) -> Self {
        let stride = columns.tensor.shape().channels();
        let first = rows.start * stride + columns.first + head * depth;
        Head { data: &columns.tensor.data()[first..], stride, rows: rows.len(), depth }
    }

    pub fn row(&self, at: usize) -> &'a [E] {
        &self.data[at * self.stride..][..self.depth]
    }

    /// Looks at all of a row, for a loop that may end early does not vectorise.
    pub fn is_finite(&self, at: usize) -> bool {
        self.row(at).iter().fold(true, |finite, value| finite & value.widen().is_finite())
    }

    /// Rows `first..` as columns of words, `[depth in words, W]`; past the last comes that one again.
    pub fn pack_rows<K: Kernel, const W: usize>(&self, first: usize, to: &mut [[f32; W]]) {
        for column in (0..W).step_by(PANEL) {
            let rows: [&[E]; PANEL] =
                std::array::from_fn(|i| self.row((first + column + i).min(self.rows - 1)));
            for (to, at) in to.chunks_mut(PANEL).zip((0..self.depth).step_by(PANEL * K::PER_WORD)) {
                let mut words = [[0.0; PANEL]; PANEL];
                for (words, row) in words.iter_mut().zip(rows) {
                    *words = first_words::<E, K>(&row[at..]);
                }
                let words = transpose(words);
                for (to, words) in to.iter_mut().zip(words) {
                    to[column..][..PANEL].copy_from_slice(&words);
                }
            }
        }
    }

    /// The words of columns `first..` of the first two of some rows; 0 past the last row and column.
    #[inline(always)]
    pub fn pairs<const N: usize>(&self, rows: impl Iterator<Item = usize>, first: usize) -> [f32; N] {
        let mut both = [[0.0; N]; 2];
        for (values, row) in both.iter_mut().zip(rows) {
            *values = widened(self.row(row).get(first..).unwrap_or_default());
        }
        let [mut pairs, next] = both;
        for (value, next) in pairs.iter_mut().zip(next) {
            *value = pair(*value, next);
        }
        pairs
    }

    /// Columns `first..` of some rows in words of neighbouring rows, `[rows in words, PANEL]`; 0 past the last.
    pub fn pack_columns<K: Kernel>(&self, rows: Range<usize>, first: usize, to: &mut [[f32; PANEL]]) {
        for (at, to) in rows.clone().step_by(K::PER_WORD).zip(to) {
            *to = match K::PER_WORD {
                1 => widened(&self.row(at)[first..]),
                _ => self.pairs(at..rows.end, first),
            };
        }
    }
}

/// The first words of a row; 0 past its last value.
#[inline(always)]
fn first_words<E: Compute, K: Kernel>(row: &[E]) -> [f32; PANEL] {
    if K::PER_WORD == 1 {
        return widened(row);
    }
    let [low, high]: [[f32; PANEL]; 2] = [widened(row), widened(row.get(PANEL..).unwrap_or_default())];
    [pair(low[0], low[1]), pair(low[2], low[3]), pair(high[0], high[1]), pair(high[2], high[3])]
}

/// The word of two values in bf16, the upper half of an f32.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(first.to_bits() >> 16 | second.to_bits())
}

#[inline(always)]
fn transpose(block: [[f32; PANEL]; PANEL]) -> [[f32; PANEL]; PANEL] {
    let mut transposed = block;
    for (i, row) in block.iter().enumerate() {
        for (transposed, value) in transposed.iter_mut().zip(row) {
            transposed[i] = *value;
        }
    }
    transposed
}

/// Writes `sums / totals` of some queries, `[depth in panels, W]`, to a row each, while there are rows.
pub(super) fn unpack<'y, E: Compute, const W: usize>(
    sums: &[[f32; W]],
    totals: &[f32; W],
    y: &mut impl Iterator<Item = &'y mut [E]>,
) {
    for first in (0..W).step_by(PANEL) {
        let mut rows: [&mut [E]; PANEL] = std::array::from_fn(|_| y.next().unwrap_or_default());
        let mut shares = [0.0; PANEL];
        for (share, total) in shares.iter_mut().zip(&totals[first..]) {
            *share = 1.0 / total;
        }
        for (sums, at) in sums.chunks_exact(PANEL).zip((0..).step_by(PANEL)) {
            let mut means = [[0.0; PANEL]; PANEL];
            for (means, sums) in means.iter_mut().zip(sums) {
                for ((mean, sum), share) in means.iter_mut().zip(&sums[first..]).zip(shares) {
                    *mean = sum * share;
                }
            }
            for (row, means) in rows.iter_mut().zip(transpose(means)) {
                let to = row.get_mut(at..).unwrap_or_default();
                match to.first_chunk_mut::<PANEL>() {
                    Some(to) => *to = means.map(E::narrow),
                    None => to.iter_mut().zip(means).for_each(|(to, mean)| *to = E::narrow(mean)),
                }
            }
        }
    }
}
