//! Every spelling that the name parser owes an answer, by the system that uses it.

use noisefork::error::Error;
use noisefork::sampling::{Sampler, Scheduler, names};

/// A spelling, ComfyUI's sampler, and the schedule if the spelling says one.
type Row = (&'static str, &'static str, Option<&'static str>);

const AUTOMATIC1111: &[Row] = &[
    ("Euler", "euler", None),
    ("Euler a", "euler_ancestral", None),
    ("Euler CFG++", "euler_cfg_pp", None),
    ("Euler a CFG++", "euler_ancestral_cfg_pp", None),
    ("Euler a Karras", "euler_ancestral", Some("karras")),
    ("LMS", "lms", None),
    ("LMS Karras", "lms", Some("karras")),
    ("Heun", "heun", None),
    ("HeunPP2", "heunpp2", None),
    ("DPM2", "dpm_2", None),
    ("DPM2 Karras", "dpm_2", Some("karras")),
    ("DPM2 a", "dpm_2_ancestral", None),
    ("DPM2 a Karras", "dpm_2_ancestral", Some("karras")),
    ("DPM fast", "dpm_fast", None),
    ("DPM adaptive", "dpm_adaptive", None),
    ("DPM++ 2S a", "dpmpp_2s_ancestral", None),
    ("DPM++ 2S a Karras", "dpmpp_2s_ancestral", Some("karras")),
    ("DPM++ 2S a CFG++", "dpmpp_2s_ancestral_cfg_pp", None),
    ("DPM++ SDE", "dpmpp_sde", None),
    ("DPM++ SDE Karras", "dpmpp_sde", Some("karras")),
    ("DPM++ 2M", "dpmpp_2m", None),
    ("DPM++ 2M Karras", "dpmpp_2m", Some("karras")),
    ("DPM++ 2M SGM Uniform", "dpmpp_2m", Some("sgm_uniform")),
    ("DPM++ 2M Align Your Steps", "dpmpp_2m", Some("align_your_steps")),
    ("DPM++ 2M SDE", "dpmpp_2m_sde", None),
    ("DPM++ 2M SDE Karras", "dpmpp_2m_sde", Some("karras")),
    ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", Some("exponential")),
    ("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun", None),
    ("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", Some("karras")),
    ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", Some("exponential")),
    ("DPM++ 3M SDE", "dpmpp_3m_sde", None),
    ("DPM++ 3M SDE Karras", "dpmpp_3m_sde", Some("karras")),
    ("DPM++ 3M SDE Exponential", "dpmpp_3m_sde", Some("exponential")),
    ("DDIM", "ddim", None),
    ("DDPM", "ddpm", None),
    ("UniPC", "uni_pc", None),
    ("LCM", "lcm", None),
    ("DEIS", "deis", None),
    ("k_euler_a", "euler_ancestral", None),
    ("k_lms_ka", "lms", Some("karras")),
    ("k_dpm_ad", "dpm_adaptive", None),
    ("k_dpm_2_a_ka", "dpm_2_ancestral", Some("karras")),
    ("k_dpmpp_2m_sde_exp", "dpmpp_2m_sde", Some("exponential")),
];

const DIFFUSERS: &[Row] = &[
    ("EulerDiscreteScheduler", "euler", None),
    ("EulerDiscreteScheduler(use_karras_sigmas=True)", "euler", Some("karras")),
    ("EulerDiscreteScheduler(use_exponential_sigmas=True)", "euler", Some("exponential")),
    ("EulerDiscreteScheduler(use_beta_sigmas=True)", "euler", Some("beta")),
    ("EulerDiscreteScheduler(timestep_spacing=\"trailing\")", "euler", Some("simple")),
    ("EulerDiscreteScheduler(timestep_spacing=\"leading\")", "euler", Some("ddim_uniform")),
    ("EulerDiscreteScheduler(timestep_spacing=\"linspace\")", "euler", Some("normal")),
    ("EDMEulerScheduler", "euler", None),
    ("FlowMatchEulerDiscreteScheduler", "euler", None),
    ("EulerAncestralDiscreteScheduler", "euler_ancestral", None),
    ("HeunDiscreteScheduler", "heun", None),
    ("FlowMatchHeunDiscreteScheduler", "heun", None),
    ("KDPM2DiscreteScheduler", "dpm_2", None),
    ("KDPM2DiscreteScheduler(use_karras_sigmas=True)", "dpm_2", Some("karras")),
    ("KDPM2AncestralDiscreteScheduler", "dpm_2_ancestral", None),
    ("LMSDiscreteScheduler(use_karras_sigmas=True)", "lms", Some("karras")),
    ("LMSDiscreteScheduler", "lms", None),
    ("DPMSolverSDEScheduler", "dpmpp_sde", None),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", None),
    ("DPMSolverMultistepScheduler(use_karras_sigmas=False)", "dpmpp_2m", None),
    ("DPMSolverMultistepScheduler(algorithm_type='dpmsolver++')", "dpmpp_2m", None),
    ("DPMSolverMultistepScheduler(use_karras_sigmas=True)", "dpmpp_2m", Some("karras")),
    ("DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++')", "dpmpp_2m_sde", None),
    (
        "DPMSolverMultistepScheduler(use_karras_sigmas=True, algorithm_type='sde-dpmsolver++')",
        "dpmpp_2m_sde",
        Some("karras"),
    ),
    (
        "DPMSolverMultistepScheduler(solver_type='midpoint', algorithm_type='sde-dpmsolver++')",
        "dpmpp_2m_sde",
        None,
    ),
    (
        "DPMSolverMultistepScheduler(solver_type='heun', algorithm_type='sde-dpmsolver++')",
        "dpmpp_2m_sde_heun",
        None,
    ),
    ("DPMSolverMultistepScheduler(solver_order=3, algorithm_type='sde-dpmsolver++')", "dpmpp_3m_sde", None),
    ("EDMDPMSolverMultistepScheduler", "dpmpp_2m", None),
    ("UniPCMultistepScheduler", "uni_pc_bh2", None),
    ("UniPCMultistepScheduler(solver_type='bh1')", "uni_pc", None),
    ("UniPCMultistepScheduler(solver_type='bh2')", "uni_pc_bh2", None),
    ("DEISMultistepScheduler", "deis", None),
    ("IPNDMScheduler", "ipndm", None),
    ("SASolverScheduler", "sa_solver", None),
    ("LCMScheduler", "lcm", None),
    ("FlowMatchLCMScheduler", "lcm", None),
    ("DDIMScheduler", "ddim", None),
    ("DDPMScheduler", "ddpm", None),
];

const STABLE_DIFFUSION_CPP: &[Row] = &[
    ("euler", "euler", None),
    ("euler_a", "euler_ancestral", None),
    ("euler_cfg_pp", "euler_cfg_pp", None),
    ("euler_a_cfg_pp", "euler_ancestral_cfg_pp", None),
    ("euler_ge", "gradient_estimation", None),
    ("heun", "heun", None),
    ("dpm2", "dpm_2", None),
    ("dpm++2s_a", "dpmpp_2s_ancestral", None),
    ("dpm++2m", "dpmpp_2m", None),
    ("dpm++2mv2", "dpmpp_2m", None),
    ("dpm++2m_sde", "dpmpp_2m_sde", None),
    ("dpm++2m_sde_bt", "dpmpp_2m_sde", None),
    ("ipndm", "ipndm", None),
    ("ipndm_v", "ipndm_v", None),
    ("lcm", "lcm", None),
    ("lms", "lms", None),
    ("ddim_trailing", "ddim", Some("simple")),
    ("res_multistep", "res_multistep", None),
    ("er_sde", "er_sde", None),
];

const INVOKE_AI: &[Row] = &[
    ("ddim", "ddim", None),
    ("ddpm", "ddpm", None),
    ("deis", "deis", None),
    ("deis_k", "deis", Some("karras")),
    ("lms", "lms", None),
    ("lms_k", "lms", Some("karras")),
    ("heun", "heun", None),
    ("heun_k", "heun", Some("karras")),
    ("euler", "euler", None),
    ("euler_k", "euler", Some("karras")),
    ("euler_a", "euler_ancestral", None),
    ("kdpm_2", "dpm_2", None),
    ("kdpm_2_k", "dpm_2", Some("karras")),
    ("kdpm_2_a", "dpm_2_ancestral", None),
    ("kdpm_2_a_k", "dpm_2_ancestral", Some("karras")),
    ("dpmpp_2m", "dpmpp_2m", None),
    ("dpmpp_2m_k", "dpmpp_2m", Some("karras")),
    ("dpmpp_2m_sde", "dpmpp_2m_sde", None),
    ("dpmpp_2m_sde_k", "dpmpp_2m_sde", Some("karras")),
    ("dpmpp_sde", "dpmpp_sde", None),
    ("dpmpp_sde_k", "dpmpp_sde", Some("karras")),
    ("unipc", "uni_pc", None),
    ("unipc_k", "uni_pc", Some("karras")),
    ("lcm", "lcm", None),
];

const K_DIFFUSION: &[Row] = &[
    ("sample_euler", "euler", None),
    ("sample_euler_ancestral", "euler_ancestral", None),
    ("sample_heun", "heun", None),
    ("sample_dpm_2", "dpm_2", None),
    ("sample_dpmpp_2m", "dpmpp_2m", None),
    ("sample_dpmpp_2m_sde", "dpmpp_2m_sde", None),
];

#[test]
fn samplers_of_every_system() {
    let mut ran = 0;
    for rows in [AUTOMATIC1111, DIFFUSERS, STABLE_DIFFUSION_CPP, INVOKE_AI, K_DIFFUSION] {
        for &(spelling, sampler, scheduler) in rows {
            let (got, got_scheduler) = names::sampler(spelling).unwrap();
            let got_scheduler = got_scheduler.map(|scheduler| scheduler.name());
            assert_eq!((got, got_scheduler), (sampler, scheduler), "{spelling}");
            ran += 1;
        }
    }
    println!("names: {ran} spellings of samplers");
    assert_eq!(ran, 130);
}

#[test]
fn own_names_mean_themselves_with_any_schedule() {
    for name in Sampler::names() {
        assert_eq!(names::sampler(name).unwrap(), (name, None));
        for scheduler in Scheduler::names() {
            let spelling = format!("{name} {scheduler}");
            let (sampler, parsed) = names::sampler(&spelling).unwrap();
            assert_eq!((sampler, parsed.unwrap().name()), (name, scheduler), "{spelling}");
        }
    }
}

#[test]
fn a_sampler_is_parsed_from_any_spelling_without_a_schedule() {
    assert_eq!("Euler a".parse::<Sampler>().unwrap().name(), "euler_ancestral");
    let refused = "DPM++ 2M Karras".parse::<Sampler>();
    assert!(matches!(refused, Err(Error::Value { what: "name", .. })), "{refused:?}");
}

#[test]
fn schedules_of_every_system() {
    for name in Scheduler::names() {
        assert_eq!(name.parse::<Scheduler>().unwrap().name(), name);
    }
    for (spelling, want) in [
        ("Karras", "karras"),
        ("Exponential", "exponential"),
        ("Polyexponential", "polyexponential"),
        ("SGM Uniform", "sgm_uniform"),
        ("SGMUniform", "sgm_uniform"),
        ("KL Optimal", "kl_optimal"),
        ("Align Your Steps", "align_your_steps"),
        ("Simple", "simple"),
        ("Normal", "normal"),
        ("Uniform", "normal"),
        ("DDIM", "ddim_uniform"),
        ("Beta", "beta"),
        ("ka", "karras"),
        ("k", "karras"),
        ("exp", "exponential"),
        ("discrete", "normal"),
        ("trailing", "simple"),
        ("ays", "align_your_steps"),
        ("gits", "gits"),
        ("bong_tangent", "bong_tangent"),
        ("AlignYourSteps", "align_your_steps"),
        ("SDTurbo", "sd_turbo"),
        ("use_karras_sigmas=True", "karras"),
        ("use_exponential_sigmas=True", "exponential"),
        ("use_beta_sigmas=True", "beta"),
        ("timestep_spacing=linspace", "normal"),
        ("timestep_spacing=leading", "ddim_uniform"),
        ("timestep_spacing=trailing", "simple"),
    ] {
        assert_eq!(spelling.parse::<Scheduler>().unwrap().name(), want, "{spelling}");
    }
}

#[test]
fn what_has_no_equal_is_not_known() {
    let unknown = [
        "",
        "karras",
        "Restart",
        "PNDMScheduler",
        "tcd",
        "euler b",
        "(",
        "++",
        "Ж",
        "eulerkarraskarras",
        "DPMSolverMultistepScheduler(use_lu_lambdas=True)",
        "DPMSolverMultistepScheduler(use_karras_sigmas=True, use_beta_sigmas=True)",
    ];
    for spelling in unknown {
        let refused = names::sampler(spelling);
        assert!(
            matches!(refused, Err(Error::UnknownName { kind: "sampler", .. })),
            "{spelling}: {refused:?}"
        );
    }
    for spelling in ["", "automatic", "euler", "k_karras"] {
        let refused = names::scheduler(spelling);
        assert!(
            matches!(refused, Err(Error::UnknownName { kind: "scheduler", .. })),
            "{spelling}: {refused:?}"
        );
    }
    let Err(Error::UnknownName { nearest, .. }) = names::sampler("eulr") else {
        panic!("eulr is no sampler")
    };
    assert_eq!(nearest[0], "euler");
}
