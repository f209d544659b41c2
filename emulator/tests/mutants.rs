//! Kernels that are right pass under every schedule, with the same bits; each way of breaking them is caught.

use emulator::{Device, Launch};

/// Schedules of a kernel that is right.
const SCHEDULES: u64 = 60;

fn device(seed: u64) -> Device {
    Device::new(80, seed)
}

fn upload(device: &Device, bytes: &[u8]) -> u64 {
    let address = device.alloc(bytes.len()).expect("memory");
    device.copy_to(address, bytes).expect("an allocation");
    address
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 - 50.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn read(device: &Device, address: u64, n: usize) -> Result<Vec<f32>, String> {
    let mut bytes = vec![0; 4 * n];
    device.copy_from(address, &mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|&value| f32::from_ne_bytes(value)).collect())
}

/// Runs a kernel of `inputs` values to `outputs` values.
fn run(
    kernel: &str,
    grid: u32,
    block: u32,
    inputs: usize,
    outputs: usize,
    seed: u64,
) -> Result<Vec<f32>, String> {
    let device = device(seed);
    let (x, y) = (upload(&device, &bytes(&values(inputs))), device.alloc(4 * outputs).expect("memory"));
    let launch = Launch { grid: [grid, 1, 1], block: [block, 1, 1], shared_memory: 0 };
    device.launch(kernel, launch, &[&x.to_ne_bytes(), &y.to_ne_bytes()])?;
    read(&device, y, outputs)
}

fn reverse(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    run(&format!("reverse_{mutation}"), 3, 128, 384, 384, seed)
}

fn sum(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    run(&format!("sum_{mutation}"), 2, 64, 128, 2, seed)
}

fn swap(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    run(&format!("swap_{mutation}"), 1, 32, 32, 32, seed)
}

fn scale(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    run(&format!("scale_{mutation}"), 1, 32, 32, 32, seed)
}

fn copy(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    run(&format!("copy_{mutation}"), 1, 32, 132, 128, seed)
}

const DEPTH: usize = 96;

/// A small integer as f16, and its value.
fn small(i: usize) -> (u16, f32) {
    const HALVES: [u16; 5] = [0x0000, 0x3c00, 0x4000, 0xbc00, 0x4200];
    const VALUES: [f32; 5] = [0.0, 1.0, 2.0, -1.0, 3.0];
    let which = i * 7 % 31 % 5;
    (HALVES[which], VALUES[which])
}

fn product(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    let device = device(seed);
    let matrix = |n: usize, offset: usize| -> Vec<u8> {
        (0..n).flat_map(|i| small(i + offset).0.to_ne_bytes()).collect()
    };
    let (a, b) = (upload(&device, &matrix(16 * DEPTH, 0)), upload(&device, &matrix(8 * DEPTH, 3)));
    let c = device.alloc(4 * 16 * 8).expect("memory");
    let launch = Launch { grid: [1, 1, 1], block: [96, 1, 1], shared_memory: 2 * 24 * 16 * 2 };
    let depth = (DEPTH as u32).to_ne_bytes();
    let args: [&[u8]; 4] = [&a.to_ne_bytes(), &b.to_ne_bytes(), &c.to_ne_bytes(), &depth];
    device.launch(&format!("product_{mutation}"), launch, &args)?;
    read(&device, c, 16 * 8)
}

fn expected_product() -> Vec<f32> {
    let element = |at: usize| {
        let (row, column) = (at / 8, at % 8);
        (0..DEPTH).map(|k| small(row * DEPTH + k).1 * small(column * DEPTH + k + 3).1).sum()
    };
    (0..16 * 8).map(element).collect()
}

/// Of the products of Hopper's tiles: steps of 64, over two stages.
const STEPS: usize = 5;

