//! Noise against PyTorch, numpy, torchsde and ComfyUI, and the properties that no golden file can show.

mod support;

use half::{bf16, f16};
use noisefork::rng::{BrownianNoise, BrownianTree, Mt19937, SeedSequence, prepare_noise};
use proptest::prelude::*;
use support::compare::{assert_close, max_abs};
use support::golden::{Case, Golden};

/// The references' own vectorised log and cos differ by this much between machines.
const TOLERANCE: f64 = 2e-6;

/// Runs `check`, which returns its worst error, on the cases; says how many there were; fails if there were none.
fn run<'a>(kind: &str, cases: impl IntoIterator<Item = Case<'a>>, check: impl Fn(&Case) -> f64) {
    let errors: Vec<f64> = cases.into_iter().map(|case| check(&case)).collect();
    println!(
        "noise: {} {kind} cases, worst error {:e}",
        errors.len(),
        errors.iter().fold(0.0, |a, b| b.max(a))
    );
    assert!(!errors.is_empty(), "no {kind} cases");
}

fn randn(generator: &mut Mt19937, elements: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; elements];
    generator.randn(&mut out);
    out
}

fn check_close(what: &str, got: &[f32], want: &[f32]) -> f64 {
    assert_close(what, got, want, TOLERANCE);
    max_abs(got, want)
}

fn halves_of(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

#[test]
fn randn_matches_torch() {
    let golden = Golden::open("noise");
    let cases = golden.cases_of("randn").into_iter().filter(|case| !case.has("dtype"));
    run("randn f32", cases, |case| {
        let want = case.tensor("x");
        let got = randn(&mut Mt19937::new(case.seed("seed")), want.data().len());
        check_close(&case.to_string(), &got, want.data())
    });
}

#[test]
fn randn_in_half_precision_is_torchs_to_the_bit() {
    let golden = Golden::open("noise");
    let cases = golden.cases_of("randn").into_iter().filter(|case| case.has("dtype"));
    run("randn f16 and bf16", cases, |case| {
        let want = case.tensor("x");
        let mut generator = Mt19937::new(case.seed("seed"));
        let got: Vec<f32> = match case.str("dtype") {
            "float16" => {
                let mut out = vec![f16::NAN; want.data().len()];
                generator.randn_as(&mut out);
                out.iter().map(|v| v.to_f32()).collect()
            }
            "bfloat16" => {
                let mut out = vec![bf16::NAN; want.data().len()];
                generator.randn_as(&mut out);
                out.iter().map(|v| v.to_f32()).collect()
            }
            other => panic!("{other}"),
        };
        assert_close(&case.to_string(), &got, want.data(), 0.0);
        max_abs(&got, want.data())
    });
}

#[test]
fn draws_in_a_row_match_torch() {
    run("randn_stream", Golden::open("noise").cases_of("randn_stream"), |case| {
        let mut generator = Mt19937::new(case.seed("seed"));
        let draws = (0..case.list("shapes").len()).map(|draw| {
            let want = case.tensor(&format!("x{draw}"));
            let got = randn(&mut generator, want.data().len());
            check_close(&format!("draw {draw} of {case}"), &got, want.data())
        });
        draws.fold(0.0, f64::max)
    });
}

#[test]
fn prepare_noise_matches_comfyui() {
    run("prepare_noise", Golden::open("noise").cases_of("prepare_noise"), |case| {
        let want = case.tensor("x");
        let mut got = vec![f32::NAN; want.data().len()];
        prepare_noise(case.seed("seed"), &case.usizes("batch_index"), &mut got).unwrap();
        check_close(&case.to_string(), &got, want.data())
    });
}

#[test]
fn seed_sequences_are_numpys_to_the_bit() {
    run("seed_sequence", Golden::open("noise").cases_of("seed_sequence"), |case| {
        let words = |field: &str| {
            case.i64s(field).into_iter().map(|word| u32::try_from(word).unwrap()).collect::<Vec<_>>()
        };
        let mut sequence = SeedSequence::new(&halves_of(case.seed("entropy")));
        assert_eq!(sequence.generate_state::<8>().as_slice(), words("state"), "{case}");
        for (index, child) in sequence.spawn(3).iter().enumerate() {
            assert_eq!(child.generate_state::<4>().as_slice(), words(&format!("child{index}")), "{case}");
        }
        0.0
    });
}

fn brownian_noise(case: &Case, seeds: &[u64], elements: usize) -> BrownianNoise {
    let (min, max) = (case.f64("sigma_min") as f32, case.f64("sigma_max") as f32);
    BrownianNoise::batched(seeds, elements, min, max).unwrap()
}

#[test]
fn brownian_noise_matches_k_diffusion() {
    run("brownian_tree", Golden::open("noise").cases_of("brownian_tree"), |case| {
        let elements = case.usizes("shape").iter().product();
        let mut source = brownian_noise(case, &[case.seed("seed")], elements);
        let sigmas = case.tensor("sigmas");
        let along = sigmas.data().array_windows().enumerate().map(|(k, &ends)| (format!("w{k}"), ends));
        let mid = case.list("mid").iter().enumerate().map(|(k, ends)| {
            (format!("m{k}"), [ends[0].as_f64().unwrap() as f32, ends[1].as_f64().unwrap() as f32])
        });
        let queries = along.chain(mid).map(|(field, [sigma, sigma_next])| {
            let want = case.tensor(&field);
            let mut got = vec![f32::NAN; elements];
            source.noise(sigma, sigma_next, &mut got).unwrap();
            check_close(&format!("{field} of {case}"), &got, want.data())
        });
        queries.fold(0.0, f64::max)
    });
}
