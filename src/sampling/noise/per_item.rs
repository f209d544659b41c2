use super::{NoiseSource, NoiseState};
use crate::error::Result;
use crate::rng::Draw;

/// A source for each item of a batch, so that no item's noise depends on the others.
struct PerItem {
    sources: Vec<Box<dyn NoiseSource>>,
}

/// The sources of the items of a batch as one.
pub(crate) fn per_item(sources: Vec<Box<dyn NoiseSource>>) -> Box<dyn NoiseSource> {
    Box::new(PerItem { sources })
}

impl NoiseSource for PerItem {
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()> {
        let item = out.len() / self.sources.len().max(1);
        let items = out.chunks_exact_mut(item.max(1));
        self.sources.iter_mut().zip(items).try_for_each(|(source, out)| source.draw(sigma, sigma_next, out))
    }

    fn has_addresses(&self) -> bool {
        self.sources.iter().all(|source| source.has_addresses())
    }

    fn draws(&mut self, sigma: f64, sigma_next: f64, values: usize) -> Result<Vec<Draw>> {
        let item = values / self.sources.len().max(1);
        let each = self.sources.iter_mut().map(|source| source.draws(sigma, sigma_next, item));
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    }

    fn state(&self) -> Option<NoiseState> {
        self.sources.iter().map(|source| source.state()).collect::<Option<_>>().map(NoiseState::PerItem)
    }
}
