//! A step of a UNet as a graph: captured once, replayed for all others. On the emulator, against the same kernels launched
//! one by one.

mod support;

use std::iter;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use noisefork::cuda::{Cuda, Tape};
use noisefork::error::Error;
use noisefork::ops::{Backend, Combine};
use noisefork::sampling::{Betas, KSampler, Model, ModelSampling, Run};
use noisefork::tensor::{Shape, Tensor};
use noisefork::trace::Traced;
use noisefork::unet::{Conditioning, Plan, Prompt, Times, UNet, UNetDenoiser};
use support::emulated::Emulated;

type Gpu = Cuda<Emulated, f32>;

const TOKENS: usize = 7;
const SIZE: [usize; 2] = [8, 8];

/// Kernels launched one by one: what is traced is not replayed.
fn one_by_one() -> Traced<Gpu> {
    Traced::new(Emulated::cuda(1))
}

fn load<B: Backend>(backend: B) -> Arc<UNet<B>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/unet_sd15");
    Arc::new(UNet::load(Arc::new(backend), folder).unwrap())
}

fn noise(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    noisefork::rng::Mt19937::new(seed).randn(tensor.data_mut());
    tensor
}

/// A plan for a batch, with all that it takes.
struct Ready<B: Backend> {
    unet: Arc<UNet<B>>,
    plan: Plan<B>,
    conditioning: Conditioning<B>,
    times: Times<B>,
}

impl<B: Backend> Ready<B> {
    fn new(unet: &Arc<UNet<B>>, batch: usize) -> Self {
        let conditioning = conditioning(unet, batch, 1);
        let times = unet.times(&[[900.0], [500.0]], &conditioning).unwrap();
        let plan = unet.plan(batch, SIZE, TOKENS).unwrap();
        Ready { unet: unet.clone(), plan, conditioning, times }
    }

    fn input(&self, seed: u64) -> B::Tensor {
        self.unet.backend().upload(&noise(self.plan.shape(), seed)).unwrap()
    }

    /// Predictions at each step, as numbers.
    fn predict(&mut self, x: &B::Tensor, read: impl Fn(&B::Tensor) -> Tensor) -> Vec<Tensor> {
        (0..2)
            .map(|step| read(self.plan.forward(x, &self.times, step, &self.conditioning).unwrap()))
            .collect()
    }
}

fn conditioning<B: Backend>(unet: &Arc<UNet<B>>, batch: usize, seed: u64) -> Conditioning<B> {
    unet.prepare(&noise([1, TOKENS, unet.config().cross_attention_dim()], seed), batch, None).unwrap()
}

#[test]
fn a_run_is_launched_at_once_and_gives_the_same_bits() {
    for batch in [1, 2] {
        let mut eager = Ready::new(&load(one_by_one()), batch);
        let want = eager.predict(&eager.input(1), |y| y.read().unwrap());
        assert!(eager.plan.kernels() > 50, "{}", eager.plan.kernels());
        assert_eq!(eager.plan.launches(), 2 * eager.plan.kernels());

        let mut graph = Ready::new(&load(Emulated::cuda(1)), batch);
        let got = graph.predict(&graph.input(1), |y| y.read().unwrap());
        assert_eq!((graph.plan.kernels(), graph.plan.launches()), (eager.plan.kernels(), 2));
        assert!(got == want && want[0] != want[1], "other bits, batch {batch}");
    }
}

#[test]
fn inputs_that_move_are_captured_anew() {
    let emulated = Arc::new(Emulated::new(1));
    let mut ready = Ready::new(&load(Gpu::new(emulated.clone())), 1);
    let [first, second] = [1, 2].map(|seed| ready.input(seed));
    let mut at = |x, conditioning: &Conditioning<Gpu>| {
        ready.plan.forward(x, &ready.times, 1, conditioning).unwrap().read().unwrap()
    };
    let [one, other] = [1, 2].map(|seed| conditioning(&ready.unet, 1, seed));
    let mut seen = vec![at(&first, &one), at(&second, &one), at(&second, &other), at(&second, &other)];
    assert_eq!(emulated.graphs.load(Ordering::Relaxed), 3);
    seen.extend([at(&first, &one)]);
    assert!(seen[0] == seen[4] && seen[2] == seen[3]);
    assert!(seen[0] != seen[1] && seen[1] != seen[2]);
}

#[test]
fn threads_capture_on_one_device_at_once() {
    let unet = load(Emulated::cuda(1));
    let alone = Ready::new(&unet, 1).input(1);
    let want = Ready::new(&unet, 1).predict(&alone, |y| y.read().unwrap());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let unet = &unet;
                scope.spawn(move || {
                    let mut ready = Ready::new(unet, 1);
                    let x = ready.input(1);
                    ready.predict(&x, |y| y.read().unwrap())
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() == want));
    });
}

