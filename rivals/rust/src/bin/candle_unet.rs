//! The SD 1.5 UNet of candle-transformers in f32, random weights: `candle_unet BATCH PASSES`

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use candle_transformers::models::stable_diffusion::unet_2d::{
    UNet2DConditionModel, UNet2DConditionModelConfig,
};
use rivals::{measure, values};

/// Weights by their shapes alone, under which values stay as large as they are.
struct Synthetic;

impl SimpleBackend for Synthetic {
    fn get(&self, shape: Shape, _: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let inputs: usize = shape.dims()[1..].iter().product();
        tensor(shape, (inputs as f32).sqrt().recip(), device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} has no shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn tensor(shape: impl Into<Shape>, scale: f32, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(values(shape.elem_count(), scale), shape, device)
}

fn main() -> Result<()> {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [batch, passes] = arguments[..] else { candle_core::bail!("candle_unet BATCH PASSES") };
    let device = Device::Cpu;
    let weights = VarBuilder::from_backend(Box::new(Synthetic), DType::F32, device.clone());
    // All but this is SD 1.5's as it stands.
    let config = UNet2DConditionModelConfig { cross_attention_dim: 768, ..Default::default() };
    let unet = UNet2DConditionModel::new(weights, 4, 4, false, config)?;
    let x = tensor((batch, 4, 64, 64), 1.0, &device)?;
    let context = tensor((batch, 77, 768), 1.0, &device)?;
    measure("unet sd15 64x64", batch, passes, || unet.forward(&x, 500.0, &context))
}
