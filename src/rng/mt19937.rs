use std::f32::consts::TAU;
use std::f64;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::elementary::{ln_f32, ln_f64, sin_cos_f32, sin_cos_f64};
use crate::error::{Error, Result};
use crate::simd::vectorised;
use crate::tensor::Element;

const WORDS: usize = 624;
const SHIFT: usize = 397;
/// From this many values on, torch draws them in blocks of this size.
const BLOCK: usize = 16;
/// Blocks whose eight pairs each fill a vector of 16 together: 0.75 ns a value with AVX-512, where 1, 4 and 8 blocks
/// take 0.95, 0.85 and 1.6. The Mersenne Twister alone is 0.2 ns of that.
const TILE: usize = 2;
/// Blocks that go through uniform and normal values together, within the nearest cache.
const AT_ONCE: usize = 64;
/// The words before an item have to be generated, so a batch without a limit is time without a limit.
const MAX_BATCH: usize = 1 << 16;

/// The CPU random generator of PyTorch: `torch.Generator().manual_seed(seed)`.
///
/// The bits are those of the Mersenne Twister (Matsumoto and Nishimura 1998). The normal values agree with
/// torch 2.15's to 1e-6; torch's own differ that much between machines, these are the same bits everywhere,
/// since nothing here calls a math library.
///
/// A clone is a snapshot: it continues with the same values. So does one that was written down and read again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct Mt19937 {
    state: [u32; WORDS],
    tempered: [u32; WORDS],
    used: usize,
    next_normal: Option<f64>,
}

/// A generator as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    state: Vec<u32>,
    used: usize,
    next_normal: Option<f64>,
}

impl From<Mt19937> for Record {
    fn from(Mt19937 { state, used, next_normal, .. }: Mt19937) -> Self {
        Record { state: state.to_vec(), used, next_normal }
    }
}

impl TryFrom<Record> for Mt19937 {
    type Error = Error;

    fn try_from(Record { state, used, next_normal }: Record) -> Result<Self> {
        match <[u32; WORDS]>::try_from(state) {
            Ok(state) if used <= WORDS => {
                Ok(Mt19937 { state, tempered: state.map(temper), used, next_normal })
            }
            _ => {
                let expected = format!("{WORDS} words, none used twice");
                Err(Error::Value { op: "mt19937", what: "state", expected, got: format!("{used} used") })
            }
        }
    }
}

