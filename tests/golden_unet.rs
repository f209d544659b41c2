//! UNets of the Stable Diffusion family against diffusers, and what no golden file can show.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use noisefork::cpu::Cpu;
use noisefork::cuda::Cuda;
use noisefork::error::{Error, Result};
use noisefork::nn::Run;
use noisefork::ops::{Backend, Enter, Leave};
use noisefork::reference::Reference;
use noisefork::tensor::{DType, Shape, Shaped, Tensor};
use noisefork::unet::{Added, Plan, UNet};
use support::compare::{assert_close_l2, relative_l2};
use support::emulated::Emulated;
use support::golden::{Case, Golden};
use support::report::report;

/// Relative L2 error allowed in f32; torch's own is a thirtieth of it.
const F32: f64 = 2e-5;
/// Relative L2 error allowed in f64: the golden tensors are rounded to f32, and so are diffusers' time embeddings.
const F64: f64 = 1e-6;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn load<B: Backend>(backend: B, name: &str) -> Arc<UNet<B>> {
    Arc::new(UNet::load(Arc::new(backend), folder(name)).unwrap_or_else(|error| panic!("{error}")))
}

fn added(case: &Case) -> Option<Added> {
    case.has_tensor("time_ids")
        .then(|| Added { text_embeds: case.tensor("text_embeds"), time_ids: case.tensor("time_ids") })
}

/// A whole prediction, from latents to latents `[N, C, H, W]`.
fn predict<B: Backend>(
    unet: &Arc<UNet<B>>,
    x: &Tensor,
    timesteps: &[f32],
    context: &Tensor,
    added: Option<&Added>,
) -> Result<Tensor> {
    let backend = &**unet.backend();
    let mut latent = backend.latent(x.shape())?;
    backend.write_latent(x, &mut latent)?;
    let entered = Enter { parts: &[(1.0, &latent)], copies: 1 }.run(backend)?;
    let [batch, _, height, width] = *x.shape() else { panic!("{}", x.shape()) };
    let conditioning = unet.prepare(context, batch, added)?;
    let times = unet.times(&[timesteps], &conditioning)?;
    let mut plan = unet.plan(batch, [height, width], context.shape()[1])?;
    let out = plan.forward(&entered, &times, 0, &conditioning)?;
    let leave = Leave { x: out, branch: 0, branches: 1 };
    let mut latent = backend.latent(leave.check()?)?;
    backend.leave(&leave, &mut latent)?;
    backend.read_latent(&latent)
}

