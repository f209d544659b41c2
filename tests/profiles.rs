//! Whose noise a run has: what each profile says of itself, held to.

use noisefork::error::Error;
use noisefork::rng::{BrownianNoise, CounterStream, Mt19937, Normals, Philox, Topology};
use noisefork::sampling::samplers::NoiseKind;
use noisefork::sampling::{A1111Source, Profile};

const SIGMAS: [f32; 4] = [14.6, 5.0, 1.0, 0.0];
const ITEMS: usize = 3;
const ITEM: usize = 64;

fn profile(name: &str) -> Profile {
    name.parse().unwrap()
}

/// The initial noise of a batch, then that of two steps of a sampler of this kind.
fn draws(profile: Profile, seed: u64, kind: NoiseKind) -> [Vec<f32>; 3] {
    let mut noise = profile.noise(seed);
    let mut out = [const { Vec::new() }; 3].map(|_: Vec<f32>| vec![0.0; ITEMS * ITEM]);
    noise.initial(ITEM, None, &mut out[0]).unwrap();
    let mut steps = noise.steps(kind, &SIGMAS, ITEMS, ITEM).unwrap();
    steps.draw(14.6, 5.0, &mut out[1]).unwrap();
    steps.draw(5.0, 1.0, &mut out[2]).unwrap();
    out
}

fn torch(generator: &mut Mt19937, values: usize) -> Vec<f32> {
    let mut out = vec![0.0; values];
    generator.randn(&mut out);
    out
}

#[test]
fn names_come_back() {
    let ensd = ["a1111-nv+31337", "a1111-t4+1", "a1111-224-blocks", "a1111-224-blocks+7"].map(str::to_owned);
    for name in Profile::names().chain(ensd) {
        assert_eq!(profile(&name).to_string(), name);
        let json = serde_json::to_string(&profile(&name)).unwrap();
        assert_eq!(json, format!("{name:?}"));
        assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile(&name));
    }
    for wrong in [
        "",
        "comfyui",
        "a1111",
        "a1111-",
        "a1111-gtx",
        "a1111-cpu+",
        "a1111-cpu+x",
        "counter+1",
        "a1111-0-blocks",
    ] {
        let refused = wrong.parse::<Profile>();
        assert!(matches!(refused, Err(Error::UnknownName { kind: "profile", .. })), "{wrong}: {refused:?}");
    }
}

#[test]
fn a_batch_index_of_another_length_is_refused() {
    let noises = ["comfyui-0.3.64", "comfyui-post-11528", "a1111-cpu", "a1111-nv", "counter"];
    for name in noises {
        for index in [&[][..], &[0], &[0, 1, 2]] {
            let refused = profile(name).noise(1).initial(4, Some(index), &mut [0.0; 8]);
            let Err(Error::Value { what: "batch_index", expected, got, .. }) = refused else {
                panic!("{name}: {refused:?}")
            };
            assert_eq!((expected.as_str(), got), ("2 indices", index.len().to_string()), "{name}");
        }
        assert_eq!(profile(name).noise(1).initial(4, Some(&[0, 1]), &mut [0.0; 8]), Ok(()), "{name}");
    }
}

/// All of k-diffusion's noise comes from one generator: what it starts from, then each step's, or a path's seed.
#[test]
fn k_diffusion_draws_from_one_generator() {
    let mut generator = Mt19937::new(5);
    let one_after_the_other = [0, 1, 2].map(|_| torch(&mut generator, ITEMS * ITEM));
    assert_eq!(draws(profile("k-diffusion"), 5, NoiseKind::Gaussian), one_after_the_other);

    let mut generator = Mt19937::new(5);
    let initial = torch(&mut generator, ITEMS * ITEM);
    let seed = generator.next_u64() % (i64::MAX as u64);
    let mut path = BrownianNoise::new(seed, ITEMS * ITEM, 1.0, 14.6).unwrap();
    let [first, step, _] = draws(profile("k-diffusion"), 5, NoiseKind::Brownian);
    let mut expected = vec![0.0; ITEMS * ITEM];
    path.noise(14.6, 5.0, &mut expected).unwrap();
    assert_eq!((first, step), (initial, expected));

    let refused = profile("k-diffusion").noise(1).initial(ITEM, Some(&[1]), &mut [0.0; ITEM]);
    assert!(matches!(refused, Err(Error::Value { what: "batch_index", .. })));
}

