/// What an operation applies to its result before writing it, elementwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// `y`
    #[default]
    Identity,
    /// `max(y, 0)`
    Relu,
    /// `y / (1 + exp(-y))`
    Silu,
    /// The gated linear unit of GEGLU (Shazeer 2020, arXiv 2002.05202): of each row's `2C` values the first `C` times
    /// `gelu` of the last `C`, with `gelu(g) = g/2 (1 + erf(g / sqrt 2))`. Halves the channels; [`super::Linear`] only.
    Geglu,
}
