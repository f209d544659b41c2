use std::f32::consts::TAU;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::draws::NormalDraw;
use super::elementary::{ln_f32, sin_cos_f32};
use super::mt19937::item_range;
use crate::error::{Error, Result};
use crate::simd::vectorised;

/// Counters that are made into normal values together, within the nearest cache.
pub(super) const LANES: usize = 64;
/// Counters from which on a fill is shared among threads, and at which it is cut.
const WORTH_SHARING: usize = 1 << 14;
/// Threads of a block, as torch launches them.
const BLOCK: usize = 256;
/// Words that one counter gives.
const WORDS: usize = 4;
/// The bytes of a longer draw are more than 32 bits count, so torch divides it.
const MAX_DRAW: usize = 1 << 29;

/// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
#[inline(always)]
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xd251_1f53;
        let second = u64::from(counter[2]) * 0xcd9e_8d57;
        let high = |product: u64| (product >> 32) as u32;
        counter = [
            high(second) ^ counter[1] ^ key[0],
            second as u32,
            high(first) ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

/// The words of [`LANES`] counters, number by number of the word.
#[inline(always)]
pub(super) fn words(counter: impl Fn(usize) -> [u32; 4], key: [u32; 2]) -> [[u32; LANES]; WORDS] {
    let mut words = [[0; LANES]; WORDS];
    let [a, b, c, d] = &mut words;
    for (lane, (((a, b), c), d)) in a.iter_mut().zip(b).zip(c).zip(d).enumerate() {
        [*a, *b, *c, *d] = philox4x32_10(counter(lane), key);
    }
    words
}

/// Two words to two normal values, as curand has it (Box and Muller 1958), for [`LANES`] pairs of words.
#[inline(always)]
pub(super) fn box_muller(x: &[u32; LANES], y: &[u32; LANES]) -> [[f32; LANES]; 2] {
    const STEP: f32 = 1.0 / (1u64 << 32) as f32;
    let mut normals = [[0.0; LANES]; 2];
    for lane in 0..LANES {
        let radius = (-2.0 * ln_f32(x[lane] as f32 * STEP + STEP / 2.0)).sqrt();
        // Fused, as CUDA's compiler makes it; defined to the bit, so the same everywhere.
        let (sin, cos) = sin_cos_f32((y[lane] as f32).mul_add(TAU * STEP, TAU * STEP / 2.0));
        normals[0][lane] = radius * sin;
        normals[1][lane] = radius * cos;
    }
    normals
}

pub(super) fn halves(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// What of a GPU decides which values `torch.randn` gives on it: how many threads it runs at once.
///
/// Draws of at most that many values are the same on all of them. In a longer draw each thread makes several
/// values, so that which counter makes which value depends on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct Topology {
    blocks: u64,
}

impl Topology {
    /// H100 SXM: the same values up to 270,336.
    pub const H100: Self = Self::of(132, 2048);
    /// A100: the same values up to 221,184.
    pub const A100: Self = Self::of(108, 2048);
    /// GeForce RTX 4090: the same values up to 196,608.
    pub const RTX_4090: Self = Self::of(128, 1536);
    /// GeForce RTX 3090: the same values up to 125,952.
    pub const RTX_3090: Self = Self::of(82, 1536);
    /// T4: the same values up to 40,960.
    pub const T4: Self = Self::of(40, 1024);

    /// No GPU: as if it ran all threads of a draw at once. A1111's "NV" draws so.
    pub const UNBOUNDED: Self = Self::of(u32::MAX, BLOCK as u32);

    /// A GPU by its `multi_processor_count` and `max_threads_per_multi_processor`, as
    /// `torch.cuda.get_device_properties` tells them.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no multiprocessor, or if one cannot run 256 threads.
    pub fn new(multiprocessors: u32, max_threads_per_multiprocessor: u32) -> Result<Self> {
        let topology = Self::of(multiprocessors, max_threads_per_multiprocessor);
        if topology.blocks == 0 {
            return Err(Error::Value {
                op: "topology",
                what: "multiprocessors and threads",
                expected: format!("at least 1 multiprocessor of {BLOCK} threads"),
                got: format!("{multiprocessors} of {max_threads_per_multiprocessor}"),
            });
        }
        Ok(topology)
    }

    const fn of(multiprocessors: u32, max_threads_per_multiprocessor: u32) -> Self {
        Topology { blocks: multiprocessors as u64 * (max_threads_per_multiprocessor as u64 / BLOCK as u64) }
    }

    /// The threads that make a draw of `elements` values.
    fn threads(self, elements: usize) -> usize {
        let blocks = elements.div_ceil(BLOCK).max(1);
        BLOCK * usize::try_from(self.blocks).map_or(blocks, |most| most.min(blocks))
    }

    pub(super) fn check(self, op: &'static str, elements: usize) -> Result<()> {
        if elements > MAX_DRAW {
            return Err(Error::Value {
                op,
                what: "elements",
                expected: format!("at most {MAX_DRAW} in one draw"),
                got: elements.to_string(),
            });
        }
        Ok(())
    }
}

/// Written down as the number of blocks of 256 threads that run at once.
impl From<Topology> for u64 {
    fn from(topology: Topology) -> Self {
        topology.blocks
    }
}

impl TryFrom<u64> for Topology {
    type Error = Error;

    fn try_from(blocks: u64) -> Result<Self> {
        match u32::try_from(blocks) {
            Ok(blocks) => Topology::new(blocks, BLOCK as u32),
            Err(_) => {
                let (op, what, expected) = ("topology", "blocks", format!("at most {}", u32::MAX));
                Err(Error::Value { op, what, expected, got: blocks.to_string() })
            }
        }
    }
}

/// The random generator of PyTorch on a GPU: `torch.Generator("cuda").manual_seed(seed)`, for `f32`.
///
/// Thread t of a launch computes counter (offset / 4, t) of Philox4x32-10 under the seed; its four words make
/// values t, t + T, t + 2T and t + 3T of the draw, for T threads, and the next counter the next four. A draw
/// moves the offset by 4 for each counter that a thread used.
///
/// Nothing here has been run beside a GPU. The tests compare with values that others printed, to the four
/// digits that they printed, from an H100, an A100 and smaller cards. A GPU's fast sine and cosine are coarser
/// than these, so the last digits differ.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Philox {
    seed: u64,
    offset: u64,
    topology: Topology,
}

