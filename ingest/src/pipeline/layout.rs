//! How a new dataset is laid into folders where nobody says so.

use std::path::Path;

use super::Options;
use crate::encode::ROW_GROUP_ROWS;
use crate::error::IngestError;
use crate::manifest::PartitionKey;
use crate::source::Recording;
use crate::spill::Room;
use crate::survey::{Survey, survey_with};

/// Processes that always get folders of their own: so few small files cost nobody anything.
const FEW: u64 = 256;
/// Processes that never do. Each is a folder to list, and a file a slice in every manifest (some 2 KB).
const MANY: u64 = 4096;

/// Uid, pid and slice; without pid where that would make more small files than is sane.
///
/// A slice is some 120 MB, so folders of processes make files smaller than the 100 MB to 1 GB that would be best; they
/// pay because who asks for one process reads its files alone. But a file has some 10 KB of footer and dictionaries,
/// and row groups that are not full compress less: with less than one row group a process (131,072 references, about
/// 1 MB) that is more than a hundredth of all bytes, and statistics of row groups find a process as well.
pub(super) fn chosen(processes: u64, refs: u64) -> Vec<PartitionKey> {
    let each = refs / processes.max(1);
    let by_pid = processes <= FEW || processes <= MANY && each >= ROW_GROUP_ROWS as u64;
    let keys = [PartitionKey::Uid, PartitionKey::Pid, PartitionKey::Slice];
    keys.into_iter()
        .filter(|key| *key != PartitionKey::Pid || by_pid)
        .collect()
}

/// What the recordings ask for: one that has too many processes is enough. The reading of a lone recording is given
/// back, for it need not be read again.
pub(super) fn choose(
    recordings: &[Recording],
    folder: Option<&Path>,
    options: &Options,
    read: &(dyn Fn(u64) + Sync),
) -> Result<(Vec<PartitionKey>, Option<Survey>), IngestError> {
    let room = Room::of(folder, options.memory);
    let (mut layout, mut lone) = (chosen(0, 0), None);
    for recording in recordings {
        let survey = survey_with(recording, &[], &room, read)?;
        let asked = chosen(survey.names.processes.len() as u64, survey.facts.refs);
        if asked.len() < layout.len() {
            layout = asked;
        }
        lone = (recordings.len() == 1).then_some(survey);
    }
    Ok((layout, lone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_is_left_out_where_files_would_be_many_and_small() {
        let by_pid = |processes, refs| chosen(processes, refs).contains(&PartitionKey::Pid);
        let group = ROW_GROUP_ROWS as u64;
        for (processes, refs, expected) in [
            (0, 0, true),
            (FEW, 1, true),
            (FEW + 1, 1_000_000, false),
            (FEW + 1, (FEW + 1) * group - 1, false),
            (FEW + 1, (FEW + 1) * group, true),
            (MANY, MANY * group, true),
            (MANY + 1, u64::MAX, false),
        ] {
            assert_eq!(by_pid(processes, refs), expected, "{processes}, {refs}");
            let keys = chosen(processes, refs);
            assert!(keys.starts_with(&[PartitionKey::Uid]));
            assert!(keys.ends_with(&[PartitionKey::Slice]));
        }
    }
}
