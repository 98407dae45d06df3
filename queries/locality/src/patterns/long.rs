use super::streams::classify;
use super::{Settings, Touch, Verdict};

#[derive(Debug)]
pub(super) struct Long {
    settings: Settings,
    touches: Vec<Touch>,
}
impl Long {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            touches: Vec::new(),
        }
    }
    pub(super) fn push(&mut self, touch: &Touch) {
        self.touches.push(*touch);
    }
    pub(super) fn refs(&self) -> u64 {
        self.touches.len() as u64
    }
    pub(super) fn finish(self) -> Verdict {
        classify(&self.touches, &self.settings)
    }
}
