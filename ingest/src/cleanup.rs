//! What a run does first: it removes what dead runs left, and what nobody reads any more.
//!
//! Nothing is removed that the newest manifest names, read after the dead were found to be dead:
//! what they committed is in it, and they commit no more.

use std::collections::HashSet;
use std::fmt;
use std::path::Path as FsPath;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use object_store::{Error as StoreError, ObjectStoreExt};

use crate::again;
use crate::dataset::{Dataset, DatasetError, store_error};
use crate::local::{self, Held};
use crate::manifest::{self, Manifest};
use crate::runs::{Marker, run_of};
use crate::schema::Table;
use crate::store::{self, patiently};

/// Manifests that stay, however old: what the dataset was, for whoever wonders.
const MANIFESTS: u64 = 100;
/// Files removed side by side.
const AT_ONCE: usize = 16;
/// Tries to commit a manifest without the files that are gone; the next run may do it, too.
const COMMITS: usize = 5;

/// What a clean-up removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Runs that had died.
    pub dead_runs: usize,
    /// Files of theirs.
    pub litter: usize,
    /// Files that had been replaced.
    pub retired: usize,
    /// Old manifests.
    pub manifests: usize,
    /// Files that could not be removed.
    pub failed: usize,
}

impl fmt::Display for Cleaned {
    /// A line for people; nothing, if there was nothing worth telling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (litter, runs) = (self.litter, self.dead_runs);
        if litter > 0 {
            writeln!(
                f,
                "removed: {litter} files that killed runs left ({runs} runs)"
            )?;
        }
        if self.retired > 0 {
            writeln!(
                f,
                "removed: {} files that were replaced before",
                self.retired
            )?;
        }
        if self.failed > 0 {
            writeln!(
                f,
                "not removed: {} old files; the next run tries again",
                self.failed
            )?;
        }
        Ok(())
    }
}

/// Cleans up for a run that begins; the dataset is at its newest version then.
pub(crate) async fn clean(
    dataset: &mut Dataset,
    marker: &Marker,
    keep: Duration,
) -> Result<Cleaned, DatasetError> {
    let dead = marker.dead(dataset).await?;
    // In this order: see above.
    dataset.reload().await?;
    let mut cleaned = Cleaned::default();
    if !dead.is_empty() {
        let ids = dead.iter().map(|(id, _)| id.clone()).collect();
        cleaned = remove_litter(dataset, &ids).await?;
        cleaned.dead_runs = dead.len();
        for (_, marker) in dead {
            // With files left its marker stays, too.
            if cleaned.failed == 0 {
                marker.remove().await;
            }
        }
    }
    if let Some(root) = dataset.folder() {
        cleaned.litter += staged_manifests(root);
    }
    remove_retired(dataset, marker, keep, &mut cleaned).await?;
    remove_manifests(dataset, keep, &mut cleaned).await?;
    Ok(cleaned)
}

/// Removes the files of these runs that the open manifest does not know.
pub(crate) async fn remove_litter(
    dataset: &Dataset,
    runs: &HashSet<String>,
) -> Result<Cleaned, DatasetError> {
    let known = dataset.manifest().known();
    let litter = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let staged = local::staged(name).is_some();
        run_of(path).is_some_and(|run| runs.contains(run)) && (staged || !known.contains(path))
    };
    let mut files = Vec::new();
    let tables = Table::ALL.iter().map(|table| table.name());
    for name in tables.chain([again::STATE]) {
        match dataset.folder() {
            // The store's own listing hides files that were on their way.
            Some(root) => {
                let found = local::files(root, name).map_err(|cause| DatasetError::File {
                    location: dataset.location().into(),
                    path: name.into(),
                    cause,
                })?;
                files.extend(found.into_iter().filter(|path| litter(path)));
            }
            None => {
                let folder = dataset.path(name);
                let listed = store::list(dataset.store(), Some(&folder)).await;
                for meta in listed.map_err(|cause| store_error(dataset.location(), cause))? {
                    let below = meta.location.prefix_match(dataset.prefix());
                    let parts: Option<Vec<_>> =
                        below.map(|parts| parts.map(|part| part.as_ref().to_string()).collect());
                    let path = parts.unwrap_or_default().join("/");
                    if litter(&path) {
                        files.push(path);
                    }
                }
            }
        }
    }
    let removed = remove(dataset, &files).await;
    Ok(Cleaned {
        litter: removed.len(),
        failed: files.len() - removed.len(),
        ..Cleaned::default()
    })
}

