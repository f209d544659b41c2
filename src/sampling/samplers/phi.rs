/// `phi_k(z) = integral over [0, 1] of exp((1 - v) z) v^(k-1) / (k-1)! dv` of exponential integrators, `k` at least 1:
/// `phi_1 = (exp(z) - 1) / z`, `phi_(k+1) = (phi_k - 1/k!) / z` (Hochbruck & Ostermann 2010).
pub(super) fn phi(k: u32, z: f64) -> f64 {
    if z.abs() < 1.0 {
        return series(k, z);
    }
    let mut reciprocal_factorial = 1.0;
    (1..k).fold(z.exp_m1() / z, |phi, order| {
        reciprocal_factorial /= f64::from(order);
        (phi - reciprocal_factorial) / z
    })
}

/// `sum of z^n / (n + k)!`, where the recursion would cancel.
fn series(k: u32, z: f64) -> f64 {
    const TERMS: u32 = 20;
    let first = (1..=k).fold(1.0, |product, factor| product / f64::from(factor));
    let mut term = first;
    (1..TERMS).fold(first, |sum, n| {
        term *= z / f64::from(n + k);
        sum + term
    })
}
