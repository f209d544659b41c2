//! What a loop tells caches and the system about memory that it will need, or will not.

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

/// Bytes that caches take from memory at once, and what vectors' loads want to begin on.
pub(crate) const CACHE_LINE: usize = 64;

/// Begins to bring `values` into the second nearest cache.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    prefetch_lines(values.as_ptr().cast(), lines_of(values));
}

/// How many lines of a cache values lie in.
#[inline(always)]
fn lines_of<T>(values: &[T]) -> usize {
    match values {
        [] => 0,
        _ => (values.as_ptr().addr() % CACHE_LINE + size_of_val(values)).div_ceil(CACHE_LINE),
    }
}

/// Memory that will be needed, in at most `N` pieces, to be asked for little by little while something else is computed: a
/// processor waits for 10 to 20 lines at once, and lets whatever follows a request for more wait too.
pub(crate) struct Ahead<const N: usize> {
    pieces: [Piece; N],
    count: usize,
    /// The first piece that was not asked for to its end.
    next: usize,
    /// Of all pieces, asked for or not.
    lines: usize,
}

/// Rows of memory, of which some were asked for.
#[derive(Clone, Copy)]
struct Piece {
    /// Where the rest of a row begins, and how many lines that is.
    rest: *const u8,
    left: usize,
    /// Of every row.
    lines: usize,
    /// After that one, and how many bytes from the end of one's lines the next begins.
    rows: usize,
    gap: usize,
}

impl<const N: usize> Ahead<N> {
    pub(crate) fn new() -> Self {
        let nothing = Piece { rest: std::ptr::null(), left: 0, lines: 0, rows: 0, gap: 0 };
        Ahead { pieces: [nothing; N], count: 0, next: 0, lines: 0 }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        (self.count, self.next, self.lines) = (0, 0, 0);
    }

    /// Adds `values`, unless there are `N` pieces: nothing depends on it.
    #[inline(always)]
    pub(crate) fn want<T>(&mut self, values: &[T]) {
        self.want_rows(values, 1, 0);
    }

    /// The same of `rows` rows, each as many values long as `first` and `stride` after the one before.
    #[inline(always)]
    pub(crate) fn want_rows<T>(&mut self, first: &[T], rows: usize, stride: usize) {
        // Elsewhere nothing would be asked for.
        if first.is_empty() || cfg!(not(target_arch = "x86_64")) {
            return;
        }
        let Some(piece) = self.pieces.get_mut(self.count) else { return };
        let (rest, lines) = (first.as_ptr().cast::<u8>(), lines_of(first));
        let gap = (stride * size_of::<T>()).wrapping_sub(lines * CACHE_LINE);
        *piece = Piece { rest, left: lines, lines, rows: rows - 1, gap };
        self.lines += rows * lines;
        self.count += 1;
    }

    /// Lines of all that was added.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Begins to bring the next `lines` into the second nearest cache, or all that are left.
    #[inline(always)]
    pub(crate) fn ask(&mut self, mut lines: usize) {
        while lines > 0 {
            let Some(piece) = self.pieces[..self.count].get_mut(self.next) else { return };
            // From a copy: what is read back from memory for each line comes later than what is multiplied meanwhile.
            let Piece { rest, left, lines: of_row, rows, gap } = *piece;
            let now = lines.min(left);
            prefetch_lines(rest, now);
            lines -= now;
            let rest = rest.wrapping_add(now * CACHE_LINE);
            if now < left {
                (piece.rest, piece.left) = (rest, left - now);
            } else if rows > 0 {
                (piece.rest, piece.left, piece.rows) = (rest.wrapping_add(gap), of_row, rows - 1);
            } else {
                self.next += 1;
            }
        }
    }
}

/// So many, from that of `first` on.
#[inline(always)]
fn prefetch_lines(first: *const u8, lines: usize) {
    for line in 0..lines {
        let line = first.wrapping_add(line * CACHE_LINE);
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a prefetch reads nothing that could be seen, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
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
