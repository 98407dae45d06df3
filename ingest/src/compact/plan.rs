//! Which files are merged: those that are small, stand side by side, and make fewer.

use std::collections::BTreeMap;

use crate::manifest::{FileEntry, Manifest};
use crate::schema::Table;

/// Files that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) table: Table,
    /// Where the new file goes.
    pub(super) folder: String,
    /// The capture of all rows; empty: several.
    pub(super) capture_id: String,
    /// At least two; those of `refs` in order of `seq`, which do not overlap.
    pub(super) inputs: Vec<FileEntry>,
    /// References that the capture lost, for the footer.
    pub(super) lost: u64,
}

/// All merges worth doing. A file is small below half of `target`; up to `target` are merged, so
/// that of two merged files that follow each other at most one is small, and all is done once.
pub(super) fn plan(manifest: &Manifest, target: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    for table in Table::ALL {
        let files = manifest.files(table);
        let groups = match table {
            Table::Refs => chains(files, target),
            // Their rows are in no order that anybody relies on, so captures may meet in a file.
            _ => {
                let small = files.iter().filter(|f| is_small(f, target));
                vec![small.cloned().collect()]
            }
        };
        let packed = groups.into_iter().flat_map(|group| pack(group, target));
        jobs.extend(packed.filter(|inputs| inputs.len() > 1).map(|inputs| {
            let capture_id = one_capture(&inputs);
            let of = |id: &str| manifest.capture(id).map_or(0, |c| c.lost);
            let lost = of(&capture_id);
            let folder = match table {
                Table::Refs => inputs.first().and_then(|f| parent(&f.path)),
                _ => None,
            };
            Job {
                table,
                folder: folder.unwrap_or(table.name()).to_string(),
                capture_id,
                inputs,
                lost,
            }
        }));
    }
    jobs
}

fn is_small(file: &FileEntry, target: u64) -> bool {
    file.bytes < target / 2
}

fn parent(path: &str) -> Option<&str> {
    Some(path.rsplit_once('/')?.0)
}

/// The capture that all files are of; empty: there are several.
fn one_capture(files: &[FileEntry]) -> String {
    match files {
        [first, rest @ ..] if rest.iter().all(|f| f.capture_id == first.capture_id) => {
            first.capture_id.clone()
        }
        _ => String::new(),
    }
}

/// Small files of `refs` of one capture in one folder that follow each other in `seq`: nothing
/// that stays stands between them, so the merged file overlaps no more than they did.
fn chains(files: &[FileEntry], target: u64) -> Vec<Vec<FileEntry>> {
    let mut places: BTreeMap<(&str, &str), Vec<&FileEntry>> = BTreeMap::new();
    for file in files {
        let folder = parent(&file.path).unwrap_or_default();
        let place = places.entry((folder, &file.capture_id)).or_default();
        place.push(file);
    }
    let mut chains = Vec::new();
    for files in places.values_mut() {
        files.sort_by_key(|f| f.seq.map(|s| (s.min, s.max)));
        let mut chain: Vec<FileEntry> = Vec::new();
        let mut end = None;
        for file in files.iter() {
            let follows = file.seq.is_some_and(|s| end.is_none_or(|end| s.min > end));
            let small = is_small(file, target) && file.seq.is_some();
            if !(follows && small) {
                chains.push(std::mem::take(&mut chain));
            }
            if small {
                chain.push((*file).clone());
            }
            end = end.max(file.seq.map(|s| s.max));
        }
        chains.push(chain);
    }
    chains
}

