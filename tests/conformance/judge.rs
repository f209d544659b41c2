//! Says whether a backend's values are near enough to the oracle's.

/// What a comparison is about, for the message when it fails.
pub struct Subject<'a> {
    pub case: &'a dyn std::fmt::Debug,
    pub shape: &'a [usize],
}

/// Accepts `got` if its largest error against `oracle` is at most twice that of `rival`, the plain implementation in the
/// same precision, plus `floor`, which allows for a rival that was lucky.
pub fn judge(
    subject: Subject<'_>,
    got: &[f64],
    oracle: &[f64],
    rival: &[f64],
    floor: f64,
) -> Result<(), String> {
    let Subject { case, shape } = subject;
    if got.len() != oracle.len() || rival.len() != oracle.len() {
        return Err(format!(
            "{case:?}: {} values, oracle {}, rival {}",
            got.len(),
            oracle.len(),
            rival.len()
        ));
    }
    if let Some(at) = (0..oracle.len()).find(|&at| !(oracle[at].is_finite() && rival[at].is_finite())) {
        let (at, oracle, rival) = (coordinate(shape, at), oracle[at], rival[at]);
        return Err(format!(
            "{case:?}: the oracle gives {oracle} and its rival {rival} at {at:?} of {shape:?}"
        ));
    }
    let (_, of_rival) = worst(rival, oracle);
    let (at, error) = worst(got, oracle);
    let allowed = 2.0 * of_rival + floor;
    if error <= allowed {
        return Ok(());
    }
    Err(format!(
        "{case:?}: {} instead of {} at {:?} of {shape:?}: error {error:.3e}, allowed {allowed:.3e} \
         (twice the rival's {of_rival:.3e}, plus {floor:.3e})",
        got[at],
        oracle[at],
        coordinate(shape, at),
    ))
}

/// Where the largest error is, and how large; anything not finite counts as infinitely wrong.
fn worst(values: &[f64], oracle: &[f64]) -> (usize, f64) {
    let error =
        |at: usize| if values[at].is_finite() { (values[at] - oracle[at]).abs() } else { f64::INFINITY };
    (0..oracle.len()).map(|at| (at, error(at))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
}

fn coordinate(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut coordinate: Vec<usize> = shape
        .iter()
        .rev()
        .map(|extent| {
            let index = at % extent;
            at /= extent;
            index
        })
        .collect();
    coordinate.reverse();
    coordinate
}