fn tiles(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    let device = Device::new(90, seed);
    let map = |offset: usize| {
        let matrix: Vec<u8> = (0..64 * 64 * STEPS).flat_map(|i| small(i + offset).0.to_ne_bytes()).collect();
        let row = 2 * 64 * STEPS as u64;
        let (extents, strides) = ([64 * STEPS as u64, 64, 1, 1], [row, 64 * row, 64 * row]);
        let (matrix, lengths) = (upload(&device, &matrix), [64, 64, 1, 1]);
        let map = emulator::tensor_map(matrix, &extents, &strides, &lengths, &[1; 4], true);
        map.expect("a map").map(u64::to_ne_bytes)
    };
    let (a, b, c) = (map(0), map(3), device.alloc(4 * 64 * 64).expect("memory"));
    let launch = Launch { grid: [1, 1, 1], block: [160, 1, 1], shared_memory: 2 * 2 * 64 * 128 };
    let depth = (64 * STEPS as u32).to_ne_bytes();
    let args: [&[u8]; 4] = [a.as_flattened(), b.as_flattened(), &c.to_ne_bytes(), &depth];
    device.launch(&format!("tiles_{mutation}"), launch, &args)?;
    read(&device, c, 64 * 64)
}

fn expected_tiles() -> Vec<f32> {
    let depth = 64 * STEPS;
    let element = |at: usize| {
        let (row, column) = (at / 64, at % 64);
        (0..depth).map(|k| small(row * depth + k).1 * small(column * depth + k + 3).1).sum()
    };
    (0..64 * 64).map(element).collect()
}

fn stored(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    let device = Device::new(90, seed);
    let c = device.alloc(4 * 64 * 64).expect("memory");
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], shared_memory: 2 * 64 * 128 };
    device.launch(&format!("stored_{mutation}"), launch, &[&c.to_ne_bytes()])?;
    read(&device, c, 64 * 64)
}

fn values_by(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    let device = Device::new(90, seed);
    let matrix: Vec<u8> = (0..64 * 80).flat_map(|i| small(i).0.to_ne_bytes()).collect();
    let (extents, strides) = ([80, 64, 1, 1], [160, 64 * 160, 64 * 160]);
    let (matrix, lengths) = (upload(&device, &matrix), [64, 64, 1, 1]);
    let map = emulator::tensor_map(matrix, &extents, &strides, &lengths, &[1; 4], true);
    let (b, c) = (map.expect("a map").map(u64::to_ne_bytes), device.alloc(4 * 64 * 80).expect("memory"));
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], shared_memory: 2 * 64 * 128 };
    device.launch(&format!("values_{mutation}"), launch, &[b.as_flattened(), &c.to_ne_bytes()])?;
    read(&device, c, 64 * 80)
}

fn expected_values() -> Vec<f32> {
    let element = |at: usize| {
        let (row, column) = (at / 80, at % 80);
        (0..64).map(|k| ((row + k) % 7) as f32 * small(k * 80 + column).1).sum()
    };
    (0..64 * 80).map(element).collect()
}

/// Extents of the tensor of which a box takes every second and every third.
const STEPPED: [usize; 4] = [64, 5, 8, 2];

fn steps(mutation: &str, seed: u64) -> Result<Vec<f32>, String> {
    let device = Device::new(90, seed);
    let tensor: Vec<u8> = (0..STEPPED.iter().product()).flat_map(|i| small(i).0.to_ne_bytes()).collect();
    let (tensor, extents) = (upload(&device, &tensor), STEPPED.map(|extent| extent as u64));
    let strides = [128, 5 * 128, 8 * 5 * 128];
    let map = emulator::tensor_map(tensor, &extents, &strides, &[64, 7, 10, 2], &[1, 2, 3, 1], false);
    let (map, y) = (map.expect("a map").map(u64::to_ne_bytes), device.alloc(4 * 2048).expect("memory"));
    let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_memory: 2 * 2048 };
    device.launch(&format!("steps_{mutation}"), launch, &[map.as_flattened(), &y.to_ne_bytes()])?;
    read(&device, y, 2048)
}

