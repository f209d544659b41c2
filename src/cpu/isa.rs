//! Which instructions the inner loops of products and attention use.

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
    /// x86-64 with AVX-512F.
    Avx512,
    /// AVX-512F with the dot product of bf16 pairs (`vdpbf16ps`); f32 is as in [`Isa::Avx512`].
    Avx512Bf16,
    /// AVX-512 with permutations of bytes and AMX's tiles of bf16 (`tdpbf16ps`), where Linux lets a process use them; f32 is
    /// as in [`Isa::Avx512`].
    Amx,
}

impl Isa {
    /// All of them, the best last.
    pub const ALL: [Isa; 6] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// The best that this machine has.
    pub fn best() -> Self {
        let found = Self::ALL.into_iter().rev().find(|isa| isa.is_available());
        found.unwrap_or(Isa::Portable)
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
                Isa::Avx512Bf16 => avx512 && has!("avx512bf16"),
                Isa::Amx => avx512 && has!("avx512bf16") && has!("avx512vbmi") && amx::is_available(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Portable || (self == Isa::Neon && cfg!(target_arch = "aarch64"))
        }
    }

    /// This one, if the machine has it.
    pub(super) fn available(self) -> Result<Self> {
        if self.is_available() {
            return Ok(self);
        }
        let expected = format!("at most {:?} on this machine", Isa::best());
        Err(Error::Value { op: "cpu", what: "instruction set", expected, got: format!("{self:?}") })
    }
}
