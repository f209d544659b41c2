//! What noise owes its users whatever a reference says: the same bits on every machine and any number of threads.

use noisefork::rng::{BrownianNoise, Mt19937};

/// FNV-1a over the bits of the values.
fn digest(values: &[f32]) -> u64 {
    values
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn randn_digest() -> u64 {
    let mut generator = Mt19937::new(0x1234_5678_9abc);
    let mut all = Vec::new();
    for elements in [4, 16, 17, 1000, 623, 624, 100_003, 7, 16_384] {
        let mut out = vec![0.0; elements];
        generator.randn(&mut out);
        all.extend(out);
    }
    digest(&all)
}

fn brownian_digest(elements: usize, seeds: &[u64]) -> u64 {
    let mut noise = BrownianNoise::batched(seeds, elements, 0.029, 14.6).unwrap();
    let mut all = Vec::new();
    for (sigma, sigma_next) in [(14.6, 11.0), (11.0, 7.5), (7.5, 7.4), (3.0, 1.0), (14.6, 11.0), (0.5, 0.0)] {
        let mut out = vec![0.0; seeds.len() * elements];
        noise.noise(sigma, sigma_next, &mut out).unwrap();
        all.extend(out);
    }
    digest(&all)
}

#[test]
fn bits_are_the_same_everywhere() {
    assert_eq!(randn_digest(), 12_915_530_858_072_252_509);
    let brownian = [
        (5, 1_653_280_728_499_972_873),
        (16, 14_364_738_092_139_940_665),
        (1000, 1_363_793_656_365_423_380),
        (16_384, 13_339_192_849_076_722_514),
        (40_007, 4_447_331_346_371_184_865),
    ];
    for (elements, digest) in brownian {
        assert_eq!(brownian_digest(elements, &[3, 1 << 40]), digest, "{elements} elements");
    }
}
