//! Softmax over tiles of keys as they come (Milakov & Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv
//! 2205.14135), so the scores of a block of queries need one tile of memory however many keys there are.
//!
//! Threads share heads of chunks of queries. A thread packs a tile of keys and values once and takes all blocks of its
//! chunk past it; what it needs fits the second cache for any number of keys. [`chunk`] says how that goes,
//! [`kernel`] what happens in registers.

mod chunk;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use super::threads::{for_each_block, join, with_scratch};
use super::{Compute, Cpu};
use crate::ops::Attention;
use crate::pool::PooledTensor;
use crate::tensor::{DType, Shaped};
use chunk::{Chunk, Head};
use kernel::Kernel;

/// Queries of a chunk.
const CHUNK: usize = 256;

pub(super) fn attention<E: Compute>(op: &Attention<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(kernel) = x86::Avx512Bf16::new().filter(|_| E::DTYPE == DType::BF16) {
            return attend::<_, _, 4, 64>(kernel, op, y);
        }
        if let Some(kernel) = x86::Avx512::new() {
            return attend::<_, _, 4, 64>(kernel, op, y);
        }
        if let Some(kernel) = x86::Avx2::new() {
            return attend::<_, _, 2, 16>(kernel, op, y);
        }
    }
    #[cfg(target_arch = "aarch64")]
    return attend::<_, _, 4, 16>(neon::Neon, op, y);
    #[cfg(not(target_arch = "aarch64"))]
    attend::<_, _, 2, 8>(portable::Portable, op, y)
}

/// All of it, in blocks of `W` queries: `V` vectors.
fn attend<E: Compute, K: Kernel, const V: usize, const W: usize>(
    kernel: K,
    op: &Attention<'_, Cpu<E>>,
    y: &mut PooledTensor<E>,
) {
    let [queries, keys] = [&op.q, &op.k].map(|of| of.tensor.shape().rows() / of.tensor.shape()[0]);
    for_each_block(y.data_mut(), queries * op.channels, CHUNK * op.channels, op.flops(), |n, b, y| {
        let rows = y.len() / op.channels;
        let (queries, keys) = (n * queries + b * CHUNK.., n * keys..(n + 1) * keys);
        let flops = 4 * (y.len() * keys.len()) as u64;
        for_each_head(split_rows(y, op.channels), 0..op.heads, flops, &|head, mut y| {
            let head = |of, rows| Head::new(of, rows, head, op.channels / op.heads);
            let q = head(&op.q, queries.start..queries.start + rows);
            let (k, v) = (head(&op.k, keys.clone()), head(&op.v, keys.clone()));
            with_scratch(Chunk::<K, W>::scratch(&q), |scratch| {
                kernel.run(
                    #[inline(always)]
                    || Chunk::<K, W>::new(kernel, scratch, &q).attend::<E, V>(&k, &v, &mut y[..rows]),
                );
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
