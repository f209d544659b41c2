/// Splits a step from `sigma` to `sigma_next` into a deterministic one down to the first level returned and the noise
/// that leads back up, of the second (Song et al. 2020, arXiv 2011.13456, in the form of k-diffusion). `eta` is the share
/// of the noise: 0 for none, 1 for all of an ancestral step's.
pub(super) fn ancestral_step(sigma: f64, sigma_next: f64, eta: f64) -> (f64, f64) {
    let (from, to) = (sigma * sigma, sigma_next * sigma_next);
    let up = (eta * (to * (from - to) / from).sqrt()).min(sigma_next);
    ((to - up * up).sqrt(), up)
}
