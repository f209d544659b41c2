use super::launch::{self, Launcher};
use super::{Cuda, DeviceTensor};
use crate::error::Result;
use crate::tensor::Element;

/// What a device launched for some work, as a graph, and where the inputs lay.
pub struct Tape<L: Launcher>(Option<(Vec<u64>, L::Graph)>);

impl<L: Launcher> Default for Tape<L> {
    fn default() -> Self {
        Tape(None)
    }
}

impl<L: Launcher> Tape<L> {
    /// Replays `work`, which is captured first unless it was with the same inputs.
    pub(super) fn play<'a, E: Element + 'a>(
        &mut self,
        cuda: &Cuda<L, E>,
        inputs: impl Iterator<Item = &'a DeviceTensor<L, E>> + Clone,
        work: impl FnOnce(&Cuda<L, E>) -> Result<()>,
    ) -> Result<()>
    where
        L: 'a,
    {
        let places = inputs.map(DeviceTensor::pointer);
        let (_, graph) = match self.0.take() {
            Some(recorded) if places.clone().eq(recorded.0.iter().copied()) => self.0.insert(recorded),
            _ => {
                // Its own count of launches: these are not made yet.
                let recorder = cuda.with_pool(cuda.pool.clone());
                let graph = cuda.launcher.capture(|| work(&recorder))?;
                self.0.insert((places.collect(), graph))
            }
        };
        cuda.count();
        launch::replay(&*cuda.launcher, graph)
    }
}
