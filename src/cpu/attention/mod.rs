//! Softmax over tiles of keys as they come (Milakov & Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv
//! 2205.14135), so the scores of a block of queries need one tile of memory however many keys there are.
//!
//! Keys and values are packed once. Then threads share heads of chunks of queries, whose blocks one tile of keys after
//! the other passes by. [`chunk`] says how that goes, [`kernel`] what happens in registers.

mod chunk;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use super::threads::{for_each_block, join, with_scratch};
use super::{Compute, Cpu, Isa};
use crate::error::Result;
use crate::ops::Attention;
use crate::pool::{HostMemory, Pool, PooledTensor};
#[cfg(target_arch = "x86_64")]
use crate::tensor::DType;
use crate::tensor::Shaped;
use chunk::Chunk;
use kernel::Kernel;
use pack::{Head, pack, packed_len, packed_tiles};

/// What packing a number costs, in floating-point operations of a product.
const PACKING_FLOPS: u64 = 32;
/// Queries of a chunk.
const CHUNK: usize = 256;

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
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx if E::DTYPE == DType::BF16 => Self::of::<x86::Amx, 4, 64>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 if E::DTYPE == DType::BF16 => Self::of::<x86::Avx512Bf16, 4, 64>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => Self::of::<x86::Avx512, 4, 64>(),
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
    let [_, queries, keys, depth] = extents(op);
    let packed_len = packed_len::<K>(keys, depth);
    let (item, block) = (op.heads * packed_len, packed_len);
    let flops = PACKING_FLOPS * packed.data().len() as u64;
    for_each_block(packed.data_mut(), item, block, flops, |n, h, to| {
        let [k, v] = [&op.k, &op.v].map(|of| Head::new(of, n * keys..(n + 1) * keys, h, depth));
        pack::<E, K>(&k, &v, to);
    });

    let packed = packed.data();
    for_each_block(y.data_mut(), queries * op.channels, CHUNK * op.channels, op.flops(), |n, b, y| {
        let (first, count) = (n * queries + b * CHUNK, y.len() / op.channels);
        let flops = 4 * (y.len() * keys) as u64;
        for_each_head(split_rows(y, op.channels), 0..op.heads, flops, &|h, mut y| {
            let q = Head::new(&op.q, first..first + count, h, depth);
            let packed = &packed[(n * op.heads + h) * packed_len..][..packed_len];
            with_scratch(Chunk::<K, W>::scratch(&q), |scratch| {
                let kernel = K::new();
                let mut chunk = Chunk::<K, W>::new(kernel, scratch, &q);
                kernel.run_products(
                    #[inline(always)]
                    || {
                        for tile in packed_tiles::<K>(keys, depth, packed) {
                            chunk.attend::<V>(tile);
                        }
                    },
                );
                chunk.store(&mut y[..count]);
            });
        });
    });
}

/// Some columns of the rows of a chunk of `y`; those past the last row are empty.
type Rows<'a, E> = [&'a mut [E]; CHUNK];

fn split_rows<E>(y: &mut [E], channels: usize) -> Rows<'_, E> {
    let mut rows = y.chunks_exact_mut(channels);
    std::array::from_fn(|_| rows.next().unwrap_or_default())
}

/// Calls `f` with each of `heads`, which `rows` have side by side, and its columns; on several threads if `flops` is
/// worth that.
fn for_each_head<E: Send>(
    rows: Rows<'_, E>,
    heads: Range<usize>,
    flops: u64,
    f: &(impl Fn(usize, Rows<'_, E>) + Sync),
) {
    if heads.len() == 1 {
        return f(heads.start, rows);
    }
    let (half, middle) = (heads.len() / 2, heads.start + heads.len() / 2);
    let [mut left, mut right]: [Rows<'_, E>; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| Default::default()));
    for ((row, left), right) in rows.into_iter().zip(&mut left).zip(&mut right) {
        (*left, *right) = row.split_at_mut(row.len() / heads.len() * half);
    }
    join(
        flops,
        || for_each_head(left, heads.start..middle, flops / 2, f),
        || for_each_head(right, middle..heads.end, flops / 2, f),
    );
}
