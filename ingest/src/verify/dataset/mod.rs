//! The rules of a dataset.
//!
//! Each file is read once, whole, by itself; then the numbers, CPUs and times of `refs` once more, in order of `seq`, a
//! window at a time. Memory is bounded by the windows, the row groups being read, and the names of the captures.

mod file;
mod small;
mod string;

use std::collections::{BTreeMap, BTreeSet};

use object_store::ObjectMeta;
use pgtrace_capture::units::{show_bytes, show_count};
use rayon::prelude::*;
use tokio::runtime::Runtime;

use self::file::{FileRules, Reader};
use self::small::Facts;
use super::Options;
use super::report::{Rule, Subject};
use crate::dataset::{Dataset, DatasetError};
use crate::error::IngestError;
use crate::manifest::{FileEntry, ManifestError};
use crate::schema::Table;
use crate::store;

/// Memory one file takes while it is read, about: a row group, as it is stored and as columns.
const BYTES_PER_FILE: u64 = 96 << 20;

/// Checks the dataset at a folder or URL.
pub(super) fn check(
    location: &str,
    options: &Options,
    runtime: &Runtime,
) -> Result<Subject, IngestError> {
    let mut manifest = Rule::new(
        "manifest",
        "files it names, each there, once, with its size",
    );
    let dataset = match runtime.block_on(Dataset::open(location)) {
        Ok(dataset) => dataset,
        Err(
            e @ DatasetError::Manifest {
                cause: ManifestError::Damaged(_) | ManifestError::TooOld { .. },
                ..
            },
        ) => {
            manifest.violation(|| e.to_string());
            return Ok(Subject {
                title: format!("dataset {location}"),
                rules: vec![manifest],
            });
        }
        Err(e) => return Err(e.into()),
    };
    let there = runtime.block_on(list(&dataset))?;
    presence(&dataset, &there, &mut manifest);

    let fit = usize::try_from(options.memory / 2 / BYTES_PER_FILE).unwrap_or(usize::MAX);
    let cores = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, Into::into),
        threads => threads,
    };
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(cores.min(fit).max(1))
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    let mut rules = vec![manifest];
    rules.extend(threads.install(|| contents(&dataset, &there, runtime, options))?);
    let m = dataset.manifest();
    // Whatever a manifest says, it must not make us stumble.
    let files = || m.tables.values().flatten();
    let bytes = files().map(|f| f.bytes).fold(0, u64::saturating_add);
    let refs = m.files(Table::Refs).iter().map(|f| f.rows);
    Ok(Subject {
        title: format!(
            "dataset {location}: version {}, {} captures, {} rows of refs, {}",
            m.version,
            m.captures.len(),
            show_count(refs.fold(0, u64::saturating_add)),
            show_bytes(bytes)
        ),
        rules,
    })
}

/// Every file of the dataset's place, relative to it, with its size.
async fn list(dataset: &Dataset) -> Result<BTreeMap<String, u64>, IngestError> {
    let prefix = dataset.prefix();
    let whole = (!prefix.as_ref().is_empty()).then_some(prefix);
    let listed = store::list(dataset.store(), whole).await;
    let listed = listed.map_err(|cause| DatasetError::Store {
        location: dataset.location().into(),
        cause,
    })?;
    let relative = |object: ObjectMeta| {
        let parts = object.location.prefix_match(prefix)?;
        let parts: Vec<String> = parts.map(|p| p.as_ref().to_string()).collect();
        Some((parts.join("/"), object.size))
    };
    Ok(listed.into_iter().filter_map(relative).collect())
}