fn expected_steps() -> Vec<f32> {
    let [channels, width, height, items] = STEPPED;
    let mut expected = Vec::new();
    for n in 0..items {
        for i in [None, Some(0), Some(3), Some(6)] {
            for j in [None, Some(1), Some(3), None] {
                let first = i.zip(j).map(|(i, j)| ((n * height + i) * width + j) * channels);
                expected.extend((0..channels).map(|c| first.map_or(0.0, |first| small(first + c).1)));
            }
        }
    }
    expected
}

#[test]
fn what_is_right_passes_under_every_schedule() {
    let x = values(384);
    let reversed: Vec<f32> = x.chunks(128).flat_map(|block| block.iter().rev().copied()).collect();
    let sums: Vec<f32> = x[..128].chunks(64).map(|block| block.iter().sum()).collect();
    let swapped: Vec<f32> = (0..32).map(|i: usize| x[i ^ 1]).collect();
    let scaled: Vec<f32> = (0..32).map(|i| x[i] * (1 << (i % 8)) as f32).collect();
    for seed in 0..SCHEDULES {
        assert_eq!(scale("none", seed).as_ref(), Ok(&scaled), "{seed}");
        assert_eq!(reverse("none", seed).as_ref(), Ok(&reversed), "{seed}");
        assert_eq!(sum("none", seed).as_ref(), Ok(&sums), "{seed}");
        assert_eq!(swap("none", seed).as_ref(), Ok(&swapped), "{seed}");
        assert_eq!(copy("none", seed).as_ref(), Ok(&x[..128].to_vec()), "{seed}");
        assert_eq!(product("none", seed).as_ref(), Ok(&expected_product()), "{seed}");
        assert_eq!(tiles("none", seed).as_ref(), Ok(&expected_tiles()), "{seed}");
        assert_eq!(stored("none", seed).as_ref(), Ok(&vec![16.0; 64 * 64]), "{seed}");
        assert_eq!(values_by("none", seed).as_ref(), Ok(&expected_values()), "{seed}");
        assert_eq!(steps("none", seed).as_ref(), Ok(&expected_steps()), "{seed}");
    }
}

/// What the checker's hooks see: sanitizers take their place.
#[cfg(not(sanitized))]
mod checked {
    use super::*;

    /// Schedules of a kernel that is not right: it is caught under each of them.
    const SCHEDULES_OF_A_MUTANT: u64 = 20;

    /// Fails unless `mutant` is refused with these words under every schedule; with some of them, where "|" is between.
    fn caught(mutant: impl Fn(u64) -> Result<Vec<f32>, String>, words: &str) {
        for seed in 0..SCHEDULES_OF_A_MUTANT {
            let error = mutant(seed).expect_err(&format!("schedule {seed} lets it through"));
            assert!(
                words.split('|').any(|words| error.contains(words)),
                "schedule {seed}: {words:?} is not in: {error}"
            );
        }
    }

    macro_rules! mutants {
    ($($name:ident: $kernel:ident, $words:expr;)*) => {
        $(#[test]
        fn $name() {
            caught(|seed| $kernel(stringify!($name), seed), $words);
        })*
    };
}

