use std::f32::consts::TAU;
use std::f64;

use serde::{Deserialize, Serialize};

use super::elementary::{ln_f32, ln_f64, sin_cos_f32, sin_cos_f64};
use crate::error::{Error, Result};
use crate::tensor::Element;

const WORDS: usize = 624;
const SHIFT: usize = 397;
/// From this many values on, torch draws them in blocks of this size.
const BLOCK: usize = 16;
/// Every draw before a batch index has to be made, so an index without a limit is time without a limit.
const MAX_BATCH_INDEX: usize = 1 << 16;

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
        if out.len() < BLOCK {
            out.fill_with(|| self.normal() as f32);
            return;
        }
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        for blocks in blocks.chunks_mut(WORDS / BLOCK) {
            self.fill_uniform(blocks.as_flattened_mut());
            blocks.iter_mut().for_each(box_muller);
        }
        if !rest.is_empty() {
            self.fill_uniform(rest);
            if let Some(last) = out.last_chunk_mut::<BLOCK>() {
                self.fill_uniform(last);
                box_muller(last);
            }
        }
    }

    /// Fills `out` with standard normal values: `torch.randn(n, dtype=E, generator=g)`, which is the `f32` stream
    /// rounded to `E` if `E` is narrower than `f32`.
    pub fn randn_as<E: Element>(&mut self, out: &mut [E]) {
        let mut values = vec![0.0; out.len()];
        self.randn(&mut values);
        for (out, value) in out.iter_mut().zip(values) {
            *out = E::from_f32(value);
        }
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
        let (high, low) = (u64::from(self.next_word()), u64::from(self.next_word()));
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn next_word(&mut self) -> u32 {
        let word = self.ready()[0];
        self.used += 1;
        word
    }

    /// Multiples of 2^-24 in [0, 1).
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
    fn ready(&mut self) -> &[u32] {
        if self.used >= WORDS {
            twist(&mut self.state);
            for (tempered, &word) in self.tempered.iter_mut().zip(&self.state) {
                *tempered = temper(word);
            }
            self.used = 0;
        }
        &self.tempered[self.used..]
    }
}

/// The next 624 words of the recurrence, in place.
fn twist(state: &mut [u32; WORDS]) {
    for i in 0..WORDS - SHIFT {
        state[i] = state[i + SHIFT] ^ mix(state[i], state[i + 1]);
    }
    for i in WORDS - SHIFT..WORDS - 1 {
        state[i] = state[i + SHIFT - WORDS] ^ mix(state[i], state[i + 1]);
    }
    state[WORDS - 1] = state[SHIFT - 1] ^ mix(state[WORDS - 1], state[0]);
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

/// Eight pairs of uniform values, 8 apart, to eight pairs of normal values (Box and Muller 1958).
#[inline(always)]
fn box_muller(block: &mut [f32; BLOCK]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (first, second) in first.iter_mut().zip(second) {
        let radius = (-2.0 * ln_f32(1.0 - *first)).sqrt();
        let (sin, cos) = sin_cos_f32(TAU * *second);
        *first = radius * cos;
        *second = radius * sin;
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
    if let Some(index) = batch_index.iter().find(|&&index| index >= MAX_BATCH_INDEX) {
        return Err(Error::Value {
            op: "prepare_noise",
            what: "batch index",
            expected: format!("below {MAX_BATCH_INDEX}"),
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
    let mut draw = vec![0.0; elements];
    for item in order {
        while drawn <= batch_index[item] {
            generator.randn(&mut draw);
            drawn += 1;
        }
        out[item * elements..][..elements].copy_from_slice(&draw);
    }
    Ok(())
}
