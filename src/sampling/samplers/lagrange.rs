//! Integrals of the polynomial through known points: what linear multistep methods are made of.

/// The weights `w` with `sum of w_j f(node_j) = L(f)` for every polynomial `f` of a degree below the number of nodes,
/// where `L(u^k)` is `moments[k]`. Nodes differ.
pub(super) fn weights(nodes: &[f64], moments: &[f64]) -> Vec<f64> {
    let basis = |node: f64| {
        let others = nodes.iter().filter(move |&&other| other != node);
        others.fold(vec![1.0], move |polynomial, &other| times_root(&polynomial, other, node - other))
    };
    nodes.iter().map(|&node| basis(node).iter().zip(moments).map(|(c, moment)| c * moment).sum()).collect()
}

/// The coefficients of `polynomial(u) (u - root) / scale`, lowest first.
fn times_root(polynomial: &[f64], root: f64, scale: f64) -> Vec<f64> {
    let mut product = vec![0.0; polynomial.len() + 1];
    for (power, c) in polynomial.iter().enumerate() {
        product[power] -= c * root / scale;
        product[power + 1] += c / scale;
    }
    product
}

/// Adams and Bashforth: the weights of the slopes at `history`, newest first, in the step from `history[0]` to `next`.
pub(super) fn adams_bashforth(history: &[f64], next: f64) -> Vec<f64> {
    let step = next - history[0];
    // In units of the step, which keeps the polynomials' coefficients near 1.
    let nodes: Vec<f64> = history.iter().map(|level| (level - history[0]) / step).collect();
    let moments: Vec<f64> = (1..=nodes.len()).map(|power| step / power as f64).collect();
    weights(&nodes, &moments)
}
