//! Noise against PyTorch, numpy, torchsde and ComfyUI, and the properties that no golden file can show.

mod support;

use half::{bf16, f16};
use noisefork::rng::{BrownianNoise, BrownianTree, Mt19937, Philox, SeedSequence, Topology, prepare_noise};
use proptest::prelude::*;
use support::compare::{assert_close, max_abs};
use support::golden::{Case, Golden};
use support::report::report;

/// The references' own vectorised log and cos differ by this much between machines.
const TOLERANCE: f64 = 2e-6;

/// Runs `check`, which returns its worst error, on the cases; says how many there were; fails if there were none.
fn run<'a>(kind: &str, cases: impl IntoIterator<Item = Case<'a>>, check: impl Fn(&Case) -> f64) {
    let errors: Vec<f64> = cases.into_iter().map(|case| check(&case)).collect();
    report(format!(
        "noise: {} {kind} cases, worst error {:e}",
        errors.len(),
        errors.iter().fold(0.0, |a, b| b.max(a))
    ));
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

#[test]
fn brownian_noise_with_a_seed_per_item_matches_k_diffusion() {
    run("brownian_batched", Golden::open("noise").cases_of("brownian_batched"), |case| {
        let seeds = case.seeds("seeds");
        let elements = case.tensor("w0").data().len();
        let mut source = brownian_noise(case, &seeds, elements / seeds.len());
        // The file does not say which steps were taken.
        let steps = [[14.6, 5.0], [5.0, 0.03]];
        let queries = steps.into_iter().enumerate().map(|(k, [sigma, sigma_next])| {
            let mut got = vec![f32::NAN; elements];
            source.noise(sigma, sigma_next, &mut got).unwrap();
            check_close(&format!("w{k} of {case}"), &got, case.tensor(&format!("w{k}")).data())
        });
        queries.fold(0.0, f64::max)
    });
}

fn increment(tree: &mut BrownianTree, ta: f64, tb: f64, elements: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; elements];
    tree.increment(ta, tb, &mut out).unwrap();
    out
}

/// Times in [0, 15], and any order to visit the intervals between them in.
fn splits() -> impl Strategy<Value = (Vec<f64>, Vec<usize>)> {
    prop::collection::vec(0.0..15.0f64, 1..8).prop_flat_map(|mut times| {
        times.extend([0.0, 15.0]);
        times.sort_by(f64::total_cmp);
        let order: Vec<usize> = (0..times.len() - 1).collect();
        (Just(times), Just(order).prop_shuffle())
    })
}

