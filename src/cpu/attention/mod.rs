//! Softmax over tiles of keys as they come (Milakov & Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv
//! 2205.14135), so the scores of a block of queries need one tile of memory however many keys there are.
//!
//! Keys and values are packed once. Then threads share heads of chunks of queries, whose blocks one tile of keys after
//! the other passes by. [`chunk`] says how that goes, [`kernel`] what happens in registers.

#[cfg(target_arch = "x86_64")]
mod amx;
mod chunk;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use super::product::Output;
use super::threads::{for_each_block, share, with_scratch};
use super::{Compute, Cpu, Isa};
use crate::error::Result;
use crate::ops::Attention;
use crate::pool::{HostMemory, Pool, PooledTensor};
use crate::tensor::{DType, Shaped};
use chunk::Chunk;
use kernel::Kernel;
use pack::{Head, pack, packed_len, packed_tiles};

/// What packing a number costs, in floating-point operations of a product.
const PACKING_FLOPS: u64 = 32;
/// Queries of a chunk.
const CHUNK: usize = 256;
/// Bytes of keys and values that stay in a second cache while all heads of a chunk pass by.
const FEW_KEYS: usize = 512 << 10;

/// Room for all keys and values, packed.
pub(super) fn scratch<E: Compute>(
    op: &Attention<'_, Cpu<E>>,
    isa: Isa,
    pool: &Pool<HostMemory>,
) -> Result<PooledTensor<f32>> {
    let [items, _, keys, depth] = extents(op);
    PooledTensor::new(pool, [items, op.heads, (Routine::<E>::new(isa).packed_len)(keys, depth)])
}

pub(super) fn attention<E: Compute>(
    op: &Attention<'_, Cpu<E>>,
    isa: Isa,
    scratch: &mut PooledTensor<f32>,
    y: &mut PooledTensor<E>,
) {
    (Routine::new(isa).attend)(op, scratch, y);
}

/// Items, queries, keys, channels of a head.
fn extents<E: Compute>(op: &Attention<'_, Cpu<E>>) -> [usize; 4] {
    let items = op.q.tensor.shape()[0];
    let [queries, keys] = [&op.q, &op.k].map(|of| of.tensor.shape().rows() / items);
    [items, queries, keys, op.channels / op.heads]
}

/// What is compiled for each instruction set.
struct Routine<E: Compute> {
    packed_len: fn(usize, usize) -> usize,
    attend: fn(&Attention<'_, Cpu<E>>, &mut PooledTensor<f32>, &mut PooledTensor<E>),
}

impl<E: Compute> Routine<E> {
    fn new(isa: Isa) -> Self {
        let isa = if E::DTYPE == DType::BF16 { isa } else { isa.in_f32() };
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Routine { packed_len: amx::packed_len, attend: attend_by_tiles },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Self::of::<x86::Avx512Bf16, 4, 64>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::of::<x86::Avx512, 4, 64>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::of::<x86::Avx2, 2, 16>(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self::of::<neon::Neon, 4, 16>(),
            _ => Self::of::<portable::Portable, 2, 8>(),
        }
    }

    /// In blocks of `W` queries: `V` vectors.
    fn of<K: Kernel, const V: usize, const W: usize>() -> Self {
        Routine { packed_len: packed_len::<K>, attend: attend::<E, K, V, W> }
    }
}

fn attend<E: Compute, K: Kernel, const V: usize, const W: usize>(
    op: &Attention<'_, Cpu<E>>,
    packed: &mut PooledTensor<f32>,
    y: &mut PooledTensor<E>,
) {
    cut(op, packed, y, packed_len::<K>, pack::<E, K>, |q, keys, packed, y| {
        with_scratch(Chunk::<K, W>::scratch(q), |scratch| {
            let mut chunk = Chunk::<K, W>::new(K::new(), scratch, q);
            for tile in packed_tiles::<K>(keys, q.depth, packed) {
                chunk.attend::<V>(tile);
            }
            chunk.store(y);
        });
    });
}

#[cfg(target_arch = "x86_64")]
fn attend_by_tiles<E: Compute>(
    op: &Attention<'_, Cpu<E>>,
    packed: &mut PooledTensor<f32>,
    y: &mut PooledTensor<E>,
) {
    cut(op, packed, y, amx::packed_len, amx::pack, amx::attend);
}

/// Packs the keys and values of every head, then gives `attend` a head of each chunk of queries, how many keys there are,
/// these, and the rows to write to.
fn cut<E: Compute>(
    op: &Attention<'_, Cpu<E>>,
    packed: &mut PooledTensor<f32>,
    y: &mut PooledTensor<E>,
    packed_len: impl Fn(usize, usize) -> usize,
    pack: impl Fn(&Head<'_, E>, &Head<'_, E>, &mut [f32]) + Sync,
    attend: impl Fn(&Head<'_, E>, usize, &[f32], OutputRows<'_, E>) + Sync,
) {
    let [items, queries, keys, depth] = extents(op);
    let packed_len = packed_len(keys, depth);
    let flops = PACKING_FLOPS * packed.data().len() as u64;
    for_each_block(packed.data_mut(), op.heads * packed_len, packed_len, flops, |n, h, to| {
        let [k, v] = [&op.k, &op.v].map(|of| Head::new(of, n * keys..(n + 1) * keys, h, depth));
        pack(&k, &v, to);
    });

    let (packed, chunks) = (packed.data(), queries.div_ceil(CHUNK));
    let of_item = op.heads * chunks;
    let y = Output::new(y.data_mut());
    // Neighbours share what takes longer to read and write again: the keys and values of a head, or else rows of queries.
    let few_keys = op.heads * packed_len * size_of::<f32>() <= FEW_KEYS;
    share(items * of_item, op.flops(), |task| {
        let (n, task) = (task / of_item, task % of_item);
        let (h, chunk) =
            if few_keys { (task % op.heads, task / op.heads) } else { (task / chunks, task % chunks) };
        let (head, first) = (n * op.heads + h, chunk * CHUNK);
        let rows = n * queries + first..n * queries + queries.min(first + CHUNK);
        let q = Head::new(&op.q, rows.clone(), h, depth);
        let y = OutputRows { y: &y, rows, channels: op.channels, first: h * depth, depth };
        attend(&q, keys, &packed[head * packed_len..][..packed_len], y);
    });
}

/// The columns of one head in some rows of the output.
struct OutputRows<'a, E> {
    y: &'a Output<E>,
    rows: Range<usize>,
    channels: usize,
    first: usize,
    depth: usize,
}

impl<'a, E> Iterator for OutputRows<'a, E> {
    type Item = &'a mut [E];

    fn next(&mut self) -> Option<&'a mut [E]> {
        let row = self.rows.next()?;
        // SAFETY: `cut` makes one of these for each head and chunk of rows, all of which are there.
        Some(unsafe { self.y.part(row * self.channels + self.first, self.depth) })
    }
}
