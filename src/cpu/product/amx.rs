//! AMX, in bf16. Its tiles read rows that lie evenly spaced, which those of linear layers do, and pixels of one line of an
//! image; others are collected first, once for all panels of a task.
//!
//! Tried and lost, on two cores of an Emerald Rapids, 3x3 over 320 channels at 64x64 in 3.9 ms: panels' parts of 128 KiB
//! (4.6), for sums are loaded and stored with each; blocks of 1,024 rows (4.3); rows asked for beforehand (6.1).

use half::bf16;

use super::super::amx::{self, SIDE, STEP, Tiles};
use super::TAPS;
use super::tile::{Job, Kernel};

pub(super) fn kernel() -> Kernel<bf16> {
    Kernel {
        lanes: SIDE,
        panel: 2 * SIDE,
        depth: 2,
        step: STEP,
        rows: SIDE,
        block: 8 * SIDE,
        part: 512 << 10,
        wants_even_rows: true,
        ready: |f| {
            // SAFETY: the caller's promise that the machine has the instructions.
            let _tiles = unsafe { Tiles::new() };
            f();
        },
        run,
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn run(_rows: usize, vectors: usize, job: &Job<'_, bf16>) {
    // SAFETY: the caller's; panels of two vectors have the second one's weights behind the first one's.
    unsafe {
        match vectors {
            1 => half::<SIDE>(job, 0),
            _ => (0..2).for_each(|v| half::<{ 2 * SIDE }>(job, v * SIDE)),
        }
    }
}

/// Computes the columns from `first` on of a panel of `WIDTH`.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn half<const WIDTH: usize>(job: &Job<'_, bf16>, first: usize) {
    let mut taps = [amx::Rows { first: std::ptr::null(), stride: 0 }; TAPS];
    for (tap, starts) in taps.iter_mut().zip(job.starts) {
        let stride = starts[1].addr().wrapping_sub(starts[0].addr()) as isize;
        *tap = amx::Rows { first: starts[0], stride };
    }
    // SAFETY: the caller's: rows are even, of whole steps, and all there.
    unsafe {
        Tiles::multiply::<WIDTH>(
            &taps[..job.starts.len()],
            job.terms.div_ceil(STEP),
            job.weights.add(2 * first),
            job.sums.add(first),
            job.stride,
            job.add,
        );
    }
}
