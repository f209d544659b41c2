//! What a loop tells caches and the system about memory that it will need, or will not.

use std::ops::Range;

/// Copies values past the caches that are not read again soon: they push out no others, and memory need not be read to
/// be written. Other threads may read them once this is dropped.
pub(crate) struct PastCaches(());

impl PastCaches {
    /// Where copies begin.
    pub(crate) fn new() -> Self {
        PastCaches(())
    }

    /// Copies `from` to the first values of `to`.
    pub(crate) fn copy(&self, to: &mut [f32], from: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
            let to = &mut to[..from.len()];
            let (unaligned, to) = to.split_at_mut(to.as_ptr().align_offset(16).min(from.len()));
            let (first, from) = from.split_at(unaligned.len());
            let ((to, last), (from, from_last)) = (to.as_chunks_mut::<4>(), from.as_chunks::<4>());
            unaligned.copy_from_slice(first);
            last.copy_from_slice(from_last);
            for (to, from) in to.iter_mut().zip(from) {
                // SAFETY: both are four values long, and `to` is aligned to 16 bytes, as its first one is.
                unsafe { _mm_stream_ps(to.as_mut_ptr(), _mm_loadu_ps(from.as_ptr())) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        to[..from.len()].copy_from_slice(from);
    }
}

impl Drop for PastCaches {
    fn drop(&mut self) {
        // SAFETY: a fence has no conditions. Nothing else orders such stores before what tells others of them.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

/// What caches take from memory at once.
const LINE: usize = 64;

/// Begins to bring `values` into the second nearest cache.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    let mut ahead = Ahead::<1>::new();
    ahead.want(values);
    ahead.ask(ahead.lines);
}

/// Memory that will be needed, in `N` pieces at most, to be asked for little by little while something else is computed: a
/// processor waits for some 16 lines at once, and lets what follows wait behind them.
pub(crate) struct Ahead<const N: usize> {
    pieces: [Range<*const u8>; N],
    count: usize,
    /// The first piece that was not asked for to its end.
    next: usize,
    /// Lines of all pieces.
    lines: usize,
}

impl<const N: usize> Ahead<N> {
    /// No memory.
    pub(crate) fn new() -> Self {
        Ahead { pieces: [const { std::ptr::null()..std::ptr::null() }; N], count: 0, next: 0, lines: 0 }
    }

    /// Adds `values`, if there is room for a piece.
    #[inline(always)]
    pub(crate) fn want<T>(&mut self, values: &[T]) {
        if values.is_empty() || self.count == N {
            return;
        }
        let Range { start, end } = values.as_ptr_range();
        let start = start.cast::<u8>();
        let piece = start.wrapping_sub(start.addr() % LINE)..end.cast();
        self.lines += (piece.end.addr() - piece.start.addr()).div_ceil(LINE);
        self.pieces[self.count] = piece;
        self.count += 1;
    }

    /// Lines of all that was added.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Begins to bring the next `lines` into the second nearest cache, or as many as are left.
    #[inline(always)]
    pub(crate) fn ask(&mut self, lines: usize) {
        let mut left = lines;
        while left > 0 {
            let Some(piece) = self.pieces[..self.count].get_mut(self.next) else { return };
            let lines = left.min((piece.end.addr() - piece.start.addr()).div_ceil(LINE));
            let after = piece.start.wrapping_add(lines * LINE);
            let mut line = piece.start;
            while line < after {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a prefetch reads nothing that could be seen, whatever the address.
                unsafe {
                    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                    _mm_prefetch::<_MM_HINT_T0>(line.cast());
                }
                line = line.wrapping_add(LINE);
            }
            piece.start = after;
            self.next += usize::from(after >= piece.end);
            left -= lines;
        }
    }
}

/// Asks for large pages behind `memory`, which is yet to be written: so that it takes fewer of them, each of which has to
/// be cleared at first and whose address looked up ever after. The system may refuse.
pub(crate) fn want_large_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 1 << 21;
        let range = memory.as_mut_ptr_range();
        let skipped = range.start.addr().next_multiple_of(PAGE) - range.start.addr();
        let len = size_of_val(memory).saturating_sub(skipped) / PAGE * PAGE;
        if len > 0 {
            let start = range.start.wrapping_byte_add(skipped);
            // SAFETY: `len` bytes from `start` lie within `memory`, and the advice changes no contents.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_past_the_caches_is_a_copy() {
        let from: Vec<f32> = (1..100).map(|value| value as f32).collect();
        for first in 0..9 {
            for len in 0..from.len() - first {
                let mut to = vec![0.0; 120];
                PastCaches::new().copy(&mut to[first..], &from[..len]);
                assert_eq!(to[first..first + len], from[..len]);
                assert!(to[..first].iter().chain(&to[first + len..]).all(|&value| value == 0.0));
            }
        }
    }
}