impl Philox {
    /// The generator after `manual_seed(seed)` on a GPU of this topology.
    pub fn new(seed: u64, topology: Topology) -> Self {
        Philox { seed, offset: 0, topology }
    }

    /// Fills `out` with standard normal values: `torch.randn(n, generator=g, device="cuda")` for n = `out.len()`.
    ///
    /// # Errors
    /// [`Error::Value`] for more than 2^29 values, which torch draws in parts.
    pub fn randn(&mut self, out: &mut [f32]) -> Result<()> {
        self.randn_item(1, 0, out)
    }

    /// The next draw of `elements` values as data; leaves the generator as the draw does.
    ///
    /// # Errors
    /// Those of [`Philox::randn`].
    pub fn next_draw(&mut self, elements: usize) -> Result<NormalDraw> {
        self.topology.check("randn", elements)?;
        let threads = self.topology.threads(elements);
        let counter = halves(self.offset / WORDS as u64);
        self.offset = self.offset.wrapping_add((WORDS * elements.div_ceil(WORDS * threads)) as u64);
        Ok(NormalDraw { key: halves(self.seed), counter, threads: threads as u32 })
    }

    /// Fills `out` with item number `item` of `torch.randn(items, n, generator=g, device="cuda")` for
    /// n = `out.len()`, without computing the others, and leaves the generator as that draw does.
    ///
    /// # Errors
    /// [`Error::Value`] unless `item` < `items`, or if the batch has more than 2^29 values.
    pub fn randn_item(&mut self, items: usize, item: usize, out: &mut [f32]) -> Result<()> {
        let (total, range) = item_range("randn_item", items, item, out.len())?;
        self.topology.check("randn_item", total)?;
        let mut draw = self.topology.draw(self.seed, total);
        draw.counter = self.offset / WORDS as u64;
        draw.next = range.start;
        draw.fill(out);
        self.offset = self.offset.wrapping_add((WORDS * total.div_ceil(WORDS * draw.threads)) as u64);
        Ok(())
    }
}

/// A draw under way.
#[derive(Debug, Clone)]
pub(super) struct PhiloxDraw {
    key: [u32; 2],
    /// The counter that each thread begins with.
    counter: u64,
    threads: usize,
    next: usize,
}

/// Values that successive threads write, from number `thread` on.
struct Row<'a> {
    thread: usize,
    values: &'a mut [f32],
}

impl Topology {
    /// The first draw, of `elements` values, of a generator with this seed.
    pub(super) fn draw(self, seed: u64, elements: usize) -> PhiloxDraw {
        PhiloxDraw { key: halves(seed), counter: 0, threads: self.threads(elements), next: 0 }
    }
}