/// Any `f32`, with the awkward ones as likely as the rest.
fn any_sigma() -> impl Strategy<Value = f32> {
    const AWKWARD: [f32; 8] = [
        f32::NAN,
        f32::INFINITY,
        -0.0,
        f32::from_bits(1),
        f32::MIN_POSITIVE,
        f32::MAX,
        1.0,
        1.0 + f32::EPSILON,
    ];
    prop_oneof![any::<f32>(), prop::sample::select(&AWKWARD[..]), -1.0..20.0f32]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn increments_add_up_in_any_order(seed: u64, elements in 1..70usize, (times, order) in splits()) {
        let mut tree = BrownianTree::new(seed, elements, 0.0, 15.0).unwrap();
        let mut sum = vec![0.0f32; elements];
        for i in order {
            let part = increment(&mut tree, times[i], times[i + 1], elements);
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        // Some 25 levels, each rounded at the scale of sqrt(15).
        assert_close("sum of increments", &sum, &increment(&mut tree, 0.0, 15.0, elements), 1e-5);
    }

    #[test]
    fn an_increment_does_not_depend_on_other_queries(
        seed: u64,
        elements in prop_oneof![1..70usize, 2040..2070usize, 4090..4120usize],
        (ta, tb) in (0.0..15.0f64, 0.0..15.0f64),
        others in prop::collection::vec((0.0..15.0f64, 0.0..15.0f64), 0..5),
    ) {
        let mut tree = BrownianTree::new(seed, elements, 0.0, 15.0).unwrap();
        let fresh = increment(&mut tree.clone(), ta, tb, elements);
        for (ta, tb) in others {
            increment(&mut tree, ta, tb, elements);
        }
        let later = increment(&mut tree, ta, tb, elements);
        let backward = increment(&mut tree, tb, ta, elements);
        prop_assert_eq!(&later, &fresh);
        prop_assert_eq!(backward, fresh.iter().map(|w| -w).collect::<Vec<_>>());
    }

    #[test]
    fn an_item_is_what_its_own_seed_gives(seeds in prop::collection::vec(any::<u64>(), 1..4), elements in 1..40usize) {
        let mut together = vec![f32::NAN; seeds.len() * elements];
        BrownianNoise::batched(&seeds, elements, 0.03, 14.6).unwrap().noise(7.0, 2.5, &mut together).unwrap();
        for (&seed, item) in seeds.iter().zip(together.chunks(elements)) {
            let mut alone = vec![f32::NAN; elements];
            BrownianNoise::new(seed, elements, 0.03, 14.6).unwrap().noise(7.0, 2.5, &mut alone).unwrap();
            prop_assert_eq!(item, alone);
        }
    }

    #[test]
    fn hostile_sigmas_give_an_error_or_finite_noise(
        (min, max) in (any_sigma(), any_sigma()),
        steps in prop::collection::vec((any_sigma(), any_sigma()), 1..8),
    ) {
        if let Ok(mut source) = BrownianNoise::new(1, 20, min, max) {
            prop_assert!(min <= max);
            for (sigma, sigma_next) in steps {
                let mut out = [0.0; 20];
                if source.noise(sigma, sigma_next, &mut out).is_ok() {
                    prop_assert!(out.iter().all(|v| v.is_finite()), "{sigma} to {sigma_next}");
                }
            }
        }
    }

    #[test]
    fn a_clone_continues_the_stream(seed: u64, before in 0..40usize, after in 0..40usize) {
        let mut generator = Mt19937::new(seed);
        randn(&mut generator, before);
        let mut snapshot = generator.clone();
        prop_assert_eq!(randn(&mut snapshot, after), randn(&mut generator, after));
    }
}

#[test]
fn refusals_are_typed() {
    use noisefork::error::Error;
    for (t0, t1) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (0.0, 1.1e6)] {
        assert!(matches!(BrownianTree::new(0, 4, t0, t1), Err(Error::Value { .. })), "[{t0}, {t1}]");
    }
    let mut tree = BrownianTree::new(0, 4, 0.0, 1.0).unwrap();
    assert!(matches!(tree.increment(f64::NAN, 1.0, &mut [0.0; 4]), Err(Error::Value { .. })));
    assert!(matches!(tree.increment(0.0, 1.0, &mut [0.0; 3]), Err(Error::Shape { .. })));
    let mut source = BrownianNoise::new(0, 4, 0.03, 14.6).unwrap();
    for (sigma, sigma_next) in [(1.0, 1.0), (20.0, 15.0), (0.02, 0.0), (1.0, 1.0 + f32::EPSILON)] {
        let refusal = source.noise(sigma, sigma_next, &mut [0.0; 4]);
        assert!(matches!(refusal, Err(Error::Value { .. })), "{sigma} to {sigma_next}");
    }
    assert!(matches!(source.noise(2.0, 1.0, &mut [0.0; 5]), Err(Error::Shape { .. })));
    assert!(matches!(
        BrownianNoise::batched(&[], 4, 0.0, 1.0).unwrap().noise(1.0, 0.0, &mut [0.0]),
        Err(Error::Shape { .. })
    ));
    for (batch_index, elements) in [(&[][..], 4), (&[0, 1, 2], 4), (&[usize::MAX], 4)] {
        let refusal = prepare_noise(0, batch_index, &mut vec![0.0; elements]);
        assert!(matches!(refusal, Err(Error::Value { .. })), "{batch_index:?}");
    }
}

#[test]
fn a_run_of_one_step_has_a_path_of_no_length() {
    let mut tree = BrownianTree::new(3, 20, 14.6, 14.6).unwrap();
    assert_eq!(increment(&mut tree, 14.6, 0.0, 20), [0.0; 20]);
}

#[test]
fn the_deepest_interval_is_found_in_the_widest_range() {
    let mut tree = BrownianTree::new(3, 20, -1e6, 1e6).unwrap();
    for ta in [-1e6, 0.0, 0.333_333, 777_777.777_777, 1e6 - 1e-6] {
        let w = increment(&mut tree, ta, ta + 1e-6, 20);
        assert!(w.iter().all(|w| w.is_finite()) && w.iter().any(|&w| w != 0.0), "{ta}");
    }
}

fn assert_standard_normal(what: &str, values: &[f32]) {
    let n = values.len() as f64;
    let moment = |power| values.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / n;
    // Five standard errors each: Var(x) = 1, Var(x^2) = 2, Var(x^3) = 15, Var(x^4) = 96.
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
        let error = (moment(power) - expected).abs();
        assert!(error < 5.0 * (variance / n).sqrt(), "{what}: moment {power} is off by {error}");
    }
}

#[test]
fn noise_is_standard_normal() {
    assert_standard_normal("randn", &randn(&mut Mt19937::new(2), 1_000_000));
    let mut generator = Mt19937::new(3);
    let few: Vec<f32> = (0..100_000).flat_map(|_| randn(&mut generator, 10)).collect();
    assert_standard_normal("randn of 10", &few);
    let mut noise = vec![f32::NAN; 1_000_000];
    BrownianNoise::new(4, noise.len(), 0.03, 14.6).unwrap().noise(6.0, 4.5, &mut noise).unwrap();
    assert_standard_normal("brownian noise", &noise);
}

fn cuda_randn(seed: u64, topology: Topology, elements: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; elements];
    Philox::new(seed, topology).randn(&mut out).unwrap();
    out
}

/// What torch prints has four digits after the point, and a GPU's fast sine and cosine err in the fifth.
const PRINTED: f64 = 1.2e-4;

