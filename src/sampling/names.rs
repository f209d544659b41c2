//! Names as other systems spell them: one table from each spelling to ComfyUI's names.
//!
//! Case, spaces and punctuation do not matter, and `++` is `pp`, so `DPM++ 2M SDE` needs no entry. A schedule may follow a
//! sampler's name (`DPM++ 2M Karras`, `dpmpp_2m_k`) or be one of the flags of a diffusers class, which are given in
//! parentheses as in Python: `DPMSolverMultistepScheduler(use_karras_sigmas=True)`. Samplers without a
//! counterpart in ComfyUI, such as `PNDMScheduler` and `tcd`, are not known; a variant of one that it has means that one.

use std::collections::BTreeSet;

use serde_json::Map;

use super::{Sampler, Scheduler};
use crate::error::{Error, Result};

/// Spellings of samplers that differ from ComfyUI's name by more than case and punctuation.
const SAMPLERS: &[(&str, &str)] = &[
    // AUTOMATIC1111, stable-diffusion.cpp and InvokeAI; the last writes KDPM where the others write DPM.
    ("Euler a", "euler_ancestral"),
    ("Euler a CFG++", "euler_ancestral_cfg_pp"),
    ("DPM2 a", "dpm_2_ancestral"),
    ("DPM++ 2S a", "dpmpp_2s_ancestral"),
    ("DPM++ 2S a CFG++", "dpmpp_2s_ancestral_cfg_pp"),
    ("DPM ad", "dpm_adaptive"),
    // A variant of 2M that no other system has.
    ("dpm++2mv2", "dpmpp_2m"),
    ("dpm++2m_sde_bt", "dpmpp_2m_sde"),
    ("euler_ge", "gradient_estimation"),
    // diffusers.
    ("EulerDiscreteScheduler", "euler"),
    ("EDMEulerScheduler", "euler"),
    ("FlowMatchEulerDiscreteScheduler", "euler"),
    ("EulerAncestralDiscreteScheduler", "euler_ancestral"),
    ("HeunDiscreteScheduler", "heun"),
    ("FlowMatchHeunDiscreteScheduler", "heun"),
    ("KDPM2DiscreteScheduler", "dpm_2"),
    ("KDPM2AncestralDiscreteScheduler", "dpm_2_ancestral"),
    ("LMSDiscreteScheduler", "lms"),
    ("DPMSolverSDEScheduler", "dpmpp_sde"),
    ("DPMSolverMultistepScheduler", "dpmpp_2m"),
    ("DPMSolverMultistepScheduler(algorithm_type=dpmsolver++)", "dpmpp_2m"),
    ("EDMDPMSolverMultistepScheduler", "dpmpp_2m"),
    ("DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++)", "dpmpp_2m_sde"),
    ("DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++, solver_type=midpoint)", "dpmpp_2m_sde"),
    ("DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++, solver_type=heun)", "dpmpp_2m_sde_heun"),
    ("DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++, solver_order=3)", "dpmpp_3m_sde"),
    ("UniPCMultistepScheduler", "uni_pc_bh2"),
    ("UniPCMultistepScheduler(solver_type=bh2)", "uni_pc_bh2"),
    ("UniPCMultistepScheduler(solver_type=bh1)", "uni_pc"),
    ("DEISMultistepScheduler", "deis"),
    ("IPNDMScheduler", "ipndm"),
    ("SASolverScheduler", "sa_solver"),
    ("LCMScheduler", "lcm"),
    ("FlowMatchLCMScheduler", "lcm"),
    ("DDIMScheduler", "ddim"),
    ("DDPMScheduler", "ddpm"),
];

/// Spellings of schedules that differ from ComfyUI's name by more than case and punctuation.
const SCHEDULERS: &[(&str, &str)] = &[
    // AUTOMATIC1111 and InvokeAI.
    ("ka", "karras"),
    ("k", "karras"),
    ("exp", "exponential"),
    ("Uniform", "normal"),
    ("DDIM", "ddim_uniform"),
    // stable-diffusion.cpp.
    ("discrete", "normal"),
    ("ays", "align_your_steps"),
    ("trailing", "simple"),
    // diffusers.
    ("use_karras_sigmas=True", "karras"),
    ("use_exponential_sigmas=True", "exponential"),
    ("use_beta_sigmas=True", "beta"),
    ("timestep_spacing=linspace", "normal"),
    ("timestep_spacing=leading", "ddim_uniform"),
    ("timestep_spacing=trailing", "simple"),
];

