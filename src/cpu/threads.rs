//! How work is cut and shared: into blocks of a fixed size, so that results do not depend on the number of threads.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use crate::simd::{CACHE_LINE, want_large_pages};

/// Below about this many floating-point operations, waking other threads costs more than it saves.
const WORTH_SHARING: u64 = 1 << 21;

/// Calls `f(item, block, values)` for every block of at most `block` values of every item of `item` values of `y`, on
/// the current rayon pool if `flops`, the work of all of it, is worth that.
pub(super) fn for_each_block<T: Send>(
    y: &mut [T],
    item: usize,
    block: usize,
    flops: u64,
    f: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    if y.is_empty() {
        return;
    }
    if flops < WORTH_SHARING || y.len() <= block {
        for (n, item) in y.chunks_mut(item).enumerate() {
            item.chunks_mut(block).enumerate().for_each(|(b, values)| f(n, b, values));
        }
        return;
    }
    y.par_chunks_mut(item).enumerate().for_each(|(n, item)| {
        item.par_chunks_mut(block).enumerate().for_each(|(b, values)| f(n, b, values));
    });
}

/// Calls `f` with each of `0..tasks`, on the current rayon pool if `flops`, the work of all of it, is worth that.
pub(super) fn share(tasks: usize, flops: u64, f: impl Fn(usize) + Sync) {
    if flops < WORTH_SHARING || tasks < 2 {
        (0..tasks).for_each(f);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(&f);
    }
}

/// `0..extent` in ranges of at most `tile`.
pub(super) fn tiles(extent: usize, tile: usize) -> impl Iterator<Item = Range<usize>> {
    (0..extent).step_by(tile).map(move |start| start..extent.min(start + tile))
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Lends `f` this thread's scratch memory, `values` numbers of arbitrary content from the start of a cache line, kept
/// from call to call.
pub(super) fn with_scratch(values: usize, f: impl FnOnce(&mut [f32])) {
    let mut scratch = SCRATCH.take();
    let most = values + CACHE_LINE / size_of::<f32>();
    if scratch.len() < most {
        scratch.reserve(most - scratch.len());
        want_large_pages(scratch.spare_capacity_mut());
        scratch.resize(most, 0.0);
    }
    let first = scratch.as_ptr().align_offset(CACHE_LINE);
    f(&mut scratch[first..][..values]);
    SCRATCH.set(scratch);
}