/// AUTOMATIC1111's `rng_philox.py` says what a GPU draws under seed 0: the first 12 values, from an emulation in `f64`.
#[test]
fn cuda_randn_of_few_values_is_what_a1111_expects() {
    let want = [
        -0.924_662_6,
        -0.425_344_15,
        -2.643_845_8,
        0.145_183_88,
        -0.120_866_47,
        -0.579_725_6,
        -0.622_851_2,
        -0.328_387_1,
        -1.074_542_3,
        -0.363_144_07,
        -1.671_050_7,
        2.265_505,
    ];
    check_close("seed 0", &cuda_randn(0, Topology::T4, 12), &want);
}

/// github.com/pytorch/pytorch/issues/143086: the ends of 9,483,264 values on an H100 and an A100.
#[test]
fn cuda_randn_of_many_values_is_what_h100_and_a100_printed() {
    let gpus = [(Topology::H100, [-0.6970, -0.7780, 0.3267]), (Topology::A100, [0.1549, -0.6797, -0.1656])];
    for (topology, last) in gpus {
        let got = cuda_randn(1, topology, 49 * 12 * 112 * 144);
        assert_close("first", &got[..3], &[-0.2963, 2.6764, -0.1408], PRINTED);
        assert_close("last", &got[got.len() - 3..], &last, PRINTED);
    }
}

/// github.com/pytorch/pytorch/issues/158398: rows of 64 x 2048 values on an RTX 3060.
#[test]
fn cuda_randn_is_what_an_rtx_3060_printed() {
    let got = cuda_randn(42, Topology::new(28, 1536).unwrap(), 64 * 2048);
    let rows: [(usize, [f32; 6]); 6] = [
        (0, [0.1940, 2.1614, -0.1721, 1.4540, -2.7733, -0.8932]),
        (1, [-0.4574, 0.8063, 0.1580, 0.1124, 0.2769, -1.2535]),
        (2, [1.1346, -0.6329, -0.9147, -1.0001, -1.1552, -0.6955]),
        (61, [-0.4861, 0.3358, 1.0578, -0.7282, 0.5087, 0.1318]),
        (62, [0.7881, 0.8339, -1.1424, -0.6297, -1.1112, -0.4091]),
        (63, [-1.2356, -0.4083, -0.4695, -0.4841, 1.2850, -0.0282]),
    ];
    for (row, want) in rows {
        let values = &got[row * 2048..][..2048];
        assert_close(&format!("row {row}"), &[&values[..3], &values[2045..]].concat(), &want, PRINTED);
    }
}

/// github.com/pytorch/pytorch/issues/97097: rows of 1000 x 100 values of mean 5 and variance 5 on an RTX A4000.
#[test]
fn cuda_randn_is_what_an_rtx_a4000_printed() {
    let got = cuda_randn(14, Topology::new(48, 1536).unwrap(), 1000 * 100);
    let rows: [(usize, [f32; 6]); 6] = [
        (0, [2.8731, 5.2727, 2.9889, 1.6853, 9.6331, 6.6319]),
        (1, [3.9968, 3.8097, 5.7328, 4.4029, 3.9804, 7.4698]),
        (2, [6.5552, 4.0857, 4.2315, 2.7704, 3.5479, 3.3063]),
        (997, [8.6297, 2.3137, 6.2596, 7.9358, 4.4697, 2.7475]),
        (998, [7.0551, 7.8583, 3.9990, 4.1139, 8.9315, 4.2042]),
        (999, [2.7337, 2.2106, 7.7815, 8.2207, 6.5395, 4.2604]),
    ];
    for (row, want) in rows {
        let values = &got[row * 100..][..100];
        let got: Vec<f32> =
            [&values[..3], &values[97..]].concat().iter().map(|z| 5.0 + 5f32.sqrt() * z).collect();
        assert_close(&format!("row {row}"), &got, &want, 3.0 * PRINTED);
    }
}

/// github.com/kapilsh/cuda-mode-lecture prints draws of 80, 10 and 80 values in a row under seed 0, some of them here.
#[test]
fn cuda_draws_in_a_row_are_what_was_printed() {
    let mut generator = Philox::new(0, Topology::T4);
    let mut draw = |elements| {
        let mut out = vec![f32::NAN; elements];
        generator.randn(&mut out).unwrap();
        out
    };
    let first = [0.6852, -0.4124, -0.6738, -0.5404, 0.6898, -1.5517, 0.3805, -0.0436, 0.3597, -0.5043];
    assert_close("first draw", &draw(80)[70..], &first, PRINTED);
    let second = [0.1808, -0.5523, 0.9238, -0.7350, 1.3800, 0.8676, 0.1297, -0.9406, 0.8109, 0.8821];
    assert_close("second draw", &draw(10), &second, PRINTED);
    let third = [2.5441, -0.7163, -0.4934, 0.1267, 0.1014, -0.4035, 0.9023, 0.8099, -0.6884, 0.1372];
    assert_close("third draw", &draw(80)[..10], &third, PRINTED);
}