/// Each of A1111's items is that of a batch of one under its own seed.
#[test]
fn a1111_seeds_each_item() {
    for name in ["a1111-cpu", "a1111-nv", "a1111-t4", "a1111-h100", "a1111-cpu+31337", "a1111-nv+31337"] {
        for kind in [NoiseKind::Gaussian, NoiseKind::Brownian] {
            let batch = draws(profile(name), 9, kind);
            for item in 0..ITEMS {
                let alone = draws(profile(name), 9 + item as u64, kind);
                for (batch, alone) in batch.iter().zip(&alone) {
                    assert_eq!(batch[item * ITEM..][..ITEM], alone[..ITEM], "{name}, {kind:?}, item {item}");
                }
            }
        }
    }
    let mut generator = Mt19937::new(9);
    let [initial, first, second] = draws(profile("a1111-cpu"), 9, NoiseKind::Gaussian);
    for drawn in [initial, first, second] {
        assert_eq!(drawn[..ITEM], torch(&mut generator, ITEM));
    }
    let [_, first, _] = draws(profile("a1111-cpu+31337"), 9, NoiseKind::Gaussian);
    assert_eq!(first[..ITEM], torch(&mut Mt19937::new(9 + 31337), ITEM));
}

/// A GPU's noise is NV's as long as all of a draw's threads run at once: up to 40,960 values on a T4.
#[test]
fn a1111_nv_is_a_gpu_without_bounds() {
    let first = |name: &str, values: usize| {
        let mut out = vec![0.0; values];
        profile(name).noise(3).initial(values, None, &mut out).unwrap();
        out
    };
    assert_eq!(first("a1111-nv", 40_960), first("a1111-t4", 40_960));
    assert_ne!(first("a1111-nv", 40_961), first("a1111-t4", 40_961));
    assert_eq!(first("a1111-nv", 40_961), first("a1111-h100", 40_961));

    let mut out = vec![0.0; ITEM];
    Philox::new(3, Topology::RTX_4090).randn(&mut out).unwrap();
    let source = A1111Source::Gpu(Topology::RTX_4090);
    let mut drawn = vec![0.0; ITEM];
    Profile::A1111 { source, ensd: 0 }.noise(3).initial(ITEM, None, &mut drawn).unwrap();
    assert_eq!(drawn, out);
}

/// Noise by address: an item's is the same in any batch, and a batch index chooses freely.
#[test]
fn counter_noise_is_found_by_its_place() {
    let [initial, first, second] = draws(profile("counter"), 7, NoiseKind::Gaussian);
    let stream = CounterStream::new(7);
    for (draw, drawn) in [initial.clone(), first, second].iter().enumerate() {
        for item in 0..ITEMS {
            let mut alone = vec![0.0; ITEM];
            stream.randn(item as u32, draw as u32, 0, &mut alone);
            assert_eq!(drawn[item * ITEM..][..ITEM], alone, "draw {draw}, item {item}");
        }
    }
    let mut chosen = vec![0.0; ITEM];
    profile("counter").noise(7).initial(ITEM, Some(&[2]), &mut chosen).unwrap();
    assert_eq!(chosen, initial[2 * ITEM..]);

    let [_, step, _] = draws(profile("counter"), 7, NoiseKind::Brownian);
    let mut path = BrownianNoise::with_normals(Normals::Counter, &[7, 8, 9], ITEM, 1.0, 14.6).unwrap();
    let mut expected = vec![0.0; ITEMS * ITEM];
    path.noise(14.6, 5.0, &mut expected).unwrap();
    assert_eq!(step, expected);
}

/// Where a source stands can be written down and read, whoever's it is.
#[test]
fn every_source_goes_on_from_its_state() {
    for name in Profile::names() {
        for kind in [NoiseKind::Gaussian, NoiseKind::Continued, NoiseKind::Brownian] {
            let mut noise = profile(&name).noise(11);
            noise.initial(ITEM, None, &mut vec![0.0; ITEMS * ITEM]).unwrap();
            let mut steps = noise.steps(kind, &SIGMAS, ITEMS, ITEM).unwrap();
            let mut out = vec![0.0; ITEMS * ITEM];
            steps.draw(14.6, 5.0, &mut out).unwrap();
            let state = serde_json::to_string(&steps.state().unwrap()).unwrap();
            let state: noisefork::sampling::NoiseState = serde_json::from_str(&state).unwrap();
            let mut resumed = state.source(ITEMS * ITEM).unwrap();
            let mut again = out.clone();
            steps.draw(5.0, 1.0, &mut out).unwrap();
            resumed.draw(5.0, 1.0, &mut again).unwrap();
            assert_eq!(out, again, "{name}, {kind:?}");
        }
    }
}
