//! AMX: products of tiles of bf16, 16 rows by 32 terms times 16 columns of as many, into tiles of 16 by 16 sums.
//!
//! One instruction does 16,384 operations in 16 cycles, eight times what the dot products of AVX-512 do. Tiles are loaded
//! in 8 cycles at best, so four products for two tiles of rows and two of columns are what loads can keep up with.
//!
//! What has not been used for some 600 ns is switched off: the next product then takes 350 ns more, and the next tile that
//! is stored 300 ns. So every few steps of a long product store a tile that nobody will read.
//!
//! Loading the palette stops the pipeline for some 100 ns, a third of a product of 320 terms: so tiles are had for a whole
//! task ([`Tiles`]).

use std::arch::asm;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use half::bf16;

/// Rows of a product, and its columns.
pub(super) const SIDE: usize = 32;
/// Terms of a tile's row.
pub(super) const STEP: usize = 32;

/// Whether the machine has it and the system lets this process use it, which has to be asked for.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
        std::arch::x86_64::__cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES && permitted()
    })
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ASK_FOR_STATE: libc::c_int = 0x1023;
    const TILES: libc::c_long = 18;
    // SAFETY: the call reads and writes no memory of ours; a system that does not know it says so.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ASK_FOR_STATE, TILES) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// A thread's tiles, while there is one of these: on the thread that made it, and once at a time.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Tiles that are all of 16 rows of 64 bytes.
    ///
    /// # Safety
    /// [`is_available`].
    pub unsafe fn new() -> Self {
        #[repr(C, align(64))]
        struct Palette {
            id: u8,
            start: [u8; 15],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        const ALL_WHOLE: Palette = Palette {
            id: 1,
            start: [0; 15],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: the caller's. The palette is 64 bytes and one that the machine knows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &ALL_WHOLE, options(nostack, readonly, preserves_flags)) };
        Tiles(PhantomData)
    }

    /// Adds products to sums of [`SIDE`] rows and `COLUMNS` columns, as many or half, or with `add` false sets them. The
    /// rows of sums lie `sums_stride` numbers apart.
    ///
    /// # Safety
    /// This thread has [`Tiles`]. All that the operands point to is there, and so are the sums.
    #[inline(always)]
    pub unsafe fn multiply<const COLUMNS: usize>(
        operands: &Operands<'_>,
        sums: *mut f32,
        sums_stride: usize,
        add: bool,
    ) {
        const { assert!(COLUMNS == SIDE || COLUMNS == SIDE / 2) };
        if operands.taps.is_empty() || operands.steps == 0 {
            return;
        }
        // SAFETY: the caller's.
        unsafe {
            if COLUMNS == SIDE {
                multiply!(operands, sums, sums_stride, add, both);
            } else {
                multiply!(operands, sums, sums_stride, add, first);
            }
        }
    }
}

/// The lines of a second tile of columns, where there is one.
macro_rules! second {
    (both, $line:literal) => {
        $line
    };
    (first, $line:literal) => {
        ""
    };
}

/// [`Tiles::multiply`] for `both` tiles of columns, or the `first`.
macro_rules! multiply {
    ($operands:ident, $sums:ident, $sums_stride:ident, $add:ident, $tiles:ident) => {{
        /// What registers do not suffice for.
        #[repr(C, align(64))]
        struct Memory {
            rows: [*const bf16; 2],
            skipped_bytes: usize,
            unread: Unread,
        }
        let stride = $operands.width * size_of::<[bf16; 2]>();
        let (rows, skipped_bytes) = ($operands.rows, $operands.skipped / 2 * stride);
        let mut memory = Memory { rows, skipped_bytes, unread: Unread(MaybeUninit::uninit()) };
        asm!(
            "lea {low}, [{sums_stride} * 8]",
            "lea {low}, [{sums} + {low} * 2]",
            "test {k}, {k}",
            "jz 2f",
            "tileloadd tmm0, [{sums} + {sums_stride}]",
            second!($tiles, "tileloadd tmm1, [{sums} + {sums_stride} + 64]"),
            "tileloadd tmm2, [{low} + {sums_stride}]",
            second!($tiles, "tileloadd tmm3, [{low} + {sums_stride} + 64]"),
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            second!($tiles, "tilezero tmm1"),
            "tilezero tmm2",
            second!($tiles, "tilezero tmm3"),
            "3:",
            "mov {high}, [{taps}]",
            "mov {low}, [{memory} + 8]",
            "add {low}, {high}",
            "add {high}, [{memory}]",
            "mov {k}, {steps}",
            "4:",
            "tileloadd tmm4, [{high} + {spacing}]",
            "tileloadd tmm6, [{weights} + {stride}]",
            second!($tiles, "tileloadd tmm7, [{weights} + {stride} + 64]"),
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{low} + {spacing}]",
            second!($tiles, "tdpbf16ps tmm1, tmm4, tmm7"),
            "tdpbf16ps tmm2, tmm5, tmm6",
            second!($tiles, "tdpbf16ps tmm3, tmm5, tmm7"),
            "add {high}, 64",
            "add {low}, 64",
            "lea {weights}, [{weights} + {stride} * 8]",
            "lea {weights}, [{weights} + {stride} * 8]",
            "dec {k}",
            "jz 5f",
            "test {k:e}, 7",
            "jnz 4b",
            "tilestored [{memory} + 64], tmm4",
            "jmp 4b",
            "5:",
            "add {weights}, [{memory} + 16]",
            "add {taps}, 8",
            "cmp {taps}, {end}",
            "jne 3b",
            "lea {low}, [{sums_stride} * 8]",
            "lea {low}, [{sums} + {low} * 2]",
            "tilestored [{sums} + {sums_stride}], tmm0",
            second!($tiles, "tilestored [{sums} + {sums_stride} + 64], tmm1"),
            "tilestored [{low} + {sums_stride}], tmm2",
            second!($tiles, "tilestored [{low} + {sums_stride} + 64], tmm3"),
            memory = in(reg) &mut memory,
            taps = inout(reg) $operands.taps.as_ptr() => _,
            end = in(reg) $operands.taps.as_ptr_range().end,
            spacing = in(reg) $operands.spacing,
            steps = in(reg) $operands.steps,
            weights = inout(reg) $operands.weights => _,
            stride = in(reg) stride,
            sums = in(reg) $sums,
            sums_stride = in(reg) $sums_stride * size_of::<f32>(),
            k = inout(reg) usize::from($add) => _,
            high = out(reg) _,
            low = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }};
}
use {multiply, second};

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles, as `self` says. Whoever switches threads need not save them any more.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// What a row of a tile is stored to that nobody will read.
#[repr(align(64))]
struct Unread(#[expect(dead_code, reason = "as it says")] MaybeUninit<[u8; 64]>);

/// What is multiplied.
pub(super) struct Operands<'a> {
    /// Where what the first tap sees begins, in the first of each half of [`SIDE`] rows.
    pub rows: [*const bf16; 2],
    /// Bytes from a row to the next.
    pub spacing: usize,
    /// Bytes from what the first tap sees to what each does.
    pub taps: &'a [usize],
    /// [`STEP`]s of terms of a tap.
    pub steps: usize,
    /// The terms' weights: for every pair those of `width` columns, of which the first are taken.
    pub weights: *const bf16,
    pub width: usize,
    /// Terms whose weights lie between a tap's and the next's.
    pub skipped: usize,
}
