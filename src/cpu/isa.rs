//! Which instructions the inner loops of products and attention use.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use super::amx;
use crate::error::{Error, Result};

/// An instruction set that products and attention have inner loops for. Results differ between them in the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Whatever the target has: loops that the compiler vectorises.
    Portable,
    /// aarch64, which always has it.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, DQ and VL).
    Avx512,
    /// AVX-512 with the dot product of bf16 pairs (`vdpbf16ps`) and permutations of bytes; f32 is as in [`Isa::Avx512`].
    Avx512Bf16,
    /// The same with AMX's tiles of bf16 (`tdpbf16ps`), where Linux lets a process use them.
    Amx,
}

impl Isa {
    /// All of them, later ones better but for what [`Isa::best`] leaves out.
    pub const ALL: [Isa; 6] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// Such as `avx512-bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512-bf16",
            Isa::Amx => "amx",
        }
    }

    /// The fastest that this machine has. [`Isa::Avx512Bf16`] is left out on Intel's cores that have f16 in AVX-512: they
    /// leave bf16 to AMX, which a virtual machine may hide, and take two cycles for a dot product of pairs, four times
    /// those of a product in f32.
    pub fn best() -> Self {
        Self::best_of(Isa::is_available, has_fast_dots())
    }

    /// The fastest of those that are available.
    fn best_of(is_available: impl Fn(Isa) -> bool, fast_dots: bool) -> Self {
        let fast = |isa: &Isa| is_available(*isa) && (*isa != Isa::Avx512Bf16 || fast_dots);
        Self::ALL.into_iter().rev().find(fast).unwrap_or(Isa::Portable)
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            match self {
                Isa::Portable => true,
                Isa::Neon => false,
                Isa::Avx2 => has!("avx2") && has!("fma"),
                Isa::Avx512 => avx512,
                Isa::Avx512Bf16 => avx512 && has!("avx512bf16") && has!("avx512vbmi"),
                Isa::Amx => Isa::Avx512Bf16.is_available() && amx::is_available(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Portable || (self == Isa::Neon && cfg!(target_arch = "aarch64"))
        }
    }

    /// The one by which f32 is computed: what some have for bf16 leaves its bits as they are.
    pub fn in_f32(self) -> Self {
        match self {
            Isa::Avx512Bf16 | Isa::Amx => Isa::Avx512,
            isa => isa,
        }
    }

    /// This one, if the machine has it.
    pub(super) fn available(self) -> Result<Self> {
        if self.is_available() {
            return Ok(self);
        }
        let there: Vec<&str> =
            Self::ALL.into_iter().filter(|isa| isa.is_available()).map(Isa::name).collect();
        let expected = format!("{}, which this machine has", there.join(" or "));
        Err(Error::Value { op: "cpu", what: "instruction set", expected, got: self.to_string() })
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| Error::unknown_name("instruction set", name, Self::ALL.map(Isa::name)))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a dot product of pairs in bf16, where there is one, takes no longer than their products in f32.
fn has_fast_dots() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        let is_intel =
            [vendor.ebx, vendor.edx, vendor.ecx] == [*b"Genu", *b"ineI", *b"ntel"].map(u32::from_le_bytes);
        !(is_intel && std::arch::is_x86_feature_detected!("avx512fp16"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_last_but_for_slow_dot_products() {
        let x86 = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];
        let best = |count: usize, fast_dots| Isa::best_of(|isa| x86[..count].contains(&isa), fast_dots);
        assert_eq!([1, 2, 3, 4, 5].map(|count| best(count, true)), x86);
        let slow = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512, Isa::Amx];
        assert_eq!([1, 2, 3, 4, 5].map(|count| best(count, false)), slow);
    }

    #[test]
    fn this_machine_has_its_best() {
        assert!(Isa::best().is_available());
    }
}
