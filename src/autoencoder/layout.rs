use crate::nn::Weights;

/// The files of an autoencoder in the original layout, and what the names begin with when they are together in one.
pub(super) const PARTS: [&str; 2] = ["taesd_encoder", "taesd_decoder"];

/// What files call the tensors that go by diffusers' names here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    /// As in diffusers.
    Diffusers,
    /// As in TAESD's own files, the halves under these names. The decoder's first layer there, which squeezes latents
    /// and has no weights, is none in diffusers.
    Original([&'static str; 2]),
}

impl Layout {
    /// The layout of a file; diffusers' if it has none that is known.
    pub fn of(weights: &Weights) -> Self {
        let original = |[encoder, decoder]: &[&str; 2]| {
            weights.contains(&format!("{encoder}.0.weight"))
                || weights.contains(&format!("{decoder}.1.weight"))
        };
        let found = [PARTS, ["encoder", "decoder"]].into_iter().find(original);
        found.map_or(Layout::Diffusers, Layout::Original)
    }

    /// The file's name of the tensor that diffusers calls `name`.
    pub fn in_file(self, name: &str) -> String {
        let Layout::Original([encoder, decoder]) = self else { return name.to_owned() };
        let layer = |half: &str| {
            let (number, rest) = name.strip_prefix(half)?.strip_prefix(".layers.")?.split_once('.')?;
            Some((number.parse::<usize>().ok()?, rest))
        };
        match (layer("encoder"), layer("decoder")) {
            (Some((number, rest)), _) => format!("{encoder}.{number}.{rest}"),
            (_, Some((number, rest))) => format!("{decoder}.{}.{rest}", number + 1),
            _ => name.to_owned(),
        }
    }
}