/// Removes files; gives those that are gone.
async fn remove<'a>(dataset: &Dataset, paths: &'a [String]) -> HashSet<&'a str> {
    if let Some(root) = dataset.folder() {
        let gone = paths
            .iter()
            .filter(|path| local::remove(root, path).is_ok());
        return gone.map(String::as_str).collect();
    }
    let each = paths.iter().map(|path| async move {
        let at = dataset.path(path);
        match patiently(|| dataset.store().delete(&at)).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Some(path.as_str()),
            Err(_) => None,
        }
    });
    let gone = futures::stream::iter(each).buffer_unordered(AT_ONCE);
    gone.filter_map(std::future::ready).collect().await
}

/// Manifests that were never given their name; the ones being written are held.
fn staged_manifests(root: &FsPath) -> usize {
    let found = local::files(root, manifest::FOLDER).unwrap_or_default();
    let staged = found.iter().filter(|path| {
        let name = path.rsplit('/').next().and_then(local::staged);
        name.and_then(Manifest::version_of).is_some()
    });
    let dead = staged.filter_map(|path| Held::dead(&root.join(path)).ok()?);
    dead.filter_map(|held| held.remove().ok()).count()
}

/// Removes files that were replaced long enough ago, and takes them off the manifest's list.
async fn remove_retired(
    dataset: &mut Dataset,
    marker: &Marker,
    keep: Duration,
    cleaned: &mut Cleaned,
) -> Result<(), DatasetError> {
    let now = now();
    let manifest = dataset.manifest();
    let named: HashSet<&str> = manifest
        .tables
        .values()
        .flatten()
        .map(|f| f.path.as_str())
        .collect();
    let old = manifest.retired.iter().filter(|file| {
        // A clock that was set back makes a file younger, never older.
        let age = now.saturating_sub(file.since);
        age >= keep.as_secs() && !named.contains(file.path.as_str())
    });
    let old: Vec<String> = old.map(|file| file.path.clone()).collect();
    if old.is_empty() {
        return Ok(());
    }
    let gone = remove(dataset, &old).await;
    cleaned.retired = gone.len();
    cleaned.failed += old.len() - gone.len();
    for _ in 0..COMMITS {
        let mut next = dataset.manifest().next();
        next.retired
            .retain(|file| !gone.contains(file.path.as_str()));
        if next.retired.len() == dataset.manifest().retired.len() {
            break;
        }
        match marker.commit(dataset, next).await {
            Err(DatasetError::Conflict { .. }) => dataset.reload().await?,
            other => return other,
        }
    }
    Ok(())
}

/// Removes manifests that are neither among the newest nor young.
async fn remove_manifests(
    dataset: &Dataset,
    keep: Duration,
    cleaned: &mut Cleaned,
) -> Result<(), DatasetError> {
    let newest = dataset.manifest().version;
    if newest <= MANIFESTS {
        return Ok(());
    }
    let failed = |cause| store_error(dataset.location(), cause);
    let folder = dataset.path(manifest::FOLDER);
    let listed = store::list(dataset.store(), Some(&folder))
        .await
        .map_err(failed)?;
    let version = |name: Option<&str>| name.and_then(Manifest::version_of);
    // The store's clock, as far as it can be read off: the newest manifest's is the last time known.
    let now = listed.iter().map(|m| m.last_modified.timestamp()).max();
    let keep = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let old: Vec<String> = listed
        .iter()
        .filter(|meta| {
            let age = now.unwrap_or(0) - meta.last_modified.timestamp();
            let far = version(meta.location.filename()).is_some_and(|v| v + MANIFESTS <= newest);
            far && age >= keep
        })
        .filter_map(|meta| {
            Some(format!(
                "{}/{}",
                manifest::FOLDER,
                meta.location.filename()?
            ))
        })
        .collect();
    let gone = remove(dataset, &old).await.len();
    cleaned.manifests = gone;
    cleaned.failed += old.len() - gone;
    Ok(())
}

/// Seconds since 1970 UTC.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