/// What a name of k-diffusion's functions, or of AUTOMATIC1111's aliases of them, starts with.
const PREFIXES: &[&str] = &["sample", "k"];

/// The name of the sampler that `spelling` means, and the schedule if it says one.
///
/// # Errors
/// [`Error::UnknownName`] for a spelling that is in no list.
pub fn sampler(spelling: &str) -> Result<(&'static str, Option<Scheduler>)> {
    let unknown = || Error::unknown_name("sampler", spelling, Sampler::names());
    let name = Spelling::of(spelling);
    if let Some(sampler) = known_sampler(&name) {
        return Ok((sampler, None));
    }
    let (sampler, scheduler) = flagged(&name).or_else(|| followed(&name)).ok_or_else(unknown)?;
    Ok((sampler, Some(Scheduler::with_options(scheduler, &Map::new())?)))
}

/// The schedule that `spelling` means, with the options that its name stands for.
///
/// # Errors
/// [`Error::UnknownName`] for a spelling that is in no list.
pub fn scheduler(spelling: &str) -> Result<Scheduler> {
    let found = scheduler_spellings().find(|(known, _)| *known == Spelling::of(spelling));
    let (_, name) = found.ok_or_else(|| Error::unknown_name("scheduler", spelling, Scheduler::names()))?;
    Scheduler::with_options(name, &Map::new())
}

/// A name with all that does not matter taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spelling {
    /// Letters and digits, in lower case.
    head: String,
    /// Those of the flags that are not false, which have no order.
    flags: BTreeSet<String>,
}

impl Spelling {
    fn of(name: &str) -> Self {
        let (head, flags) = name.split_once('(').unwrap_or((name, ""));
        let flags = flags.split(',').map(essence);
        let flags = flags.filter(|flag| !flag.is_empty() && !flag.ends_with("false")).collect();
        Spelling { head: essence(head), flags }
    }
}

fn essence(text: &str) -> String {
    let text = text.replace("++", "pp").to_lowercase();
    text.chars().filter(|letter| letter.is_alphanumeric()).collect()
}

fn known_sampler(name: &Spelling) -> Option<&'static str> {
    let known = |name: &Spelling| {
        let own = Sampler::names().map(|name| (name, name));
        let found = own.chain(SAMPLERS.iter().copied()).find(|(known, _)| Spelling::of(known) == *name);
        found.map(|(_, sampler)| sampler)
    };
    let without_prefix = || {
        PREFIXES.iter().find_map(|prefix| {
            let head = name.head.strip_prefix(prefix)?.to_owned();
            known(&Spelling { head, flags: name.flags.clone() })
        })
    };
    known(name).or_else(without_prefix)
}

/// A sampler one of whose flags is a schedule.
fn flagged(name: &Spelling) -> Option<(&'static str, &'static str)> {
    scheduler_spellings().find_map(|(flag, scheduler)| {
        let mut name = name.clone();
        name.flags.remove(&flag.head).then_some(())?;
        Some((known_sampler(&name)?, scheduler))
    })
}

/// A sampler with a schedule behind it.
fn followed(name: &Spelling) -> Option<(&'static str, &'static str)> {
    scheduler_spellings().find_map(|(suffix, scheduler)| {
        let head = name.head.strip_suffix(&suffix.head)?.to_owned();
        Some((known_sampler(&Spelling { head, flags: name.flags.clone() })?, scheduler))
    })
}

fn scheduler_spellings() -> impl Iterator<Item = (Spelling, &'static str)> {
    let own = Scheduler::names().map(|name| (name, name));
    own.chain(SCHEDULERS.iter().copied()).map(|(known, name)| (Spelling::of(known), name))
}