impl std::fmt::Debug for Mt19937 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mt19937").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Mt19937 {
    /// The generator after `manual_seed(seed)`. Torch uses the low 32 bits of the seed and no others.
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; WORDS];
        for i in 1..WORDS {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Mt19937 { state, tempered: [0; WORDS], used: WORDS, next_normal: None }
    }

    /// Fills `out` with standard normal values: `torch.randn(n, generator=g)` for n = `out.len()`.
    ///
    /// The values depend on n as well as on the seed: torch draws fewer than 16 values in another way, and its
    /// last 16 values in another way again if n is not a multiple of 16.
    pub fn randn(&mut self, out: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || self.randn_portable(out),
        );
    }

    #[inline(always)]
    fn randn_portable(&mut self, out: &mut [f32]) {
        if out.len() < BLOCK {
            out.fill_with(|| self.normal() as f32);
            return;
        }
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        for blocks in blocks.chunks_mut(AT_ONCE) {
            self.fill_uniform(blocks.as_flattened_mut());
            let (tiles, rest) = blocks.as_chunks_mut::<TILE>();
            for tile in tiles {
                box_muller(tile);
            }
            for block in rest {
                box_muller(std::array::from_mut(block));
            }
        }
        if !rest.is_empty() {
            self.fill_uniform(rest);
            if let Some(last) = out.last_chunk_mut::<BLOCK>() {
                self.fill_uniform(last);
                box_muller(std::array::from_mut(last));
            }
        }
    }

    /// Fills `out` with standard normal values: `torch.randn(n, dtype=E, generator=g)`, which is the `f32` stream
    /// rounded to `E` if `E` is narrower than `f32`.
    pub fn randn_as<E: Element>(&mut self, out: &mut [E]) {
        let mut values = [0.0; 2 * AT_ONCE * BLOCK];
        for part in parts(out.len(), AT_ONCE * BLOCK) {
            let values = &mut values[..part.len()];
            self.randn(values);
            for (out, value) in out[part].iter_mut().zip(values) {
                *out = E::from_f32(*value);
            }
        }
    }

    /// Fills `out` with item number `item` of `torch.randn(items, n, generator=g)` for n = `out.len()`, without
    /// computing the others, and leaves the generator as that draw does.
    ///
    /// If n is a multiple of 16, the item is the same in a batch of any size, and item 0 is what
    /// [`Mt19937::randn`] draws. Otherwise the last 16 values of the batch are drawn anew, and a batch of fewer
    /// than 16 values is drawn in another way altogether, so `items` matters.
    ///
    /// # Errors
    /// [`Error::Value`] unless `item` < `items` <= 65,536.
    pub fn randn_item(&mut self, items: usize, item: usize, out: &mut [f32]) -> Result<()> {
        if items > MAX_BATCH {
            return Err(Error::Value {
                op: "randn_item",
                what: "items",
                expected: format!("at most {MAX_BATCH}"),
                got: items.to_string(),
            });
        }
        let (total, range) = item_range("randn_item", items, item, out.len())?;
        if total < BLOCK {
            let mut batch = [0.0; BLOCK];
            self.randn(&mut batch[..total]);
            out.copy_from_slice(&batch[range]);
            return Ok(());
        }
        vectorised(
            #[inline(always)]
            || self.randn_range(total, range, out),
        );
        Ok(())
    }

    /// Fills `out` with the values at `range` of a draw of `total` >= 16.
    #[inline(always)]
    fn randn_range(&mut self, total: usize, range: Range<usize>, out: &mut [f32]) {
        let mut block = [0.0; BLOCK];
        let mut copy = |at: usize, block: &[f32; BLOCK]| {
            let (from, to) = (at.max(range.start), (at + BLOCK).min(range.end));
            if from < to {
                out[from - range.start..to - range.start].copy_from_slice(&block[from - at..to - at]);
            }
        };
        let whole = total - total % BLOCK;
        let mut drawn = whole.min(range.start - range.start % BLOCK);
        self.skip(drawn);
        while drawn < whole.min(range.end) {
            self.fill_uniform(&mut block);
            box_muller(std::array::from_mut(&mut block));
            copy(drawn, &block);
            drawn += BLOCK;
        }
        self.skip(total - drawn);
        if whole < total {
            self.fill_uniform(&mut block);
            box_muller(std::array::from_mut(&mut block));
            copy(total - BLOCK, &block);
        }
    }

    /// Leaves the generator as a draw of `n` values does.
    fn skip_randn(&mut self, n: usize) {
        if n < BLOCK {
            for _ in 0..n {
                self.normal();
            }
        } else {
            self.skip(if n.is_multiple_of(BLOCK) { n } else { n + BLOCK });
        }
    }

    /// Passes over `words` words: a twist for every 624 of them, which are tempered only where the next is read.
    pub(super) fn skip(&mut self, words: usize) {
        vectorised(
            #[inline(always)]
            || {
                self.used += words;
                while self.used > WORDS {
                    twist(&mut self.state);
                    self.used -= WORDS;
                    if self.used <= WORDS {
                        self.temper();
                    }
                }
            },
        );
    }

    /// One normal value, computed in `f64`; every second call returns the other half of a pair.
    fn normal(&mut self) -> f64 {
        if let Some(normal) = self.next_normal.take() {
            return normal;
        }
        let angle = f64::consts::TAU * self.uniform_f64();
        let radius = (-2.0 * ln_f64(1.0 - self.uniform_f64())).sqrt();
        let (sin, cos) = sin_cos_f64(angle);
        self.next_normal = Some(radius * sin);
        radius * cos
    }

    /// A multiple of 2^-53 in [0, 1).
    fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// 64 random bits: the next word, then the one after it, as torch puts them together.
    pub fn next_u64(&mut self) -> u64 {
        let (high, low) = (u64::from(self.next_word()), u64::from(self.next_word()));
        (high << 32) | low
    }

    fn next_word(&mut self) -> u32 {
        let word = self.ready()[0];
        self.used += 1;
        word
    }

    /// Multiples of 2^-24 in [0, 1).
    #[inline(always)]
    fn fill_uniform(&mut self, mut out: &mut [f32]) {
        while !out.is_empty() {
            let ready = self.ready();
            let (now, later) = out.split_at_mut(out.len().min(ready.len()));
            for (out, word) in now.iter_mut().zip(ready) {
                *out = (word & 0x00ff_ffff) as i32 as f32 / (1 << 24) as f32;
            }
            self.used += now.len();
            out = later;
        }
    }

    /// The tempered words that are still to be used; at least one.
    #[inline(always)]
    fn ready(&mut self) -> &[u32] {
        if self.used >= WORDS {
            twist(&mut self.state);
            self.temper();
            self.used = 0;
        }
        &self.tempered[self.used..]
    }

    #[inline(always)]
    fn temper(&mut self) {
        for (tempered, &word) in self.tempered.iter_mut().zip(&self.state) {
            *tempered = temper(word);
        }
    }
}

/// The next 624 words of the recurrence, in place.
///
/// In three pieces, none of which reads what it writes, so that the compiler sees that each can be vectorised.
#[inline(always)]
fn twist(state: &mut [u32; WORDS]) {
    const PIECE: usize = WORDS - SHIFT;
    let (low, rest) = state.split_at_mut(PIECE);
    twist_piece(low, rest[0], &rest[SHIFT - PIECE..]);
    let (mid, high) = rest.split_at_mut(PIECE);
    twist_piece(mid, high[0], low);
    twist_piece(high, low[0], mid);
}

