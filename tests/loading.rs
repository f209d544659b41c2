//! Models of published sizes, made up and from files in the layouts that they are published in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use noisefork::cpu::Cpu;
use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::ops::{
    Attention, Backend, Blend, Combine, Concat, Conv2d, Enter, GroupNorm, LayerNorm, Leave, Linear,
};
use noisefork::pool::Usage;
use noisefork::tensor::{DType, Shape, Shaped, Tensor};
use noisefork::unet::{Config, Preset, UNet};

fn layouts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layouts")
}

/// Counts parameters, and keeps none of them.
#[derive(Default)]
struct Counter(AtomicUsize);

struct Nothing(Shape);

impl Shaped for Nothing {
    fn shape(&self) -> Shape {
        self.0
    }
    fn dtype(&self) -> DType {
        DType::F32
    }
}

/// Where only loading is tried.
fn not_run() -> Result<()> {
    unimplemented!("this backend only loads")
}

impl Backend for Counter {
    type Tensor = Nothing;
    type Latent = Nothing;
    type Weight = Nothing;

    fn empty(&self, shape: Shape) -> Result<Nothing> {
        Ok(Nothing(shape))
    }
    fn latent(&self, shape: Shape) -> Result<Nothing> {
        Ok(Nothing(shape))
    }
    fn upload(&self, host: &Tensor) -> Result<Nothing> {
        self.0.fetch_add(host.data().len(), Ordering::Relaxed);
        Ok(Nothing(host.shape()))
    }
    fn pack(&self, weight: Tensor) -> Result<Nothing> {
        self.upload(&weight)
    }
    fn write_latent(&self, _: &Tensor, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn read_latent(&self, _: &Nothing) -> Result<Tensor> {
        not_run().map(|()| Tensor::zeros([]))
    }
    fn rehearsal(&self) -> Self {
        Counter::default()
    }
    fn stocked(&self) -> Result<Self> {
        Ok(Counter::default())
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
    fn flops(&self) -> u64 {
        0
    }
    fn linear(&self, _: &Linear<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn conv2d(&self, _: &Conv2d<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn group_norm(&self, _: &GroupNorm<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn layer_norm(&self, _: &LayerNorm<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn attention(&self, _: &Attention<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn concat(&self, _: &Concat<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn enter(&self, _: &Enter<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn leave(&self, _: &Leave<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn combine(&self, _: &Combine<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
    fn blend(&self, _: &Blend<'_, Self>, _: &mut Nothing) -> Result<()> {
        not_run()
    }
}

#[test]
fn presets_are_what_diffusers_configures() {
    for preset in Preset::ALL {
        let json = fs::read_to_string(layouts().join(format!("{preset}.json"))).unwrap();
        assert_eq!(Config::from_json(&json).unwrap(), preset.config(), "{preset}");
        assert_eq!(preset.to_string().parse(), Ok(preset));
    }
    match "sd-xl".parse::<Preset>() {
        Err(Error::UnknownName { got, nearest, .. }) => {
            assert_eq!((got.as_str(), nearest[0].as_str()), ("sd-xl", "sdxl"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn presets_have_as_many_parameters_as_in_diffusers() {
    let published = [
        (Preset::Sd15, 859_520_964),
        (Preset::Sd15Inpaint, 859_535_364),
        (Preset::Sd21, 865_910_724),
        (Preset::Sdxl, 2_567_463_684),
        (Preset::SdxlRefiner, 2_259_526_660),
    ];
    for (preset, parameters) in published {
        let counter = Arc::new(Counter::default());
        UNet::from_parts(counter.clone(), preset.config(), &Weights::synthetic(0)).unwrap();
        assert_eq!(counter.0.load(Ordering::Relaxed), parameters, "{preset}");
    }
}

/// The same values whenever they are asked for, others under another seed or name, and scaled by the inputs.
#[test]
fn synthetic_values_depend_on_seed_and_name_alone() {
    let tensor = |seed, name: &str, shape: &[usize]| {
        let shape = Shape::try_from_slice(shape).unwrap();
        Weights::synthetic(seed).tensor(name, shape).unwrap()
    };
    let weight = tensor(7, "a.weight", &[200, 30, 3, 3]);
    assert_eq!(weight, tensor(7, "a.weight", &[200, 30, 3, 3]));
    assert_ne!(weight, tensor(8, "a.weight", &[200, 30, 3, 3]));
    assert_ne!(weight, tensor(7, "b.weight", &[200, 30, 3, 3]));
    let moments = |tensor: &Tensor| {
        let n = tensor.data().len() as f64;
        let mean = tensor.data().iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = tensor.data().iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, square.sqrt())
    };
    let expected = [
        ("a.weight", vec![200, 30, 3, 3], 0.0, 270.0_f64.powf(-0.5)),
        ("a.weight", vec![200, 300], 0.0, 300.0_f64.powf(-0.5)),
        ("norm.weight", vec![50_000], 1.0, 0.1),
        ("norm.bias", vec![50_000], 0.0, 0.1),
    ];
    for (name, shape, mean, deviation) in expected {
        let (got_mean, got_deviation) = moments(&tensor(7, name, &shape));
        // Five standard errors of at least 50,000 values.
        let close = |got: f64, want: f64| (got - want).abs() < 5.0 * deviation / 50_000.0_f64.sqrt();
        assert!(
            close(got_mean, mean) && close(got_deviation, deviation),
            "{name} {shape:?}: {got_mean} {got_deviation}"
        );
    }
    for shape in [&[][..], &[0], &[0, usize::MAX, 2], &[3, 0]] {
        assert!(tensor(7, "empty", shape).data().iter().all(|v| v.is_finite()));
    }
    let too_large = Weights::synthetic(0).tensor("a.weight", [1 << 40, 1 << 20]);
    assert!(matches!(too_large, Err(Error::Value { what: "memory", .. })));
}

/// A made-up model computes: what it predicts is finite, neither vanishing nor exploding.
#[test]
fn a_synthetic_model_predicts_numbers_of_order_one() {
    let json = fs::read_to_string(layouts().join("../unet_sdxl/config.json")).unwrap();
    let config = Config::from_json(&json).unwrap();
    let unet = UNet::from_parts(Arc::new(Cpu::new()), config, &Weights::synthetic(1)).unwrap();
    let noise = |name: &str, shape: &[usize]| {
        let tensor = Weights::synthetic(2).tensor(name, [shape.iter().product(), 1]).unwrap();
        tensor.reshaped(Shape::try_from_slice(shape).unwrap()).unwrap()
    };
    let added =
        noisefork::unet::Added { text_embeds: noise("text", &[1, 40]), time_ids: noise("ids", &[1, 6]) };
    let conditioning = unet.prepare(&noise("context", &[1, 7, 64]), 1, Some(&added)).unwrap();
    let x = unet.backend().upload(&noise("x", &[1, 16, 16, 4])).unwrap();
    let times = unet.times(&[[500.0]], &conditioning).unwrap();
    let mut plan = Arc::new(unet).plan(1, [16, 16], 7).unwrap();
    let predicted = plan.forward(&x, &times, 0, &conditioning).unwrap();
    let square = predicted.data().iter().map(|v| v * v).sum::<f32>() / predicted.data().len() as f32;
    assert!((0.1..10.0).contains(&square), "{square}");
}
