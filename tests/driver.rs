//! The driver's launcher without a GPU: cudarc opens a driver that is an emulator (`emulator/driver`), which writes down
//! who breaks its rules and what is left behind.
//!
//! That driver has to be found when a process starts to look for it, so each test here runs one of `inner` in another.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use noisefork::cuda::driver::embedded;
use serde_json::Value;
use tempfile::TempDir;

/// The folder of a `libcuda.so` that is the emulated driver.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--locked", "--package", "emulated-driver"]);
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        // target/release/deps/driver-...
        let built: PathBuf = env::current_exe().unwrap().ancestors().nth(2).unwrap().into();
        let folder = TempDir::new().unwrap();
        fs::copy(built.join("libemulated_driver.so"), folder.path().join("libcuda.so")).unwrap();
        folder
    };
    FOLDER.get_or_init(make).path()
}

/// Runs a test of `inner` under the emulated driver; nobody may have broken a rule or left anything behind.
#[track_caller]
fn run(test: &str, variables: &[(&str, &str)]) {
    if embedded().0.is_empty() {
        return println!("{test}: skipped, since this build has no kernels");
    }
    let log = folder().join(format!("{test}-{}.log", variables.len()));
    let mut inner = Command::new(env::current_exe().unwrap());
    inner.args(["--exact", &format!("inner::{test}"), "--ignored", "--nocapture"]);
    inner.env("LD_LIBRARY_PATH", folder()).env("EMULATED_DRIVER_LOG", &log);
    let output = inner.envs(variables.iter().copied()).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{test} {variables:?}:\n{said}");
    let log = fs::read_to_string(log).unwrap_or_default();
    for line in log.lines() {
        assert_eq!(line, "closed", "{test} {variables:?}:\n{log}");
    }
}

/// As [`run`], and a context was opened and closed.
#[track_caller]
fn run_to_the_end(test: &str, variables: &[(&str, &str)]) {
    run(test, variables);
    if !embedded().0.is_empty() {
        let log = folder().join(format!("{test}-{}.log", variables.len()));
        assert!(
            fs::read_to_string(log).unwrap_or_default().contains("closed"),
            "{test} left its context open"
        );
    }
}

#[test]
fn it_copies_and_launches() {
    run_to_the_end("copies_come_back", &[]);
    run_to_the_end("the_backend_combines", &[]);
}

/// A stand-in for an H100 is told of tensor maps by the driver's function; where that refuses, it is told by type.
#[test]
fn it_makes_tensor_maps_where_there_is_a_use_for_them() {
    let hopper = ("EMULATED_DRIVER_CAPABILITY", "90");
    run_to_the_end("the_backend_multiplies", &[]);
    run_to_the_end("the_backend_multiplies", &[hopper]);
    run_to_the_end("the_backend_halves", &[]);
    run_to_the_end("the_backend_halves", &[hopper]);
    let refused = ("EMULATED_DRIVER_FAIL", "cuTensorMapEncodeTiled=1");
    run_to_the_end("tensor_maps_are_refused", &[hopper, refused]);
}

#[test]
fn it_captures_and_replays() {
    run_to_the_end("a_graph_does_it_again", &[]);
    run_to_the_end("a_graph_keeps_what_was_freed_on_the_way", &[]);
    run_to_the_end("what_cannot_be_captured_is_refused", &[]);
    run_to_the_end("a_capture_may_fail_or_panic", &[]);
    run_to_the_end("a_capture_takes_nothing_of_other_threads", &[]);
    run_to_the_end("a_unet_is_captured_and_replayed", &[]);
}

#[test]
fn it_takes_streams_of_others() {
    run_to_the_end("streams_of_cudarc", &[]);
    run_to_the_end("streams_of_anyone", &[]);
    run_to_the_end("slices_of_cudarc", &[]);
    run_to_the_end("memory_of_anyone", &[]);
}

#[test]
fn it_serves_several_devices_and_threads() {
    run_to_the_end("two_devices_from_four_threads", &[]);
}