/// `word[i] = source[i] ^ mix(word[i], word[i + 1])`, where `after` follows the last word.
#[inline(always)]
fn twist_piece(words: &mut [u32], after: u32, source: &[u32]) {
    let last = words.len() - 1;
    for i in 0..last {
        words[i] = source[i] ^ mix(words[i], words[i + 1]);
    }
    words[last] = source[last] ^ mix(words[last], after);
}

#[inline(always)]
fn mix(word: u32, next: u32) -> u32 {
    let joined = (word & 0x8000_0000) | (next & 0x7fff_ffff);
    (joined >> 1) ^ ((next & 1).wrapping_neg() & 0x9908_b0df)
}

#[inline(always)]
fn temper(mut word: u32) -> u32 {
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c_5680;
    word ^= (word << 15) & 0xefc6_0000;
    word ^ (word >> 18)
}

/// In each block, eight pairs of uniform values, 8 apart, to eight pairs of normal values (Box and Muller 1958).
#[inline(always)]
fn box_muller<const N: usize>(blocks: &mut [[f32; BLOCK]; N]) {
    let (mut first, mut second) = ([[0.0; BLOCK / 2]; N], [[0.0; BLOCK / 2]; N]);
    for n in 0..N {
        first[n].copy_from_slice(&blocks[n][..BLOCK / 2]);
        second[n].copy_from_slice(&blocks[n][BLOCK / 2..]);
    }
    for (first, second) in first.as_flattened_mut().iter_mut().zip(second.as_flattened_mut()) {
        let radius = (-2.0 * ln_f32(1.0 - *first)).sqrt();
        let (sin, cos) = sin_cos_f32(TAU * *second);
        *first = radius * cos;
        *second = radius * sin;
    }
    for n in 0..N {
        blocks[n][..BLOCK / 2].copy_from_slice(&first[n]);
        blocks[n][BLOCK / 2..].copy_from_slice(&second[n]);
    }
}

/// The noise of ComfyUI's `prepare_noise` with `batch_index` (0.3.64): item k of `out` is draw number
/// `batch_index[k]` of the seed's stream, so that a batch can be taken apart and its items made again.
///
/// `out` holds one item per index, all of one length. The time it takes grows with the largest index.
///
/// # Errors
/// [`Error::Value`] if `out` cannot be divided evenly among the indices, or if an index is not below 65,536.
pub fn prepare_noise(seed: u64, batch_index: &[usize], out: &mut [f32]) -> Result<()> {
    let items = batch_index.len();
    if let Some(index) = batch_index.iter().find(|&&index| index >= MAX_BATCH) {
        return Err(Error::Value {
            op: "prepare_noise",
            what: "batch index",
            expected: format!("below {MAX_BATCH}"),
            got: index.to_string(),
        });
    }
    if out.is_empty() {
        return Ok(());
    }
    if items == 0 || !out.len().is_multiple_of(items) {
        return Err(Error::Value {
            op: "prepare_noise",
            what: "length of out",
            expected: format!("a multiple of {items}, the number of batch indices"),
            got: out.len().to_string(),
        });
    }
    let elements = out.len() / items;
    let mut order: Vec<usize> = (0..items).collect();
    order.sort_by_key(|&item| batch_index[item]);
    let mut generator = Mt19937::new(seed);
    let mut drawn = 0;
    let mut last = 0;
    for item in order {
        let index = batch_index[item];
        if index < drawn {
            out.copy_within(last * elements..(last + 1) * elements, item * elements);
        } else {
            (drawn..index).for_each(|_| generator.skip_randn(elements));
            generator.randn(&mut out[item * elements..][..elements]);
            drawn = index + 1;
        }
        last = item;
    }
    Ok(())
}

/// Cuts a draw into parts of `size` values, a multiple of 16, where the last has fewer, but at least 16, or up to 15
/// more: drawn part by part, the values are those of one draw.
pub(super) fn parts(elements: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let count = ((elements + size - BLOCK) / size).max(1);
    (0..count).map(move |part| part * size..if part + 1 == count { elements } else { (part + 1) * size })
}

/// How many values a batch of `items` has, and where item number `item` lies among them.
pub(super) fn item_range(
    op: &'static str,
    items: usize,
    item: usize,
    elements: usize,
) -> Result<(usize, Range<usize>)> {
    let refused = |what, expected, got: usize| Error::Value { op, what, expected, got: got.to_string() };
    if item >= items {
        return Err(refused("item", format!("below {items}, the number of items"), item));
    }
    let total = items.checked_mul(elements).ok_or_else(|| {
        refused("items", format!("few enough for {elements} values each to be counted"), items)
    })?;
    Ok((total, item * elements..(item + 1) * elements))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::elementary::assert_same_bits_at_every_width;

    #[test]
    fn randn_is_the_same_at_every_width() {
        assert_same_bits_at_every_width(
            #[inline(always)]
            || {
                let mut out = vec![0.0; 100_003];
                Mt19937::new(1).randn_portable(&mut out);
                out
            },
        );
    }
}
