use rayon::prelude::*;

use super::draws::NormalDraw;
use super::philox::{LANES, box_muller, halves, words};
use crate::simd::vectorised;

/// Normal values that one Philox counter gives.
const VALUES: usize = 4;
/// Values that one thread fills at a time.
const PART: usize = 1 << 15;

/// Standard normal values by address: each is a function of the seed and of where it belongs, so that any item of a
/// batch, any step's noise and any element can be drawn alone and in any order.
///
/// Element e of draw d for item i is value e mod 4 of Philox4x32-10 (Salmon et al. 2011) under the key
///
/// `[seed mod 2^32, seed / 2^32]`, at the counter `[e / 4 mod 2^32, e / 2^34, d, i]`:
///
/// words 0 and 1 make values 0 and 1, words 2 and 3 values 2 and 3. Words x and y make
/// r sin a and r cos a with r = sqrt(-2 ln((x + 1/2) / 2^32)) and a = 2π (y + 1/2) / 2^32, in `f32`.
///
/// It depends on no launch, no batch size and no other system. For noise that another system has to agree with, see
/// [`Mt19937`](super::Mt19937) and [`Philox`](super::Philox).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterStream {
    key: [u32; 2],
}

impl CounterStream {
    /// The values of a seed.
    pub fn new(seed: u64) -> Self {
        CounterStream { key: halves(seed) }
    }

    /// Draw `draw` for item `item` as data.
    pub fn draw(&self, item: u32, draw: u32) -> NormalDraw {
        NormalDraw { key: self.key, counter: [draw, item], threads: 0 }
    }

    /// Fills `out` with the elements from number `first` on of draw `draw` for item `item`.
    pub fn randn(&self, item: u32, draw: u32, first: u64, out: &mut [f32]) {
        let min_len = if out.len() < 2 * PART { usize::MAX } else { 1 };
        out.par_chunks_mut(PART).with_min_len(min_len).enumerate().for_each(|(part, out)| {
            vectorised(
                #[inline(always)]
                || self.fill(item, draw, first.wrapping_add((part * PART) as u64), out),
            );
        });
    }

    #[inline(always)]
    fn fill(&self, item: u32, draw: u32, first: u64, mut out: &mut [f32]) {
        let mut counter = first / VALUES as u64;
        let mut skip = (first % VALUES as u64) as usize;
        while !out.is_empty() {
            let words = words(
                #[inline(always)]
                |lane| {
                    let [low, high] = halves(counter + lane as u64);
                    [low, high, draw, item]
                },
                self.key,
            );
            let pairs = [box_muller(&words[0], &words[1]), box_muller(&words[2], &words[3])];
            let mut values = [0.0; VALUES * LANES];
            for (lane, values) in values.as_chunks_mut::<VALUES>().0.iter_mut().enumerate() {
                *values = [pairs[0][0][lane], pairs[0][1][lane], pairs[1][0][lane], pairs[1][1][lane]];
            }
            let len = out.len().min(values.len() - skip);
            let (now, later) = out.split_at_mut(len);
            now.copy_from_slice(&values[skip..skip + len]);
            (out, counter, skip) = (later, counter + LANES as u64, 0);
        }
    }
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
                let mut out = vec![0.0; 10_001];
                CounterStream::new(1).fill(2, 3, 5, &mut out);
                out
            },
        );
    }
}