#[test]
fn what_is_missing_is_told_by_type() {
    run("a_driver_that_is_too_old", &[("EMULATED_DRIVER_VERSION", "12080")]);
    run(
        "a_driver_that_is_too_old",
        &[("EMULATED_DRIVER_VERSION", "11020"), ("EMULATED_DRIVER_DEVICES", "1")],
    );
    run("no_device", &[("EMULATED_DRIVER_DEVICES", "0")]);
    run("another_device", &[("EMULATED_DRIVER_DEVICES", "1")]);
    run("an_architecture_without_code", &[("EMULATED_DRIVER_CAPABILITY", "75")]);
    run("a_library_that_is_no_driver", &[("EMULATED_DRIVER_FAIL", "cuDriverGetVersion=34")]);
    run("a_driver_that_does_not_start", &[("EMULATED_DRIVER_FAIL", "cuInit=999")]);
}

#[test]
fn newer_devices_are_served_by_ptx_if_the_driver_can_compile_it() {
    run_to_the_end("copies_come_back", &[("EMULATED_DRIVER_CAPABILITY", "110")]);
}

#[test]
fn too_little_memory_is_told_by_type() {
    run_to_the_end("out_of_memory", &[]);
}

#[test]
fn a_lost_device_is_told_by_type_and_nothing_panics() {
    for function in ["cuLaunchKernel", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize"] {
        run("a_lost_device", &[("EMULATED_DRIVER_FAIL", &format!("{function}=700"))]);
    }
}

