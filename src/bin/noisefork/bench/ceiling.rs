//! What the machine can do at best, measured in the run that it is the measure of.

use std::hint::black_box;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use noisefork::cpu::Isa;
use rayon::prelude::*;

use super::record::Ceiling;
use super::suite::Dtype;

/// How often each is measured; the best counts, for a ceiling is what nothing got in the way of.
pub const ROUNDS: usize = 5;
/// Values that are copied, far more than the caches hold.
const COPIED: usize = 1 << 24;
/// Independent sums, enough to hide how long one multiplication takes.
const SUMS: usize = 12;

impl Ceiling {
    /// Measures on the current rayon pool.
    pub fn measure(dtype: Dtype) -> Self {
        Ceiling { flops_per_s: arithmetic(dtype), bytes_per_s: copy() }
    }
}

/// Operations a second, where a thread's loop counts for what it did in the time that all of them took.
fn arithmetic(dtype: Dtype) -> f64 {
    const REPEATS: usize = 1 << 21;
    let work = |repeats| match dtype {
        Dtype::Bf16 => dots(repeats),
        _ => fused(repeats),
    };
    best(|| {
        let start = Instant::now();
        let flops: u64 = rayon::broadcast(|_| work(REPEATS)).into_iter().sum();
        flops as f64 / start.elapsed().as_secs_f64()
    })
}

fn copy() -> f64 {
    let (from, mut to) = (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
    let part = COPIED.div_ceil(rayon::current_num_threads());
    best(|| {
        let start = Instant::now();
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&mut to);
        (2 * size_of_val(&from[..])) as f64 / start.elapsed().as_secs_f64()
    })
}

fn best(measure: impl FnMut() -> f64) -> f64 {
    std::iter::repeat_with(measure).take(ROUNDS).fold(0.0, f64::max)
}

/// Multiplies and adds in f32; returns how many operations that were.
fn fused(repeats: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has the instructions.
            unsafe { x86::fused_512(repeats) };
            return (2 * repeats * SUMS * 16) as u64;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has the instructions.
            unsafe { x86::fused_256(repeats) };
            return (2 * repeats * SUMS * 8) as u64;
        }
    }
    let mut sums = [[0.0f32; 4]; SUMS];
    let (factor, addend) = (black_box([0.5f32; 4]), black_box([1.0f32; 4]));
    for _ in 0..repeats {
        for sum in &mut sums {
            for lane in 0..4 {
                sum[lane] = sum[lane] * factor[lane] + addend[lane];
            }
        }
    }
    black_box(sums);
    (2 * repeats * SUMS * 4) as u64
}

/// The same with products of bf16, of tiles or of pairs, where the CPU backend uses them, and in f32 where it does not.
fn dots(repeats: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        match Isa::best() {
            // SAFETY: the machine has the instructions.
            Isa::Amx => return unsafe { x86::tiles(repeats) },
            Isa::Avx512Bf16 => {
                // SAFETY: as before.
                unsafe { x86::dots(repeats) };
                return (4 * repeats * SUMS * 16) as u64;
            }
            _ => {}
        }
    }
    fused(repeats)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512bh, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps,
        _mm512_set1_ps,
    };
    use std::hint::black_box;

    use super::SUMS;

    #[target_feature(enable = "avx512f")]
    pub fn fused_512(repeats: usize) {
        let mut sums = [_mm512_set1_ps(0.0); SUMS];
        let (factor, addend) = black_box((_mm512_set1_ps(0.5), _mm512_set1_ps(1.0)));
        for _ in 0..repeats {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, addend);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn fused_256(repeats: usize) {
        let mut sums = [_mm256_set1_ps(0.0); SUMS];
        let (factor, addend) = black_box((_mm256_set1_ps(0.5), _mm256_set1_ps(1.0)));
        for _ in 0..repeats {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, addend);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn dots(repeats: usize) {
        let mut sums = [_mm512_set1_ps(0.0); SUMS];
        let values = black_box(_mm512_set1_ps(0.5));
        let pairs: __m512bh = _mm512_cvtne2ps_pbh(values, values);
        for _ in 0..repeats {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pairs, pairs);
            }
        }
        black_box(sums);
    }

    /// # Safety
    /// The machine has AMX.
    pub unsafe fn tiles(repeats: usize) -> u64 {
        /// Of two tiles of rows and two of columns.
        const PRODUCTS: usize = 4;
        const TILE: usize = 2 * 16 * 16 * 32;
        #[repr(align(64))]
        struct Aligned<T>(T);
        let mut palette = Aligned([0u8; 64]);
        palette.0[0] = 1;
        palette.0[16..32].copy_from_slice(&[64, 0].repeat(8));
        palette.0[48..56].fill(16);
        // Of no value in particular but none of zeros, which take less power.
        let values = Aligned([0x3F8Eu16; 16 * 32]);
        // SAFETY: the caller's. All eight tiles are of 16 rows of 64 bytes, which is what `values` are.
        unsafe {
            asm!(
                "ldtilecfg [{palette}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tileloadd tmm4, [{values} + {stride}]", "tileloadd tmm5, [{values} + {stride}]",
                "tileloadd tmm6, [{values} + {stride}]", "tileloadd tmm7, [{values} + {stride}]",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {repeats}",
                "jnz 2b",
                "tilerelease",
                palette = in(reg) &palette,
                values = in(reg) &values,
                stride = in(reg) 64usize,
                repeats = inout(reg) repeats => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
        (repeats * PRODUCTS * TILE) as u64
    }
}