    mutants! {
        no_barrier: reverse, "data race";
        short_array: reverse, "out-of-bounds shared memory";
        off_by_one: reverse, "out-of-bounds shared memory";
        unwritten_output: reverse, "that nothing wrote";
        divergent_barrier: reverse, "barrier divergence";
        other_block: reverse, "race between blocks";
        one_past_the_end: reverse, "allocation 2 + ";
        deadlock: reverse, "deadlock: no thread can run";
        exited_lanes: sum, "exit";
        no_warp_barrier: swap, "data race";
        misaligned: copy, "misaligned access of 16 bytes";
        no_wait: product, "while an asynchronous copy into it is in flight";
        no_barrier_after_wait: product, "shared memory";
        no_barrier_before_reuse: product, "data race";
        no_init_fence: tiles, "without fence.mbarrier_init";
        no_barrier_after_init: tiles, "no mbarrier at";
        no_full_wait: tiles, "read of uninitialised|asynchronous copy into it is in flight|data race: asynchronous read";
        no_empty_wait: tiles, "more arrivals|asynchronous operation reads it|data race: write|copy into it is in flight";
        wrong_parity: tiles, "deadlock|asynchronous copy into it is in flight|data race: asynchronous read";
        too_few_bytes: tiles, "than it was told to expect|asynchronous copy into it is in flight";
        too_many_bytes: tiles, "deadlock: no thread can run";
        bytes_of_the_reach: steps, "deadlock: no thread can run";
        too_many_arrivals: tiles, "deadlock: no thread can run|data race: write";
        early_release: tiles, "asynchronous operation reads it|data race: write";
        no_product_fence: tiles, "since the last wgmma.fence";
        no_commit: tiles, "asynchronous operation reads it|under way";
        touched_sums: tiles, "wrote to a register of its sums";
        no_wait_before_exit: tiles, "while tensor copies or wgmma of it are under way";
        wrong_stride: tiles, "a stride of 512 bytes";
        wrong_start: tiles, "within an atom";
        unaligned_stage: tiles, "is not aligned to 128";
        no_proxy_fence: stored, "has not fenced it";
        unfenced_values: values_by, "since the last wgmma.fence";
    }

    /// No access is wrong in these: their values are.
    #[test]
    fn what_only_gives_wrong_values_is_seen_in_them() {
        for seed in 0..SCHEDULES_OF_A_MUTANT {
            assert_ne!(product("wrong_fragment", seed), Ok(expected_product()), "{seed}");
            assert_ne!(tiles("wrong_advance", seed), Ok(expected_tiles()), "{seed}");
            for mutation in ["wrong_advance", "wrong_apart"] {
                assert_ne!(values_by(mutation, seed), Ok(expected_values()), "{mutation}, {seed}");
            }
            let unwaited = tiles("no_product_wait", seed).expect("values alone are wrong");
            assert!(unwaited.iter().all(|sum| sum.is_nan()), "{seed}");
            // gcc from version 12 on fills what is not initialised.
            if let Ok(sums) = sum("uninitialised_register", seed) {
                let right: Vec<f32> = values(128).chunks(64).map(|block| block.iter().sum()).collect();
                assert_ne!(sums, right, "{seed}");
            }
        }
    }

    #[test]
    fn a_report_names_the_kernel_the_schedule_and_who() {
        let report = reverse("no_barrier", 3).unwrap_err();
        for part in ["reverse_no_barrier", "seed ", "thread ", "shared memory + "] {
            assert!(report.contains(part), "{part} is not in: {report}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_report() {
        for seed in 0..5 {
            assert_eq!(product("no_barrier_before_reuse", seed), product("no_barrier_before_reuse", seed));
        }
    }
}

/// What sanitizers see. They end the process, so each of these is another.
#[cfg(sanitized)]
mod sanitized {
    use super::*;

    /// Runs `KERNEL_MUTATION`, and is not expected back.
    #[test]
    #[ignore = "ends the process"]
    fn inner() {
        let mutant = std::env::var("MUTANT").expect("set by `caught`");
        let (kernel, mutation) = mutant.split_once(' ').expect("two words");
        let kernel = if kernel == "reverse" { reverse } else { scale };
        println!("let through: {:?}", kernel(mutation, 1));
    }

    fn caught(mutant: &str, words: &str) {
        let mut inner = std::process::Command::new(std::env::current_exe().expect("a path"));
        inner.args(["--exact", "sanitized::inner", "--ignored", "--nocapture"]).env("MUTANT", mutant);
        let output = inner.output().expect("a process");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{mutant}: {words:?} is not in:\n{said}");
    }

    #[test]
    fn addresses_are() {
        caught("scale local_overrun", "stack-buffer-overflow");
        caught("reverse short_array", "index 127 out of bounds");
        caught("reverse off_by_one", "index 128 out of bounds");
        caught("reverse one_past_the_end", "use-after-poison");
    }

    #[test]
    fn undefined_behaviour_is() {
        caught("scale wide_shift", "shift exponent 32 is too large");
    }
}
