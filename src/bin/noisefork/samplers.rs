use clap::Args;
use noisefork::error::Result;
use noisefork::sampling::Sampler;
use noisefork::sampling::samplers::NoiseKind;

use crate::say::say;

/// List the samplers: order, model calls per step, fewest steps, whether right for flows, where their noise comes from.
#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    say(format_args!(
        "{:<28} {:>5} {:>10} {:>12} {:>4}  noise",
        "sampler", "order", "calls/step", "fewest steps", "flow"
    ));
    for name in Sampler::names() {
        let properties = name.parse::<Sampler>()?.properties();
        let noise = match properties.noise {
            NoiseKind::None => "none",
            NoiseKind::Gaussian => "gaussian",
            NoiseKind::Continued => "gaussian, after the initial noise",
            NoiseKind::Brownian => "brownian",
        };
        let flow = if properties.flow { "yes" } else { "no" };
        let (order, calls, fewest) = (properties.order, properties.calls_per_step, properties.fewest_steps);
        say(format_args!("{name:<28} {order:>5} {calls:>10} {fewest:>12} {flow:>4}  {noise}"));
    }
    Ok(())
}