/// A run of some steps, stopped and taken up again after as many as are said, on another model.
fn run<B: Backend>(load: impl Fn() -> Arc<UNet<B>>, cfg: f64, stop_after: Option<usize>) -> Tensor {
    let ksampler = KSampler {
        profile: "counter".parse().unwrap(),
        ..KSampler::new(5, 3, cfg, "dpmpp_2m_sde".parse().unwrap(), "karras".parse().unwrap())
    };
    let unet = load();
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    let denoiser = |unet: &Arc<UNet<B>>| {
        let width = unet.config().cross_attention_dim();
        let [positive, negative] =
            [1, 2].map(|seed| Prompt { context: noise([1, TOKENS, width], seed), added: None });
        UNetDenoiser::new(unet.clone(), sampling.clone(), positive, negative).unwrap()
    };
    let mut model = Model {
        backend: &**unet.backend(),
        denoiser: denoiser(&unet),
        sampling: sampling.clone(),
        latent_scale: 1.0,
    };
    let latent = Tensor::zeros([1, 4, SIZE[0], SIZE[1]]);
    let Some(steps) = stop_after else {
        return ksampler.sample(&mut model, &latent, &mut |_| ControlFlow::Continue(())).unwrap();
    };
    let mut started = ksampler.start(&mut model, &latent).unwrap().unwrap();
    while started.done() < steps {
        assert!(started.step(&mut |_| ControlFlow::Continue(())).unwrap());
    }
    let bytes = started.snapshot().unwrap();
    let unet = load();
    let mut denoiser = denoiser(&unet);
    let resumed = Run::resume(&**unet.backend(), &mut denoiser, &bytes).unwrap();
    resumed.finish(&mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn whole_runs_have_the_same_bits_with_graphs() {
    for cfg in [1.0, 4.0] {
        let want = run(|| load(one_by_one()), cfg, None);
        let graphs = || load(Emulated::cuda::<f32>(2));
        assert!(run(graphs, cfg, None) == want, "cfg {cfg}");
        assert!(run(graphs, cfg, Some(1)) == want, "cfg {cfg}, resumed");
    }
}

#[test]
fn what_cannot_be_captured_is_refused_and_leaves_all_as_it_was() {
    let gpu = Emulated::cuda::<f32>(1);
    let shape = Shape::from([1, 4, 3, 3]);
    let host = noise(shape, 1);
    let [mut x, mut y] = [(); 2].map(|()| gpu.latent(shape).unwrap());
    gpu.write_latent(&host, &mut x).unwrap();
    let refused = |op, work: &dyn Fn(&Gpu) -> noisefork::error::Result<()>| {
        let got = gpu.repeat(&mut Tape::default(), iter::empty(), work);
        assert_eq!(got, Err(Error::NotCapturable { op }));
    };
    refused("copy_from", &|gpu| gpu.read_latent(&x).map(drop));
    refused("alloc", &|gpu| gpu.latent(Shape::from([1, 4, 99, 99])).map(drop));
    refused("alloc", &|gpu| gpu.upload(&noise([9, 999], 1)).map(drop));
    refused("capture", &|gpu| gpu.repeat(&mut Tape::default(), iter::empty(), |_| Ok(())));

    let mut tape = Tape::default();
    for _ in 0..2 {
        let double = |gpu: &Gpu| gpu.combine(&Combine { terms: &[(2.0, &x)] }, &mut y);
        gpu.repeat(&mut tape, iter::empty(), double).unwrap();
        let doubled: Vec<f32> = host.data().iter().map(|value| 2.0 * value).collect();
        assert_eq!(gpu.read_latent(&y).unwrap().data(), doubled);
    }
}

/// A rehearsal checks as a run does, counts its kernels, and runs none.
#[test]
fn a_rehearsal_launches_nothing() {
    let emulated = Arc::new(Emulated::new(1));
    let gpu = Gpu::new(emulated.clone());
    let rehearsal = gpu.rehearsal();
    let [x, mut y] = [(); 2].map(|()| rehearsal.latent([1, 4, 3, 3].into()).unwrap());
    rehearsal.combine(&Combine { terms: &[(2.0, &x)] }, &mut y).unwrap();
    let refused = rehearsal.combine(&Combine { terms: &[] }, &mut y);
    assert!(matches!(refused, Err(Error::Value { op: "combine", what: "terms", .. })), "{refused:?}");
    rehearsal
        .repeat(&mut Tape::default(), iter::empty(), |gpu| {
            gpu.combine(&Combine { terms: &[(2.0, &x)] }, &mut y)
        })
        .unwrap();
    assert_eq!((rehearsal.launches(), rehearsal.usage().allocations), (2, 2));
    assert_eq!((gpu.launches(), gpu.usage().allocations), (0, 0));
    assert!(emulated.launches.lock().unwrap().is_empty());
}