impl PhiloxDraw {
    /// The values from number `next` on of a draw in which each of so many threads begins with `counter`.
    pub(super) fn new(key: [u32; 2], counter: u64, threads: usize, next: usize) -> Self {
        PhiloxDraw { key, counter, threads, next }
    }

    /// Passes over `n` values.
    pub(super) fn skip(&mut self, n: usize) {
        self.next += n;
    }

    /// The draw's next values.
    pub(super) fn fill(&mut self, mut out: &mut [f32]) {
        let per_counter = WORDS * self.threads;
        while !out.is_empty() {
            let (counter, first) = (self.next / per_counter, self.next % per_counter);
            let len = out.len().min(per_counter - first);
            let mut values = out.split_off_mut(..len).unwrap_or_default();
            let rows = std::array::from_fn(|row| {
                let (start, end) = (row * self.threads, (row + 1) * self.threads);
                let start_here = first.clamp(start, end);
                let len = values.len().min(end - start_here);
                let values = values.split_off_mut(..len).unwrap_or_default();
                Row { thread: start_here - start, values }
            });
            self.fill_rows(self.counter.wrapping_add(counter as u64), rows);
            self.next += len;
        }
    }

    /// What the threads make of one counter each.
    fn fill_rows(&self, counter: u64, rows: [Row; WORDS]) {
        let threads = threads_of(&rows);
        if threads.len() < 2 * WORTH_SHARING {
            vectorised(
                #[inline(always)]
                || self.fill_rows_portable(counter, threads, rows),
            );
        } else {
            let (low, high) = split(rows, threads.start + threads.len() / 2 / LANES * LANES);
            rayon::join(|| self.fill_rows(counter, low), || self.fill_rows(counter, high));
        }
    }

    #[inline(always)]
    fn fill_rows_portable(&self, counter: u64, threads: Range<usize>, mut rows: [Row; WORDS]) {
        let [low, high] = halves(counter);
        for first in threads.step_by(LANES) {
            let words = words(
                #[inline(always)]
                |lane| [low, high, (first + lane) as u32, 0],
                self.key,
            );
            let (pairs, _) = rows.as_chunks_mut::<2>();
            for (pair, words) in pairs.iter_mut().zip(words.as_chunks::<2>().0) {
                if pair.iter().all(|row| row.values.is_empty()) {
                    continue;
                }
                let normals = box_muller(&words[0], &words[1]);
                for (row, normals) in pair.iter_mut().zip(&normals) {
                    row.write(first, normals);
                }
            }
        }
    }
}

impl Row<'_> {
    /// Takes what is its own of the values of the threads from `first` on.
    #[inline(always)]
    fn write(&mut self, first: usize, normals: &[f32; LANES]) {
        let from = self.thread.max(first);
        let to = (self.thread + self.values.len()).min(first + LANES);
        if from < to {
            self.values[from - self.thread..to - self.thread]
                .copy_from_slice(&normals[from - first..to - first]);
        }
    }
}

/// The threads from the first to the last that has a value to write.
fn threads_of(rows: &[Row]) -> Range<usize> {
    let rows = || rows.iter().filter(|row| !row.values.is_empty());
    let start = rows().map(|row| row.thread).min().unwrap_or(0);
    start..rows().map(|row| row.thread + row.values.len()).max().unwrap_or(start)
}

fn split<'a>(mut rows: [Row<'a>; WORDS], at: usize) -> ([Row<'a>; WORDS], [Row<'a>; WORDS]) {
    let high = rows.each_mut().map(|row| {
        let low = at.saturating_sub(row.thread).min(row.values.len());
        Row { thread: row.thread.max(at), values: row.values.split_off_mut(low..).unwrap_or_default() }
    });
    (rows, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::elementary::assert_same_bits_at_every_width;

    #[test]
    fn a_fill_is_the_same_at_every_width() {
        assert_same_bits_at_every_width(
            #[inline(always)]
            || {
                let mut out = vec![0.0; 4 * 10_000];
                let mut rows = out.chunks_mut(10_000).map(|values| Row { thread: 0, values });
                let rows = std::array::from_fn(|_| rows.next().unwrap());
                Topology::H100.draw(1, 40_000).fill_rows_portable(0, 0..10_000, rows);
                out
            },
        );
    }

    /// The known answers of the Random123 library.
    #[test]
    fn philox_gives_the_known_answers() {
        let ones = u32::MAX;
        let known = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, words) in known {
            assert_eq!(philox4x32_10(counter, key), words);
        }
    }
}
