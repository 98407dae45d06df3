//! 2005-style v0 entries: see `pgtrace_capture::wire::v0`.

use std::io::{BufReader, Read};
use std::path::Path;

use pgtrace_capture::wire::v0::{Decoder, Layout};

use super::error::SourceError;
use super::kind::{Input, Sample};
use super::scribe::Scribe;

/// The layout that fits all whole entries at the beginning of a file, or what was found instead.
fn sniff(sample: &Sample) -> Result<Layout, String> {
    let judge = |layout: Layout| {
        let (good, all) = layout.plausible(&sample.head);
        (layout.name(), good, all, layout)
    };
    let judged = Layout::ALL.map(judge);
    let fits = judged.iter().filter(|j| j.1 == j.2 && j.2 > 0);
    match fits.collect::<Vec<_>>().as_slice() {
        [only] => Ok(only.3),
        [] => {
            let each = judged.map(|(name, good, all, _)| format!("{good} of {all} as {name}"));
            Err(format!(
                "entries that make sense: {} (say it with --from, if it is one of them nevertheless)",
                each.join(", ")
            ))
        }
        several => {
            let names: Vec<_> = several.iter().map(|j| j.0).collect();
            Err(format!(
                "entries that make sense as {} (say it with --from)",
                names.join(" and as ")
            ))
        }
    }
}

/// Whether a file looks like v0 entries of `layout`; of any one, if it is `None`.
pub(super) fn looks_like(sample: &Sample, layout: Option<Layout>) -> bool {
    sniff(sample).is_ok_and(|found| layout.is_none_or(|l| l == found))
}

/// Name of the layout of a file whose user did not say it.
pub(super) fn which(sample: &Sample, path: &Path) -> Result<&'static str, SourceError> {
    let found = sniff(sample).map_err(|found| {
        SourceError::format(path, "v0 entries that make sense in one layout", found)
    });
    found.map(Layout::name)
}

/// Translates the entries of a file. A bad one costs itself only: all have the same size.
pub(super) fn translate(layout: Layout, input: Input, to: &mut Scribe) -> Result<(), SourceError> {
    let mut from = BufReader::with_capacity(1 << 16, input.file);
    let mut decoder = Decoder::new(layout);
    let (mut names, mut entry) = (Vec::new(), Vec::new());
    let whole = layout.entry_len() as u64;
    let mut at = 0_u64;
    loop {
        entry.clear();
        let read = from.by_ref().take(whole).read_to_end(&mut entry);
        read.map_err(|e| SourceError::io(&input.path, e))?;
        if entry.is_empty() {
            return Ok(());
        }
        match decoder.entry(&entry, &mut names) {
            Ok(r) => {
                for name in names.drain(..) {
                    to.name(name)?;
                }
                to.reference(r)?;
            }
            // Without the file's name: it is not content.
            Err(fault) => to.unread((entry.len() as u64) < whole, || {
                format!("byte {at}: {fault}")
            }),
        }
        at += entry.len() as u64;
    }
}
