use clap::Args;
use noisefork::error::Result;
use noisefork::sampling::Sampler;
use noisefork::sampling::samplers::NoiseKind;

/// List the samplers: order, model calls per step, where their noise comes from.
#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    println!("{:<28} {:>5} {:>10}  noise", "sampler", "order", "calls/step");
    for name in Sampler::names() {
        let properties = name.parse::<Sampler>()?.properties();
        let noise = match properties.noise {
            NoiseKind::None => "none",
            NoiseKind::Gaussian => "gaussian",
            NoiseKind::Continued => "gaussian, after the initial noise",
            NoiseKind::Brownian => "brownian",
        };
        println!("{name:<28} {:>5} {:>10}  {noise}", properties.order, properties.calls_per_step);
    }
    Ok(())
}
