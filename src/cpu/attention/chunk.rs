//! One head of a chunk of queries on its way through the keys.

use super::super::Compute;
use super::kernel::{Block, Kernel, Keys, PANEL};
use super::pack::{Head, KEYS, unpack};

/// One head of a chunk of queries, in blocks of `W`.
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
    /// Of a tile of keys.
    weights: &'a mut [[f32; W]],
}

impl<'a, K: Kernel, const W: usize> Chunk<'a, K, W> {
    /// How many rows each of its parts has, in their order.
    fn layout<E: Compute>(q: &Head<'_, E>) -> [usize; 5] {
        let blocks = q.rows.div_ceil(W);
        let (words, padded) = (q.depth.div_ceil(K::PER_WORD), q.depth.next_multiple_of(PANEL));
        [blocks * words, blocks * padded, blocks, blocks, KEYS]
    }

    /// How many numbers [`Chunk::new`] needs.
    pub fn scratch<E: Compute>(q: &Head<'_, E>) -> usize {
        W * Self::layout(q).iter().sum::<usize>()
    }

    /// The queries before the first key.
    pub fn new<E: Compute>(kernel: K, scratch: &'a mut [f32], q: &Head<'_, E>) -> Self {
        let mut rows = scratch.as_chunks_mut().0;
        let [queries, sums, largest, total, weights] =
            Self::layout(q).map(|count| rows.split_off_mut(..count).unwrap_or_default());
        for (b, block) in queries.chunks_exact_mut(q.depth.div_ceil(K::PER_WORD)).enumerate() {
            q.pack_rows::<K, W>(b * W, block);
        }
        sums.fill([0.0; W]);
        largest.fill([f32::NEG_INFINITY; W]);
        total.fill([0.0; W]);
        Chunk { kernel, depth: q.depth, queries, sums, largest, total, weights }
    }

    /// Takes in a tile of keys and values.
    pub fn attend<const V: usize>(&mut self, keys: Keys<'_>) {
        let scale = std::f32::consts::LOG2_E / (self.depth as f32).sqrt();
        let queries = self.queries.chunks_exact(self.depth.div_ceil(K::PER_WORD));
        let sums = self.sums.chunks_exact_mut(self.depth.next_multiple_of(PANEL));
        let states = sums.zip(&mut *self.largest).zip(&mut *self.total);
        for (queries, ((sums, largest), total)) in queries.zip(states) {
            let mut block = Block { queries, sums, largest, total };
            self.kernel.run(
                #[inline(always)]
                || block.attend::<K, V>(self.kernel, keys, scale, self.weights),
            );
        }
    }

    /// Writes what was found after the last key to a row for each query.
    pub fn store<'y, E: Compute>(&self, mut y: impl Iterator<Item = &'y mut [E]>) {
        let sums = self.sums.chunks_exact(self.depth.next_multiple_of(PANEL));
        for (sums, total) in sums.zip(&*self.total) {
            unpack(sums, total, &mut y);
        }
    }
}