/// Cuts a group into stretches of at most `target` bytes.
fn pack(group: Vec<FileEntry>, target: u64) -> Vec<Vec<FileEntry>> {
    let mut packed: Vec<Vec<FileEntry>> = Vec::new();
    let mut bytes = 0;
    for file in group {
        match packed.last_mut() {
            Some(last) if bytes + file.bytes <= target => {
                bytes += file.bytes;
                last.push(file);
            }
            _ => {
                bytes = file.bytes;
                packed.push(vec![file]);
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{PartitionKey, Span};

    fn file(path: &str, bytes: u64, capture: &str, seq: Option<(u64, u64)>) -> FileEntry {
        FileEntry {
            path: path.into(),
            bytes,
            rows: 1,
            capture_id: capture.into(),
            seq: seq.map(|(min, max)| Span { min, max }),
            ts: None,
            uid: None,
            pid: None,
            objects: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Names of the inputs of each job, target 100.
    fn planned(table: Table, files: Vec<FileEntry>) -> Vec<(String, String, Vec<String>)> {
        let mut manifest = Manifest::new(vec![PartitionKey::Pid], 10);
        manifest.tables.insert(table, files);
        let names = |job: &Job| {
            let name = |f: &FileEntry| f.path.rsplit('/').next().map(str::to_string);
            job.inputs.iter().filter_map(name).collect::<Vec<_>>()
        };
        let jobs = plan(&manifest, 100);
        jobs.iter()
            .map(|j| (j.folder.clone(), j.capture_id.clone(), names(j)))
            .collect()
    }

    #[test]
    fn neighbours_of_one_capture_in_one_folder() {
        let refs = vec![
            file("refs/pid=1/c", 30, "x", Some((20, 29))),
            file("refs/pid=1/a", 30, "x", Some((0, 9))),
            file("refs/pid=1/b", 30, "x", Some((10, 19))),
            file("refs/pid=1/other", 1, "y", Some((0, 9))),
            file("refs/pid=2/alone", 1, "x", Some((30, 39))),
        ];
        let expected = [(
            "refs/pid=1".into(),
            "x".into(),
            vec!["a".into(), "b".into(), "c".into()],
        )];
        assert_eq!(planned(Table::Refs, refs), expected);
    }

    #[test]
    fn large_files_and_overlaps_end_a_chain() {
        let refs = vec![
            file("refs/a", 10, "x", Some((0, 9))),
            file("refs/b", 10, "x", Some((10, 19))),
            file("refs/large", 50, "x", Some((20, 29))),
            file("refs/c", 10, "x", Some((30, 60))),
            file("refs/inside", 10, "x", Some((40, 45))),
            file("refs/within", 10, "x", Some((50, 55))),
            file("refs/d", 10, "x", Some((61, 70))),
            file("refs/unknown", 10, "x", None),
        ];
        let jobs = planned(Table::Refs, refs);
        let names: Vec<Vec<String>> = jobs.into_iter().map(|j| j.2).collect();
        // `inside` and `within` lie in `c`: each starts a chain anew.
        assert_eq!(names, [vec!["a", "b"], vec!["within", "d"]]);
    }

    #[test]
    fn up_to_the_target_and_done_once() {
        let refs = (0..7).map(|i| file(&format!("refs/{i}"), 40, "x", Some((i, i))));
        let jobs = planned(Table::Refs, refs.collect());
        assert_eq!(
            jobs.iter().map(|j| j.2.len()).collect::<Vec<_>>(),
            [2, 2, 2]
        );
        // What comes of it: 80, 80, 80, 40.
        let refs = (0..4).map(|i| {
            file(
                &format!("refs/{i}"),
                [80, 80, 80, 40][i as usize],
                "x",
                Some((i, i)),
            )
        });
        assert!(planned(Table::Refs, refs.collect()).is_empty());
    }

    #[test]
    fn small_tables_of_several_captures_become_one() {
        let files = |b| {
            vec![
                file("objects/a", 10, "x", None),
                file("objects/b", 10, b, None),
            ]
        };
        assert_eq!(planned(Table::Objects, files("y"))[0].1, "");
        assert_eq!(planned(Table::Objects, files("x"))[0].1, "x");
        assert_eq!(planned(Table::Objects, files("x"))[0].0, "objects");
        assert!(planned(Table::Objects, files("y")[..1].to_vec()).is_empty());
    }
}
