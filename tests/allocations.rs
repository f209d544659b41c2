//! Running a plan allocates nothing. Alone in its program: it counts what every thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::ops::Backend;
use noisefork::tensor::Tensor;
use noisefork::unet::UNet;

/// The system's allocator, which counts its calls.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as asked of the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as asked of the caller.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as asked of the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as asked of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a call.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    f();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// So many runs in a row allocate nothing, once the threads are warm: a thread grows its scratch memory when it first
/// meets a larger block than before, and which thread meets which block is up to rayon.
fn runs_without_allocating<E: Compute>(cpu: Cpu<E>, folder: &str, [height, width]: [usize; 2]) {
    const WARM: usize = 100;
    const RUNS: usize = 20;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let unet = Arc::new(UNet::load(Arc::new(cpu), folder).unwrap());
    let (batch, tokens, width_of_context) = (2, 7, unet.config().cross_attention_dim());
    let conditioning = unet.prepare(&Tensor::zeros([1, tokens, width_of_context]), batch, None).unwrap();
    let times = unet.times(&[[999.0], [500.0]], &conditioning).unwrap();
    let mut plan = unet.plan(batch, [height, width], tokens).unwrap();
    let x = unet.backend().upload(&Tensor::zeros(plan.shape())).unwrap();

    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    threads.install(|| {
        let mut run = |step| assert!(plan.forward(&x, &times, step, &conditioning).is_ok());
        let mut quiet = 0;
        for _ in 0..WARM {
            quiet = if allocations(|| run(0)) == 0 { quiet + 1 } else { 0 };
            if quiet == RUNS {
                break;
            }
        }
        let counted = allocations(|| (0..RUNS).for_each(|n| run(n % 2)));
        assert_eq!(counted, 0, "{height} by {width}: allocations in {RUNS} runs");
    });
}

#[test]
fn running_a_plan_allocates_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(vec![0_u8; 100]))) > 0, "nothing is counted");
    for size in [[32, 32], [17, 24], [1, 1]] {
        runs_without_allocating(Cpu::new(), "unet_sd15_four_levels", size);
        runs_without_allocating(Cpu::<bf16>::bf16(), "unet_sd15_four_levels", size);
    }
}