fn predict_case<B: Backend>(unet: &Arc<UNet<B>>, case: &Case) -> Tensor {
    let timesteps = case.tensor("timesteps");
    let got =
        predict(unet, &case.tensor("x"), timesteps.data(), &case.tensor("context"), added(case).as_ref());
    got.unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// Runs cases of a folder, each of which may err by as much as `tolerance` says.
fn check<B: Backend>(backend: B, what: &str, name: &str, pick: Pick, tolerance: impl Fn(usize) -> f64) {
    let golden = Golden::open(&format!("{name}/reference"));
    let cases = golden.cases();
    assert!(!cases.is_empty(), "no cases in {name}");
    let smallest = (0..cases.len()).min_by_key(|&i| cases[i].tensor("x").data().len());
    let unet = load(backend, name);
    let (mut ran, mut worst) = (0, 0.0_f64);
    for (i, case) in cases.iter().enumerate().filter(|(i, _)| pick == Pick::All || Some(*i) == smallest) {
        let (got, want) = (predict_case(&unet, case), case.tensor("out"));
        assert_eq!(got.shape(), want.shape(), "{case}");
        assert_close_l2(&format!("{what}, {case}"), got.data(), want.data(), tolerance(i));
        worst = worst.max(relative_l2(got.data(), want.data()));
        ran += 1;
    }
    report(format!("{name}: {ran} cases on {what}, worst relative L2 error {worst:.1e}"));
}

/// Which cases of a folder: plain loops and the emulator have no time for more than one.
#[derive(Clone, Copy, PartialEq)]
enum Pick {
    All,
    Smallest,
}

/// Twice what torch itself errs by on case `i` of a folder in f16 or bf16.
fn twice_torch(name: &str, element: DType) -> impl Fn(usize) -> f64 {
    let path = folder("half_errors.json");
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let errors = table[name][element.to_string()].clone();
    move |i| 2.0 * errors[i].as_f64().expect("an error for every case")
}

/// On the CPU in f32 and bf16, in plain f64, and on an emulated GPU in all that its kernels compute in.
fn check_everywhere(name: &str) {
    check(Cpu::new(), "the CPU in f32", name, Pick::All, |_| F32);
    check(Cpu::bf16(), "the CPU in bf16", name, Pick::All, twice_torch(name, DType::BF16));
    check(Reference::<f64>::new(), "plain f64", name, Pick::Smallest, |_| F64);
    let smallest = Pick::Smallest;
    check(Emulated::cuda::<f32>(1), "emulated CUDA in f32", name, smallest, |_| F32);
    check(Emulated::cuda::<f16>(1), "emulated CUDA in f16", name, smallest, twice_torch(name, DType::F16));
    check(Emulated::cuda::<bf16>(1), "emulated CUDA in bf16", name, smallest, twice_torch(name, DType::BF16));
    let hopper = Cuda::<_, f16>::new(Arc::new(Emulated::hopper(132, 1)));
    check(hopper, "emulated Hopper in f16", name, smallest, twice_torch(name, DType::F16));
}

#[test]
fn sd15_matches_diffusers() {
    check_everywhere("unet_sd15");
}

#[test]
fn four_levels_match_diffusers() {
    check_everywhere("unet_sd15_four_levels");
}

#[test]
fn inpainting_matches_diffusers() {
    check_everywhere("unet_sd15_inpaint");
}

#[test]
fn sd21_matches_diffusers() {
    check_everywhere("unet_sd21");
}

#[test]
fn sdxl_matches_diffusers() {
    check_everywhere("unet_sdxl");
}

/// In all that its kernels compute in.
#[cfg(feature = "cuda")]
#[test]
fn all_match_diffusers_on_a_gpu() {
    use support::gpu::cuda;
    const TEST: &str = "all_match_diffusers_on_a_gpu";
    for name in ["unet_sd15", "unet_sd15_four_levels", "unet_sd15_inpaint", "unet_sd21", "unet_sdxl"] {
        let (Some(f32), Some(f16), Some(bf16)) = (cuda::<f32>(TEST), cuda::<f16>(TEST), cuda::<bf16>(TEST))
        else {
            return;
        };
        check(f32, "a GPU in f32", name, Pick::All, |_| F32);
        check(f16, "a GPU in f16", name, Pick::All, twice_torch(name, DType::F16));
        check(bf16, "a GPU in bf16", name, Pick::All, twice_torch(name, DType::BF16));
    }
}

/// Item `k` of a batch of three alone, everything that belongs to it taken along.
fn alone<B: Backend>(unet: &Arc<UNet<B>>, case: &Case, k: usize) -> Tensor {
    let item = |field: &str| case.tensor(field).items(k..k + 1).unwrap();
    let added = added(case).map(|_| Added { text_embeds: item("text_embeds"), time_ids: item("time_ids") });
    predict(unet, &item("x"), item("timesteps").data(), &item("context"), added.as_ref()).unwrap()
}

fn items_are_independent<B: Backend>(backend: B, name: &str) {
    let golden = Golden::open(&format!("{name}/reference"));
    let cases = golden.cases();
    let case = cases.iter().find(|case| case.usize("batch") == 3).expect("a case with a batch of 3");
    let unet = load(backend, name);
    let together = predict_case(&unet, case);
    for k in 0..3 {
        assert_eq!(alone(&unet, case, k), together.items(k..k + 1).unwrap(), "item {k} of {case}");
    }
}

#[test]
fn an_item_of_a_batch_has_the_bits_it_has_alone() {
    items_are_independent(Cpu::new(), "unet_sd15");
    items_are_independent(Cpu::new(), "unet_sdxl");
}

#[test]
fn an_item_of_a_batch_has_the_bits_it_has_alone_in_the_reference() {
    items_are_independent(Reference::<f32>::new(), "unet_sd15_inpaint");
}

#[test]
fn one_context_and_one_timestep_stand_for_all_items() {
    let name = "unet_sdxl";
    let golden = Golden::open(&format!("{name}/reference"));
    let cases = golden.cases();
    let case = cases.iter().find(|case| case.usize("batch") == 2).unwrap();
    let unet = load(Cpu::new(), name);
    let item = |field: &str| case.tensor(field).items(0..1).unwrap();
    let one = Added { text_embeds: item("text_embeds"), time_ids: item("time_ids") };
    let two = Added { text_embeds: one.text_embeds.repeated(2), time_ids: one.time_ids.repeated(2) };
    let (x, context, timestep) = (case.tensor("x"), item("context"), item("timesteps").data()[0]);
    let short = predict(&unet, &x, &[timestep], &context, Some(&one)).unwrap();
    let long = predict(&unet, &x, &[timestep; 2], &context.repeated(2), Some(&two)).unwrap();
    assert_eq!(short, long);
}

/// Every size halves to something and doubles back to itself.
#[test]
fn every_size_keeps_its_shape() {
    let unet = load(Cpu::new(), "unet_sd15_four_levels");
    let context = Tensor::zeros([1, 3, 40]);
    for (height, width) in [(1, 1), (1, 9), (2, 3), (7, 5), (15, 17)] {
        let x = Tensor::zeros([1, 4, height, width]);
        let got = predict(&unet, &x, &[999.0], &context, None).unwrap();
        assert_eq!(got.shape(), x.shape());
        assert!(got.data().iter().all(|v| v.is_finite()));
    }
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let sd15 = load(Cpu::new(), "unet_sd15");
    let sdxl = load(Cpu::new(), "unet_sdxl");
    let refusal = |error: Error| match error {
        Error::Shape { op: "unet", tensor, .. } => tensor,
        Error::Value { op: "unet", what, .. } => what,
        other => panic!("{other:?}"),
    };
    let context = |n, width| Tensor::zeros([n, 7, width]);
    let added = |n, width, numbers| Added {
        text_embeds: Tensor::zeros([n, width]),
        time_ids: Tensor::zeros([n, numbers]),
    };
    let prepare = |unet: &UNet<Cpu>, context: Tensor, batch, added: Option<Added>| {
        refusal(unet.prepare(&context, batch, added.as_ref()).map(drop).expect_err("a refusal"))
    };
    assert_eq!(prepare(&sd15, context(1, 48), 0, None), "batch");
    assert_eq!(prepare(&sd15, context(1, 47), 1, None), "context");
    assert_eq!(prepare(&sd15, context(2, 48), 3, None), "context");
    assert_eq!(prepare(&sd15, Tensor::zeros([1, 0, 48]), 1, None), "context");
    assert_eq!(prepare(&sd15, Tensor::zeros([1, 48]), 1, None), "context");
    assert_eq!(prepare(&sd15, context(1, 48), 1, Some(added(1, 40, 6))), "added");
    assert_eq!(prepare(&sdxl, context(1, 64), 1, None), "added");
    assert_eq!((sd15.config().wants_added(), sdxl.config().wants_added()), (false, true));
    assert_eq!(prepare(&sdxl, context(1, 64), 1, Some(added(1, 41, 6))), "text_embeds");
    assert_eq!(prepare(&sdxl, context(1, 64), 3, Some(added(2, 40, 6))), "time_ids");
    assert_eq!(prepare(&sdxl, context(1, 64), 1, Some(added(1, 40, 9))), "time_ids");

    let too_many = sd15.prepare(&context(1, 48), usize::MAX, None).map(drop);
    assert!(matches!(too_many, Err(Error::Value { what: "memory", .. })), "{too_many:?}");

    let upload = |x: Tensor| sd15.backend().upload(&x).unwrap();
    let conditioning = sd15.prepare(&context(1, 48), 2, None).unwrap();
    let times = sd15.times(&[[1.0]], &conditioning).unwrap();
    let timesteps = |timesteps: &[Vec<f32>]| {
        refusal(sd15.times(timesteps, &conditioning).map(drop).expect_err("a refusal"))
    };
    for wrong in
        [vec![], vec![vec![]], vec![vec![1.0; 3]], vec![vec![1.0], vec![1.0; 2]], vec![vec![f32::NAN]]]
    {
        assert_eq!(timesteps(&wrong), "timesteps");
    }

    for (batch, size, tokens, what) in
        [(0, [8, 8], 7, "batch"), (1, [0, 8], 7, "height"), (1, [8, 0], 7, "width"), (1, [8, 8], 0, "tokens")]
    {
        assert_eq!(refusal(sd15.plan(batch, size, tokens).map(drop).expect_err("a refusal")), what);
    }
    let mut plan = sd15.plan(2, [8, 8], 7).unwrap();
    let x = upload(Tensor::zeros([2, 8, 8, 4]));
    for wrong in [Shape::from([2, 8, 8, 9]), [2, 0, 8, 4].into(), [2, 8, 4].into(), [1, 8, 8, 4].into()] {
        let forward = plan.forward(&upload(Tensor::zeros(wrong)), &times, 0, &conditioning).map(drop);
        assert_eq!(refusal(forward.expect_err("a refusal")), "x");
    }
    assert_eq!(refusal(plan.forward(&x, &times, 1, &conditioning).map(drop).expect_err("a refusal")), "step");
    let refused = |plan: &mut Plan<Cpu>, model: &UNet<Cpu>, batch, tokens, what| {
        let prepared = model.prepare(&Tensor::zeros([1, tokens, 48]), batch, None).unwrap();
        let times = model.times(&[[1.0]], &prepared).unwrap();
        let forward = plan.forward(&x, &times, 0, &prepared).map(drop);
        assert_eq!(refusal(forward.expect_err("a refusal")), what);
        times
    };
    refused(&mut plan, &sd15, 2, 6, "tokens");
    refused(&mut plan, &load(Cpu::new(), "unet_sd15"), 2, 7, "conditioning");
    let times = refused(&mut plan, &sd15, 1, 7, "conditioning");
    assert_eq!(
        refusal(plan.forward(&x, &times, 0, &conditioning).map(drop).expect_err("a refusal")),
        "times"
    );
}

/// SDXL's pooled text is in the times, so they belong to one conditioning. Others' hold nothing of any.
#[test]
fn times_of_another_conditioning_are_refused_where_they_hold_it() {
    let forward = |name: &str, width, added: Option<[f32; 2]>| {
        let unet = load(Cpu::new(), name);
        let [of_times, conditioning] = [0, 1].map(|at| {
            let filled =
                |shape, value| Tensor::new(shape, vec![value; Shape::from(shape).elements()]).unwrap();
            let added = added
                .map(|text| Added { text_embeds: filled([1, 40], text[at]), time_ids: filled([1, 6], 1.0) });
            unet.prepare(&Tensor::zeros([1, 7, width]), 1, added.as_ref()).unwrap()
        });
        let times = unet.times(&[[1.0]], &of_times).unwrap();
        let x = unet.backend().upload(&Tensor::zeros([1, 8, 8, 4])).unwrap();
        let mut plan = unet.plan(1, [8, 8], 7).unwrap();
        plan.forward(&x, &times, 0, &of_times).unwrap();
        plan.forward(&x, &times, 0, &conditioning).map(drop)
    };
    assert_eq!(forward("unet_sd15", 48, None), Ok(()));
    let refusal = forward("unet_sdxl", 64, Some([0.0, 1.0]));
    assert!(matches!(refusal, Err(Error::Value { what: "times", .. })), "{refusal:?}");
}
