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

use super::product::Output;
use super::threads::{for_each_block, share, with_scratch};
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

    let (packed, chunks) = (packed.data(), queries.div_ceil(CHUNK));
    let y = Output::new(y.data_mut());
    // Tasks of a head are neighbours, so that its keys and values are read from memory once.
    share(op.q.tensor.shape()[0] * op.heads * chunks, op.flops(), |task| {
        let (head, first) = (task / chunks, task % chunks * CHUNK);
        let (n, h) = (head / op.heads, head % op.heads);
        let rows = n * queries + first..n * queries + queries.min(first + CHUNK);
        let q = Head::new(&op.q, rows.clone(), h, depth);
        with_scratch(Chunk::<K, W>::scratch(&q), |scratch| {
            let kernel = K::new();
            let mut chunk = Chunk::<K, W>::new(kernel, scratch, &q);
            kernel.run_products(
                #[inline(always)]
                || {
                    for tile in packed_tiles::<K>(keys, depth, &packed[head * packed_len..][..packed_len]) {
                        chunk.attend::<V>(tile);
                    }
                },
            );
            // SAFETY: `y` has a row for each query, whose columns of a head belong to this task alone.
            chunk.store(rows.map(|row| unsafe { y.part(row * op.channels + h * depth, depth) }));
        });
    });
}
