use clap::{Args, ValueEnum};
use noisefork::error::Result;
use noisefork::sampling::{Betas, KSampler, ModelSampling, Sampler, Scheduler};

use crate::say::say;

/// Print the noise levels that a run visits.
#[derive(Args)]
pub struct Arguments {
    /// The schedule; without one, all of them
    #[arg(long)]
    scheduler: Option<Scheduler>,
    /// Steps of the schedule
    #[arg(long, default_value_t = 25)]
    steps: usize,
    /// The sampler, since some leave a level out
    #[arg(long, default_value = "euler")]
    sampler: Sampler,
    /// How much of the picture is made anew, 0 to 1
    #[arg(long, default_value_t = 1.0)]
    denoise: f64,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let model = ModelSampling::eps(Betas::STABLE_DIFFUSION)?;
    let chosen: Vec<Scheduler> = match arguments.scheduler {
        Some(scheduler) => vec![scheduler],
        None => Scheduler::names().map(str::parse).collect::<Result<_>>()?,
    };
    let (mut schedules, mut refused) = (serde_json::Map::new(), None);
    for scheduler in chosen {
        let whole = KSampler::new(0, arguments.steps, 1.0, arguments.sampler.clone(), scheduler);
        let run = KSampler { denoise: arguments.denoise, ..whole };
        // Of all schedules, some have nothing to say to this number of steps.
        let plan = match run.plan(&model) {
            Ok(plan) => plan,
            Err(error) => {
                if arguments.scheduler.is_none() {
                    eprintln!("note: no {scheduler}: {error}");
                }
                refused = Some(error);
                continue;
            }
        };
        let sigmas = plan.map_or(Vec::new(), |plan| plan.sigmas().to_vec());
        if let Format::Text = arguments.format {
            let levels: Vec<String> = sigmas.iter().map(f32::to_string).collect();
            say(format_args!("{scheduler:<16} {}", levels.join(" ")));
        }
        schedules.insert(scheduler.name().to_owned(), sigmas.into());
    }
    if let Some(error) = refused.filter(|_| schedules.is_empty()) {
        return Err(error);
    }
    if let Format::Json = arguments.format {
        say(serde_json::Value::Object(schedules));
    }
    Ok(())
}
