//! AMX: products by tiles, all else as in AVX-512.

use super::super::amx::{Rows, SIDE, STEP, Tiles, is_available};
use super::kernel::Kernel;
use super::x86::Avx512Bf16;

#[derive(Clone, Copy)]
pub(super) struct Amx(Avx512Bf16);

type Vector = <Avx512Bf16 as Kernel>::Vector;

impl Kernel for Amx {
    type Vector = Vector;
    const LANES: usize = Avx512Bf16::LANES;
    const PER_WORD: usize = Avx512Bf16::PER_WORD;
    const ONES: f32 = Avx512Bf16::ONES;
    const PANEL: usize = SIDE;
    const STEP: usize = STEP / 2;
    const WHOLE_ROWS: bool = true;

    fn new() -> Self {
        assert!(is_available());
        Amx(Avx512Bf16::new())
    }
    #[inline(always)]
    fn run<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` exists, so `new` found the tiles.
        let _tiles = unsafe { Tiles::new() };
        self.0.run(f)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Vector {
        self.0.splat(value)
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> Vector {
        self.0.load(from)
    }
    #[inline(always)]
    fn store(self, vector: Vector, to: &mut [f32]) {
        self.0.store(vector, to);
    }
    #[inline(always)]
    fn add(self, a: Vector, b: Vector) -> Vector {
        self.0.add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: Vector, b: Vector) -> Vector {
        self.0.sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: Vector, b: Vector) -> Vector {
        self.0.mul(a, b)
    }
    #[inline(always)]
    fn max(self, a: Vector, b: Vector) -> Vector {
        self.0.max(a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: Vector, b: Vector, c: Vector) -> Vector {
        self.0.mul_add(a, b, c)
    }
    #[inline(always)]
    fn power_of_two(self, a: Vector) -> Vector {
        self.0.power_of_two(a)
    }
    #[inline(always)]
    fn dot(self, a: Vector, b: Vector, c: Vector) -> Vector {
        self.0.dot(a, b, c)
    }
    #[inline(always)]
    fn join(self, first: Vector, second: Vector) -> Vector {
        self.0.join(first, second)
    }
    #[inline(always)]
    fn product<const V: usize, const W: usize>(
        self,
        panel: &[f32],
        rows: &[[f32; W]],
        sums: &mut [[f32; W]],
        add: bool,
    ) {
        assert!(panel.len() == SIDE * rows.len() && rows.len().is_multiple_of(STEP / 2));
        assert!(sums.len() == SIDE && W.is_multiple_of(SIDE));
        let panel = Rows { first: panel.as_ptr().cast(), stride: 4 * rows.len() as isize };
        for first in (0..W).step_by(SIDE) {
            // SAFETY: the assertions say that there is what they say; `attend`, alone, calls this, and is called by `run`.
            unsafe {
                Tiles::multiply::<W>(
                    &[panel],
                    rows.len() / (STEP / 2),
                    rows.as_ptr().cast::<f32>().add(first).cast(),
                    sums.as_mut_ptr().cast::<f32>().add(first),
                    W,
                    add,
                );
            }
        }
    }
}
