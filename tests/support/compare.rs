//! Distances between values, and assertions on them that NaN and wrong lengths fail.

/// The largest absolute difference; NaN if any difference is NaN, infinite if the lengths differ.
pub fn max_abs(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    worst(got, want).map_or(0.0, |(_, error)| error)
}

/// |got - want| / |want| in the Euclidean norm; not finite, or NaN, for lengths that differ, for NaN, and for
/// a `want` of zeros that `got` misses.
pub fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(want).map(|(&g, &w)| f64::from(g) - f64::from(w)));
    let size = norm(&mut want.iter().map(|&w| f64::from(w)));
    if error == 0.0 { 0.0 } else { error / size }
}

/// Fails unless every value lies within `tolerance` of its counterpart; says where it is worst.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: wrong length");
    if let Some((at, error)) = worst(got, want)
        && (error.is_nan() || error > tolerance)
    {
        panic!(
            "{what}: off by {error:e} (allowed {tolerance:e}) at {at}: got {}, want {}",
            got[at], want[at]
        );
    }
}

/// Fails unless [`relative_l2`] is at most `tolerance`; says where the absolute error is worst.
#[track_caller]
pub fn assert_close_l2(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: wrong length");
    let error = relative_l2(got, want);
    if let Some((at, _)) = worst(got, want)
        && (error.is_nan() || error > tolerance)
    {
        panic!(
            "{what}: relative L2 error {error:e} (allowed {tolerance:e}), worst at {at}: got {}, want {}",
            got[at], want[at]
        );
    }
}

/// Where the absolute difference is largest, and how large. NaN counts as the largest.
fn worst(got: &[f32], want: &[f32]) -> Option<(usize, f64)> {
    let difference = |(&got, &want): (&f32, &f32)| (f64::from(got) - f64::from(want)).abs();
    got.iter().zip(want).map(difference).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
}

mod tests {
    use super::*;
    use std::panic::catch_unwind;

    fn fails(got: &[f32], want: &[f32]) -> bool {
        let absolute = catch_unwind(|| assert_close("test", got, want, 1e-3)).is_err();
        let l2 = catch_unwind(|| assert_close_l2("test", got, want, 1e-3)).is_err();
        assert_eq!(absolute, l2);
        absolute
    }

    #[test]
    fn equal_and_close_values_pass() {
        assert!(!fails(&[], &[]));
        assert!(!fails(&[0.0, -1.0], &[0.0, -1.0]));
        assert!(!fails(&[1.0001], &[1.0]));
    }

    #[test]
    fn nan_fails_on_either_side() {
        assert!(fails(&[1.0, f32::NAN, 2.0], &[1.0, 1.0, 2.0]));
        assert!(fails(&[1.0, 1.0, 2.0], &[1.0, f32::NAN, 2.0]));
        assert!(fails(&[f32::NAN], &[f32::NAN]));
        assert!(max_abs(&[1.0, f32::NAN], &[1.0, 1.0]).is_nan());
        assert!(relative_l2(&[1.0, 1.0], &[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn infinity_fails() {
        assert!(fails(&[f32::INFINITY], &[1.0]));
        assert!(fails(&[f32::INFINITY], &[f32::INFINITY]));
    }

    #[test]
    fn wrong_length_fails() {
        assert!(fails(&[1.0], &[1.0, 1.0]));
        assert!(fails(&[], &[1.0]));
        assert_eq!(max_abs(&[1.0], &[]), f64::INFINITY);
        assert_eq!(relative_l2(&[1.0], &[]), f64::INFINITY);
    }

    #[test]
    fn missing_an_expected_zero_fails() {
        assert!(fails(&[0.0, 0.5], &[0.0, 0.0]));
        assert_eq!(relative_l2(&[0.5], &[0.0]), f64::INFINITY);
    }

    #[test]
    fn the_worst_coordinate_is_reported() {
        let report = catch_unwind(|| assert_close("noise", &[0.0, 3.0, 1.0], &[0.0, 1.0, 1.5], 0.1));
        let message = report.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("at 1: got 3, want 1"), "{message}");
    }
}