#[test]
fn drops_that_fail_do_not_panic_and_are_told_of() {
    let fails = |function: &str| {
        if embedded().0.is_empty() {
            return;
        }
        let mut inner = Command::new(env::current_exe().unwrap());
        inner.args(["--exact", "inner::drops_that_fail", "--ignored"]).env("LD_LIBRARY_PATH", folder());
        let output = inner.env("EMULATED_DRIVER_FAIL", format!("{function}=700")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{function}:\n{said}");
    };
    for function in [
        "cuMemFreeAsync",
        "cuMemFreeHost",
        "cuMemPoolDestroy",
        "cuEventDestroy_v2",
        "cuStreamDestroy_v2",
        "cuModuleUnload",
        "cuDevicePrimaryCtxRelease_v2",
        "cuCtxSetCurrent",
    ] {
        fails(function);
    }
}

/// What streams were given while a device's time was taken, and last before.
#[derive(Debug)]
struct Pass {
    before: String,
    work: Vec<String>,
}

/// The records of `noisefork bench` on a device of the emulated driver, and its passes. `None`: there are no kernels.
fn bench(arguments: &str) -> Option<(Vec<Value>, Vec<Pass>)> {
    if embedded().0.is_empty() {
        println!("bench {arguments}: skipped, since this build has no kernels");
        return None;
    }
    let logs = TempDir::new().unwrap();
    let [log, work] = ["log", "work"].map(|name| logs.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_noisefork"));
    command.arg("bench").args(arguments.split_whitespace()).args(["--device", "cuda:1", "--format", "jsonl"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("LD_LIBRARY_PATH", folder());
    let output =
        command.env("EMULATED_DRIVER_LOG", &log).env("EMULATED_DRIVER_WORK", &work).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(log).unwrap(), "closed\n", "{arguments}");
    let records = String::from_utf8(output.stdout).unwrap();
    let records = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let work = fs::read_to_string(work).unwrap();
    let mut between = work.split("timer\n").map(|part| part.lines().map(str::to_owned).collect::<Vec<_>>());
    let mut passes = Vec::new();
    while let (Some(before), Some(work)) = (between.next(), between.next()) {
        passes.push(Pass { before: before.last().cloned().unwrap_or_default(), work });
    }
    Some((records, passes))
}

/// A copy that leaves nothing else in a cache of 1 MiB.
fn is_flush(line: &str) -> bool {
    line.strip_prefix("copy ").is_some_and(|bytes| bytes.parse::<u64>().unwrap() >= 2 << 20)
}

#[test]
fn benchmarks_time_a_device_by_events_with_cold_caches() {
    let unet = "unet --model tests/golden/unet_sd15 --size 64 --batch 1 --dtype f16 --iterations 1";
    let Some((records, passes)) = bench(unet) else { return };
    for record in &records {
        assert_eq!(
            (&record["device"], &record["machine"]["gpu"]),
            (&"cuda:1".into(), &"Emulated GPU 1".into())
        );
        let seconds = record["seconds"].as_array().unwrap();
        assert!(
            seconds.len() == 1 && seconds.iter().all(|second| second.as_f64().unwrap() > 0.0),
            "{record}"
        );
        let ceiling = &record["ceiling"];
        assert!(ceiling["flops_per_s"].as_f64() > Some(0.0) && ceiling["bytes_per_s"].as_f64() > Some(0.0));
        // The weights at least, and not what is copied to empty the cache.
        let weights =
            fs::metadata("tests/golden/unet_sd15/diffusion_pytorch_model.safetensors").unwrap().len();
        assert!((weights / 2..8 << 20).contains(&record["peak_bytes"].as_u64().unwrap()), "{record}");
    }
    let [graph, one_by_one] = records.try_into().unwrap();
    let kernels = graph["kernels"].as_u64().unwrap();
    assert!(kernels > 50 && graph["launches"] == 1 && graph["form"].is_null(), "{graph}");
    assert_eq!((&one_by_one["kernels"], &one_by_one["launches"]), (&kernels.into(), &kernels.into()));
    assert_eq!(one_by_one["form"], "without a graph");

    let launches = |pass: &[String]| pass.iter().filter(|line| line.starts_with("launch ")).count() as u64;
    let is_graph = |pass: &[String]| pass.iter().any(|line| line == "graph");
    let timed =
        |kind: &dyn Fn(&[String]) -> bool| passes.iter().filter(|pass| kind(&pass.work)).collect::<Vec<_>>();
    // One more than is counted.
    for found in [timed(&is_graph), timed(&|pass| launches(pass) == kernels)] {
        assert!(found.len() == 2 && found.iter().all(|pass| is_flush(&pass.before)), "{found:?}");
    }
    // Ceilings: so many copies and products for each record.
    assert_eq!(timed(&|pass| pass.len() == 1 && is_flush(&pass[0])).len(), 2 * 5);
    assert!(timed(&|pass| pass.len() == 1 && pass[0].contains("f16")).len() >= 2 * 5, "{passes:?}");

    let (records, _) = bench("ops --batch 1 --size 64 --iterations 1 --dtype bf16 --only attention").unwrap();
    assert!(records.len() >= 4 && records.iter().all(|record| record["launches"] == 1), "{records:?}");
    let (records, _) = bench("sampler --samplers heun --side 8 --steps 3 --iterations 1").unwrap();
    assert_eq!((records.len(), &records[0]["model_calls"]), (1, &5.into()));
}

mod inner {
    use std::sync::Arc;

    use half::f16;
    use noisefork::cuda::driver::{devices, driver_version};
    use noisefork::cuda::{Cuda, Driver, Foreign, Launcher, Layout, Plan};
    use noisefork::error::{Error, Result};
    use noisefork::ops::{Activation, Backend, Combine, Conv2d, Linear};
    use noisefork::tensor::{DType, Shape, Tensor};
    use noisefork::unet::UNet;

    const BYTES: usize = 3 * 4096;
    const N: u32 = (BYTES / 4) as u32;

    /// `combine`'s terms, as `kernels/combine.cu` has them.
    fn terms(terms: &[(f32, u64)]) -> Vec<u8> {
        const MOST: usize = 16;
        let mut bytes = vec![0; MOST * 12 + 8];
        for (k, (coefficient, x)) in terms.iter().enumerate() {
            bytes[8 * k..][..8].copy_from_slice(&x.to_ne_bytes());
            bytes[8 * MOST + 4 * k..][..4].copy_from_slice(&coefficient.to_ne_bytes());
        }
        bytes[12 * MOST..][..4].copy_from_slice(&(terms.len() as u32).to_ne_bytes());
        bytes
    }

    /// y = 2 x.
    fn double(driver: &Driver, x: u64, y: u64) -> Result<()> {
        let grid = [N.div_ceil(1024), 1, 1];
        let plan =
            Plan { kernel: "combine", element: DType::F32, grid, block: [256, 1, 1], shared_memory: 0 };
        // SAFETY: both are allocations of `N` values.
        unsafe { driver.launch(&plan, &[&terms(&[(2.0, x)]), &y.to_ne_bytes(), &N.to_ne_bytes()]) }
    }

    fn write(driver: &Driver, to: u64, values: &[f32]) -> Result<()> {
        // SAFETY: there are so many.
        unsafe { driver.copy_to(to, bytemuck::cast_slice(values)) }
    }

    fn read(driver: &Driver, from: u64) -> Result<Vec<f32>> {
        let mut values = vec![0.0f32; N as usize];
        // SAFETY: there are so many.
        unsafe { driver.copy_from(from, bytemuck::cast_slice_mut(&mut values)) }?;
        Ok(values)
    }

    fn free(driver: &Driver, pointers: &[u64]) {
        // SAFETY: nothing uses them any more.
        pointers.iter().for_each(|&pointer| unsafe { driver.free(pointer) });
    }

    fn values(seed: u32) -> Vec<f32> {
        (0..N).map(|i| (i ^ seed) as f32).collect()
    }

    fn doubled(values: &[f32]) -> Vec<f32> {
        values.iter().map(|value| 2.0 * value).collect()
    }

    fn error<T>(result: Result<T>) -> Error {
        result.err().expect("an error")
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn copies_come_back() {
        let driver = Driver::new(0).unwrap();
        assert_eq!(driver.device().name, "Emulated GPU 0");
        let [a, b] = [(), ()].map(|()| driver.alloc(BYTES).unwrap());
        // More than once, since the staging memory is used again.
        for seed in 0..3 {
            write(&driver, a, &values(seed)).unwrap();
            // SAFETY: both are allocations of `BYTES`.
            unsafe { driver.copy_within(a, b, BYTES) }.unwrap();
            assert_eq!(read(&driver, b).unwrap(), values(seed));
        }
        // More than fits into the staging memory.
        let large: Vec<u8> = (0..5 << 20).map(|i: usize| (i % 251) as u8).collect();
        let c = driver.alloc(large.len()).unwrap();
        let mut back = vec![0; large.len()];
        // SAFETY: the allocation is as long.
        unsafe {
            driver.copy_to(c, &large).unwrap();
            driver.copy_from(c, &mut back).unwrap();
        }
        assert!(back == large);
        driver.synchronize().unwrap();
        free(&driver, &[a, b, c]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn the_backend_combines() {
        let cuda = Cuda::<_, f16>::new(Arc::new(Driver::new(1).unwrap()));
        let shape = Shape::from([3, 4, 5, 7]);
        let host = Tensor::new(shape, (0..shape.elements()).map(|i| i as f32).collect()).unwrap();
        let [mut x, mut y] = [(), ()].map(|()| cuda.latent(shape).unwrap());
        cuda.write_latent(&host, &mut x).unwrap();
        cuda.combine(&Combine { terms: &[(0.5, &x), (0.25, &x)] }, &mut y).unwrap();
        let got = cuda.read_latent(&y).unwrap();
        assert!(got.data().iter().zip(host.data()).all(|(got, x)| *got == 0.75 * x));
    }

    fn ones<const RANK: usize>(shape: [usize; RANK]) -> Tensor {
        Tensor::new(shape, vec![1.0; shape.iter().product()]).unwrap()
    }

    /// The sums of as many ones as there are inputs.
    fn multiply() -> Result<Tensor<f16>> {
        const INPUTS: usize = 72;
        let cuda = Cuda::<_, f16>::new(Arc::new(Driver::new(0)?));
        let x = cuda.upload(&ones([130, INPUTS]))?;
        let weight = cuda.pack(ones([70, INPUTS]))?;
        let op =
            Linear { x: &x, weight: &weight, bias: None, residual: None, activation: Activation::Identity };
        let mut y = cuda.empty(op.check()?)?;
        cuda.linear(&op, &mut y)?;
        y.read()
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn the_backend_multiplies() {
        assert!(multiply().unwrap().data().iter().all(|sum| sum.to_f32() == 72.0));
    }

    /// How many pixels each tap sees, of a kernel that moves over 5 by 6 of them by two.
    #[test]
    #[ignore = "needs the emulated driver"]
    fn the_backend_halves() {
        let cuda = Cuda::<_, f16>::new(Arc::new(Driver::new(0).unwrap()));
        let (x, weight) =
            (cuda.upload(&ones([1, 5, 6, 64])).unwrap(), cuda.pack(ones([1, 3, 3, 64])).unwrap());
        let op = Conv2d {
            x: &x,
            weight: &weight,
            bias: None,
            shift: None,
            residual: None,
            activation: Activation::Identity,
            stride: 2,
            upsample: None,
        };
        let mut y = cuda.empty(op.check().unwrap()).unwrap();
        cuda.conv2d(&op, &mut y).unwrap();
        let seen = [2.0, 3.0, 2.0].map(|down| [2.0, 3.0, 3.0].map(|across| down * across));
        let sums: Vec<f32> = y.read().unwrap().data().iter().map(|sum| sum.to_f32() / 64.0).collect();
        assert_eq!(sums, seen.as_flattened());
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn tensor_maps_are_refused() {
        let error = error(multiply());
        assert!(matches!(error, Error::Driver { op: "tensor_map", .. }), "{error:?}");
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_graph_does_it_again() {
        let driver = Driver::new(0).unwrap();
        let [a, b, c] = [(); 3].map(|()| driver.alloc(BYTES).unwrap());
        write(&driver, a, &values(1)).unwrap();
        let graph = driver.capture(|| {
            double(&driver, a, b)?;
            // SAFETY: both are allocations of `BYTES`.
            unsafe { driver.copy_within(b, c, BYTES) }
        });
        let graph = graph.unwrap();
        // What was captured was not done: nothing has been written.
        assert!(read(&driver, c).is_err());
        for seed in 2..5 {
            write(&driver, a, &values(seed)).unwrap();
            // SAFETY: all are alive.
            unsafe { driver.replay(&graph) }.unwrap();
            assert_eq!(read(&driver, c).unwrap(), doubled(&values(seed)));
        }
        free(&driver, &[a, b, c]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_graph_keeps_what_was_freed_on_the_way() {
        let driver = Driver::new(0).unwrap();
        let [a, between, b] = [(); 3].map(|()| driver.alloc(BYTES).unwrap());
        let graph = driver.capture(|| {
            double(&driver, a, between)?;
            double(&driver, between, b)?;
            free(&driver, &[between]);
            Ok(())
        });
        let graph = graph.unwrap();
        write(&driver, a, &values(1)).unwrap();
        // SAFETY: all are alive.
        unsafe { driver.replay(&graph) }.unwrap();
        assert_eq!(read(&driver, b).unwrap(), doubled(&doubled(&values(1))));
        free(&driver, &[a, b]);
        // The graph outlives its launcher.
        drop(driver);
        drop(graph);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn what_cannot_be_captured_is_refused() {
        let [driver, other] = [(); 2].map(|()| Driver::new(0).unwrap());
        let a = driver.alloc(BYTES).unwrap();
        let nothing = driver.capture(|| Ok(())).unwrap();
        let refused = |op, work: &dyn Fn() -> Result<()>| {
            assert_eq!(error(driver.capture(work)), Error::NotCapturable { op });
        };
        refused("copy_to", &|| write(&driver, a, &values(1)));
        refused("copy_from", &|| read(&driver, a).map(drop));
        refused("alloc", &|| driver.alloc(BYTES).map(drop));
        refused("synchronize", &|| driver.synchronize());
        refused("capture", &|| driver.capture(|| Ok(())).map(drop));
        // SAFETY: it does nothing.
        refused("replay", &|| unsafe { driver.replay(&nothing) });
        // SAFETY: it does nothing.
        assert!(matches!(error(unsafe { other.replay(&nothing) }), Error::Driver { op: "replay", .. }));
        write(&driver, a, &values(1)).unwrap();
        assert_eq!(read(&driver, a).unwrap(), values(1));
        free(&driver, &[a]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_capture_may_fail_or_panic() {
        let driver = Driver::new(0).unwrap();
        let [a, b, c] = [(); 3].map(|()| driver.alloc(BYTES).unwrap());
        let fails = driver.capture(|| {
            double(&driver, a, b)?;
            free(&driver, &[c]);
            Err(Error::KernelsNotBuilt)
        });
        assert_eq!(error(fails), Error::KernelsNotBuilt);
        let panics = || {
            driver.capture(|| {
                double(&driver, a, b)?;
                panic!("on purpose")
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        write(&driver, a, &values(1)).unwrap();
        double(&driver, a, b).unwrap();
        assert_eq!(read(&driver, b).unwrap(), doubled(&values(1)));
        free(&driver, &[a, b]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_capture_takes_nothing_of_other_threads() {
        let driver = Driver::new(0).unwrap();
        let [a, b, c] = [(); 3].map(|()| driver.alloc(BYTES).unwrap());
        write(&driver, a, &values(1)).unwrap();
        let graph = driver.capture(|| {
            double(&driver, a, b)?;
            std::thread::scope(|scope| {
                // On the same stream, at once.
                let other = scope.spawn(|| {
                    double(&driver, a, c).unwrap();
                    assert_eq!(read(&driver, c).unwrap(), doubled(&values(1)));
                });
                other.join().unwrap();
            });
            Ok(())
        });
        let graph = graph.unwrap();
        write(&driver, c, &values(2)).unwrap();
        // SAFETY: all are alive.
        unsafe { driver.replay(&graph) }.unwrap();
        assert_eq!(read(&driver, b).unwrap(), doubled(&values(1)));
        assert_eq!(read(&driver, c).unwrap(), values(2));
        free(&driver, &[a, b, c]);
    }

    /// On two devices from two threads, each of which has a plan for each.
    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_unet_is_captured_and_replayed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/unet_sd15");
        let unets = [0, 1].map(|ordinal| {
            let driver = Arc::new(Driver::new(ordinal).unwrap());
            Arc::new(UNet::load(Arc::new(Cuda::<_, f32>::new(driver)), &folder).unwrap())
        });
        let predict = |unet: &Arc<UNet<Cuda<Driver, f32>>>| {
            let mut plan = unet.plan(1, [8, 8], 7).unwrap();
            let context = Tensor::zeros([1, 7, unet.config().cross_attention_dim()]);
            let conditioning = unet.prepare(&context, 1, None).unwrap();
            let times = unet.times(&[[900.0], [500.0]], &conditioning).unwrap();
            let x = unet.backend().upload(&Tensor::zeros(plan.shape())).unwrap();
            let steps =
                [0, 1, 0].map(|step| plan.forward(&x, &times, step, &conditioning).unwrap().read().unwrap());
            assert_eq!(plan.launches(), 3);
            steps
        };
        let want = predict(&unets[0]);
        assert!(want[0] == want[2] && want[0] != want[1]);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| unets.iter().for_each(|unet| assert!(predict(unet) == want)));
            }
        });
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn streams_of_cudarc() {
        let context = cudarc::driver::CudaContext::new(1).unwrap();
        let stream = context.new_stream().unwrap();
        let driver = Driver::on(stream.clone()).unwrap();
        assert_eq!(driver.stream(), stream.cu_stream().cast());
        assert_eq!(driver.device().ordinal, 1);
        let [a, b] = [(); 2].map(|()| driver.alloc(BYTES).unwrap());
        write(&driver, a, &values(1)).unwrap();
        double(&driver, a, b).unwrap();
        assert_eq!(read(&driver, b).unwrap(), doubled(&values(1)));
        free(&driver, &[a, b]);
        let default = error(Driver::on(context.default_stream()));
        assert!(matches!(default, Error::Value { what: "stream", .. }), "{default:?}");
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn streams_of_anyone() {
        let context = cudarc::driver::CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        // SAFETY: the stream is of that device's primary context, and is dropped last.
        let driver = unsafe { Driver::on_raw(0, stream.cu_stream().cast()) }.unwrap();
        let [a, b] = [(); 2].map(|()| driver.alloc(BYTES).unwrap());
        write(&driver, a, &values(1)).unwrap();
        double(&driver, a, b).unwrap();
        assert_eq!(read(&driver, b).unwrap(), doubled(&values(1)));
        free(&driver, &[a, b]);
        drop(driver);
        for default in [0usize, 1, 2] {
            // SAFETY: it is refused.
            let default = error(unsafe { Driver::on_raw(0, default as *mut _) });
            assert!(matches!(default, Error::Value { what: "stream", .. }), "{default:?}");
        }
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn slices_of_cudarc() {
        let context = cudarc::driver::CudaContext::new(0).unwrap();
        let [stream, other] = [(); 2].map(|()| context.new_stream().unwrap());
        let gpu = Cuda::<_, f32>::new(Arc::new(Driver::on(stream.clone()).unwrap()));
        let shape = [2, 4, 3, 8];
        let host: Vec<f32> = (0..192).map(|i| i as f32).collect();
        let x = stream.clone_htod(&host).unwrap();
        let mut y = stream.clone_htod(&host).unwrap();
        {
            let x = gpu.slice_latent(&x, shape).unwrap();
            let mut y = gpu.slice_latent_mut(&mut y, shape).unwrap();
            gpu.combine(&Combine { terms: &[(2.0, &x)] }, &mut y).unwrap();
        }
        assert_eq!(stream.clone_dtoh(&y).unwrap(), doubled(&host));
        // A part of one.
        {
            let (first, mut rest) = y.split_at_mut(96);
            let x = gpu.slice_latent(&first.as_view(), [1, 4, 3, 8]).map(|x| x.pointer());
            let mut y = gpu.slice_latent_mut(&mut rest, [1, 4, 3, 8]).unwrap();
            assert_eq!(x.unwrap() + 96 * 4, y.pointer());
            gpu.write_latent(&Tensor::zeros([1, 4, 3, 8]), &mut y).unwrap();
        }
        assert!(stream.clone_dtoh(&y).unwrap()[96..].iter().all(|&value| value == 0.0));
        assert_eq!(gpu.slice_tensor(&x, shape).unwrap().read().unwrap().data(), host);

        let what = |refused: Result<()>| match error(refused) {
            Error::Value { what, .. } => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(gpu.slice_latent(&x, [1, 4, 3, 8]).map(drop)), "length");
        assert_eq!(what(gpu.slice_latent(&x.slice(1..97), [1, 4, 3, 8]).map(drop)), "address");
        let strange = other.clone_htod(&host).unwrap();
        assert_eq!(what(gpu.slice_latent(&strange, shape).map(drop)), "stream");
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn memory_of_anyone() {
        let [here, there] = [0, 1].map(|ordinal| Arc::new(Driver::new(ordinal).unwrap()));
        let [a, b] = [&here, &there].map(|driver| driver.alloc(BYTES).unwrap());
        let gpu = Cuda::<_, f16>::new(here.clone());
        let (dtype, layout) = (DType::F32, Layout::ChannelsFirst);
        let memory = |address, shape| Foreign { address, bytes: BYTES, dtype, shape, layout };
        let all = Shape::from([3, 4, 16, 16]);
        write(&here, a, &values(1)).unwrap();
        {
            // SAFETY: it is freed below.
            let x = unsafe { gpu.foreign_latent(&memory(a, all)) }.unwrap();
            assert_eq!(x.read().unwrap().data(), values(1));
        }
        let half = Shape::from([3, 4, 16, 8]);
        // SAFETY: nothing is launched on what there is.
        let inside = |address, shape| unsafe { gpu.foreign_latent(&memory(address, shape)) }.is_ok();
        assert!(inside(a + 64, half) && !inside(a + 64, all) && !inside(a + 8, half));
        assert!(!inside(b, all) && !inside(64, all));
        free(&here, &[a]);
        free(&there, &[b]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn two_devices_from_four_threads() {
        let drivers: Vec<Driver> = (0..2).map(|ordinal| Driver::new(ordinal).unwrap()).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let drivers = &drivers;
                scope.spawn(move || {
                    // Each thread goes from device to device.
                    for round in 0..4 {
                        let driver = &drivers[(thread + round) as usize % 2];
                        let [a, b] = [(); 2].map(|()| driver.alloc(BYTES).unwrap());
                        let x = values(thread * 8 + round);
                        write(driver, a, &x).unwrap();
                        double(driver, a, b).unwrap();
                        assert_eq!(read(driver, b).unwrap(), doubled(&x));
                        free(driver, &[a, b]);
                    }
                });
            }
        });
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_driver_that_is_too_old() {
        let got = driver_version().map(|(major, minor)| format!("{major}.{minor}")).unwrap();
        match error(Driver::new(0)) {
            Error::DriverTooOld { expected, got: said } => {
                assert_eq!(said, got);
                assert!(expected == "13.0" || expected == "11.4", "{expected}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn no_device() {
        assert_eq!(devices().unwrap(), []);
        assert_eq!(error(Driver::new(0)), Error::NoDevice { found: 0, got: 0 });
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn another_device() {
        assert_eq!(error(Driver::new(7)), Error::NoDevice { found: 1, got: 7 });
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn an_architecture_without_code() {
        match error(Driver::new(0)) {
            Error::UnsupportedArchitecture { device, got, embedded } => {
                assert_eq!((device.as_str(), got.as_str()), ("Emulated GPU 0", "sm_75"));
                assert!(embedded.iter().any(|name| name == "sm_80"), "{embedded:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_library_that_is_no_driver() {
        assert!(matches!(error(driver_version()), Error::NoDriver { .. }));
        assert!(matches!(error(Driver::new(0)), Error::NoDriver { .. }));
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_driver_that_does_not_start() {
        let error = error(Driver::new(0));
        assert!(matches!(&error, Error::NoDriver { got } if got.contains("CUDA_ERROR_UNKNOWN")), "{error:?}");
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn out_of_memory() {
        let driver = Driver::new(0).unwrap();
        let bytes = 1 << 40;
        let device = driver.device().name.clone();
        assert_eq!(error(driver.alloc(bytes)), Error::OutOfMemory { device, bytes });
        // It goes on.
        let a = driver.alloc(BYTES).unwrap();
        write(&driver, a, &values(1)).unwrap();
        free(&driver, &[a]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn a_lost_device() {
        let driver = Driver::new(0).unwrap();
        let [a, b] = [(); 2].map(|()| driver.alloc(BYTES).unwrap());
        write(&driver, a, &values(1)).unwrap();
        let lost = error(double(&driver, a, b).and_then(|()| read(&driver, b)));
        assert!(
            matches!(&lost, Error::DeviceLost { got, .. } if got.contains("ILLEGAL_ADDRESS")),
            "{lost:?}"
        );
        free(&driver, &[a, b]);
    }

    #[test]
    #[ignore = "needs the emulated driver"]
    fn drops_that_fail() {
        let opened = Driver::new(0).and_then(|driver| {
            let a = driver.alloc(BYTES)?;
            free(&driver, &[a]);
            if std::env::var("EMULATED_DRIVER_FAIL").is_ok_and(|fail| fail.starts_with("cuMemFreeAsync")) {
                // The next call tells of it.
                let told = error(driver.synchronize());
                assert!(matches!(told, Error::DeviceLost { op: "synchronize", .. }), "{told:?}");
            }
            Ok(())
        });
        drop(opened);
    }
}