/// Files that the manifest names and files that are there.
fn presence(dataset: &Dataset, there: &BTreeMap<String, u64>, rule: &mut Rule) {
    let mut named = BTreeSet::new();
    for (table, file) in all_files(dataset) {
        rule.check(1);
        let path = stored(dataset, file);
        let folder = format!("{table}/");
        if !file.path.starts_with(&folder) {
            rule.violation(|| format!("{}: expected a file of {table} in {folder}", file.path));
        }
        match there.get(&path) {
            None => rule.violation(|| format!("{}: is not there", file.path)),
            Some(&bytes) if bytes != file.bytes => rule.violation(|| {
                format!(
                    "{}: expected {} bytes, found {bytes}",
                    file.path, file.bytes
                )
            }),
            Some(_) => {}
        }
        if !named.insert(path) {
            rule.violation(|| format!("{}: is named twice", file.path));
        }
    }
    // Kept for chunks that come later.
    let captures = dataset.manifest().captures.iter();
    for state in captures.filter_map(|c| c.state.as_deref()) {
        rule.check(1);
        if !there.contains_key(&stored_path(dataset, state)) {
            rule.violation(|| format!("{state}: is not there"));
        }
    }
    // What compact has replaced stays for a while.
    let retired = &dataset.manifest().retired;
    named.extend(retired.iter().map(|f| stored_path(dataset, &f.path)));
    let litter: Vec<_> = there
        .keys()
        .filter(|path| !path.starts_with("_pgtrace/") && !named.contains(*path))
        .collect();
    if let Some(first) = litter.first() {
        rule.note(format!(
            "{} files belong to no commit (a run that was killed, or is under way): {first}{}",
            show_count(litter.len() as u64),
            if litter.len() > 1 { ", .." } else { "" }
        ));
    }
}

/// Path of a file as the store lists it.
fn stored(dataset: &Dataset, file: &FileEntry) -> String {
    stored_path(dataset, &file.path)
}

fn stored_path(dataset: &Dataset, path: &str) -> String {
    let path = dataset.path(path);
    let parts = path.prefix_match(dataset.prefix());
    let parts = parts.map(|parts| parts.map(|p| p.as_ref().to_string()).collect::<Vec<_>>());
    parts.unwrap_or_default().join("/")
}

fn all_files(dataset: &Dataset) -> impl Iterator<Item = (Table, &FileEntry)> {
    let tables = dataset.manifest().tables.iter();
    tables.flat_map(|(table, files)| files.iter().map(move |f| (*table, f)))
}

/// What is in the files.
fn contents(
    dataset: &Dataset,
    there: &BTreeMap<String, u64>,
    runtime: &Runtime,
    options: &Options,
) -> Result<Vec<Rule>, IngestError> {
    let reader = Reader::new(dataset, runtime.handle().clone());
    // Of a file that is not there nothing more needs to be said.
    let is_there = |f: &FileEntry| there.contains_key(&stored(dataset, f));
    let (refs, others): (Vec<_>, Vec<_>) = all_files(dataset)
        .filter(|(_, f)| is_there(f))
        .partition(|(table, _)| *table == Table::Refs);
    let mut rules = FileRules::new();
    let mut facts: BTreeMap<String, Facts> = BTreeMap::new();
    let manifest = dataset.manifest();
    for capture in &manifest.captures {
        facts.entry(capture.capture_id.clone()).or_default();
    }
    // One after the other: they are small, but for `marks`, and together they are the facts.
    for (table, file) in others {
        reader.small(table, file, &mut facts, &mut rules);
    }
    let checked: Vec<FileRules> = refs
        .par_iter()
        .map(|(_, file)| reader.refs(file, manifest, facts.get(&file.capture_id)))
        .collect();
    for file in checked {
        rules.merge(file);
    }
    rules.tell();
    let mut captures = Rule::new(
        "captures",
        "captures, whose rows, losses and page-cache events come to what is said of them",
    );
    for capture in &manifest.captures {
        let rows = rules.rows(&capture.capture_id);
        small::check_capture(capture, facts.get(&capture.capture_id), rows, &mut captures);
    }
    let (sequence, time) = string::check(
        &reader,
        &refs,
        &facts,
        manifest,
        &|id| rules.rows(id).refs,
        options.memory,
    );
    let FileRules {
        footers,
        sorted,
        ranges,
        folders,
        names,
        ..
    } = rules;
    Ok(vec![
        footers, sorted, ranges, folders, sequence, time, names, captures,
    ])
}
