//! Runs that write: each has a name of its own, and a marker that says it is alive.
//!
//! The name is part of the name of every file that the run writes, so whose a file is can be read
//! off it. The marker `_pgtrace/runs/NAME.json` is there before the first of these files and gone
//! after the run; a run that was killed leaves it behind, and the next run, finding it dead,
//! removes the files of that name which no manifest names (`cleanup`).
//!
//! In a local folder the marker is locked: alive while its process is. In an object store the run
//! renews it, and it is dead when it is much older than one just written, by the store's own
//! clock. There, both the renewal and the taking-over of a dead marker are conditional puts upon
//! the version last seen: a run that only slept finds out before it commits.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::cleanup::{self, Cleaned};
use crate::dataset::{Dataset, DatasetError, store_error};
use crate::local::Held;
use crate::manifest::Manifest;
use crate::store::{self, Tries, may_pass, patiently};

/// Folder of the markers within the dataset.
pub const FOLDER: &str = "_pgtrace/runs";
/// How long replaced files stay, unless the user says otherwise.
pub const KEEP_OLD: Duration = Duration::from_secs(3600);
/// Digits of a run's name: 48 bits, so that the runs of years do not meet by chance.
const DIGITS: usize = 12;

/// When a marker in an object store is renewed, and when it is dead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) renew: Duration,
    pub(crate) dead: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(30),
            dead: Duration::from_secs(600),
        }
    }
}

/// What a marker says; for people, but for `run` and `taken_by`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    run: String,
    command: String,
    pid: u32,
    /// Times it was renewed: no two versions of a marker have the same bytes, nor the same ETag.
    #[serde(default)]
    renewed: u64,
    /// The run that takes this one for dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_by: Option<String>,
}

/// A run that is alive: its marker is there until [`Marker::end`].
///
/// Dropped without an end, it is dead, and the next run cleans up after it.
#[derive(Debug)]
pub struct Marker {
    id: String,
    names: AtomicU32,
    pace: Pace,
    kept: Kept,
}

/// How a marker is kept alive.
#[derive(Debug)]
enum Kept {
    /// By a lock.
    Folder(Held),
    /// By being renewed, from time to time and before a commit.
    Store {
        beat: Arc<Mutex<Beat>>,
        renewing: Renewing,
    },
}

/// The task that renews a marker; it ends with this.
#[derive(Debug)]
struct Renewing(JoinHandle<()>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A marker in an object store.
#[derive(Debug)]
struct Beat {
    store: Arc<dyn ObjectStore>,
    path: Path,
    note: Note,
    version: UpdateVersion,
}

/// The marker of a run that is dead; ours now.
pub(crate) enum Dead {
    /// Locked by us.
    Folder(Held),
    /// Marked as taken by us.
    Store(Arc<dyn ObjectStore>, Path),
}

impl Marker {
    /// Begins a run of `command`: puts up its marker, then cleans up after runs that died, and
    /// removes files that were replaced longer than `keep_old` ago. The dataset is at its newest
    /// version then.
    ///
    /// # Errors
    /// The marker cannot be written, or the dataset not be read.
    pub async fn begin(
        dataset: &mut Dataset,
        command: &str,
        keep_old: Duration,
    ) -> Result<(Self, Cleaned), DatasetError> {
        Self::begin_at(dataset, command, keep_old, Pace::default()).await
    }

    pub(crate) async fn begin_at(
        dataset: &mut Dataset,
        command: &str,
        keep_old: Duration,
        pace: Pace,
    ) -> Result<(Self, Cleaned), DatasetError> {
        let mut tries = Tries::new();
        let marker = loop {
            let mut id = Uuid::new_v4().simple().to_string();
            id.truncate(DIGITS);
            let note = Note {
                run: id,
                command: command.into(),
                pid: std::process::id(),
                renewed: 0,
                taken_by: None,
            };
            // A name that is in use, as good as impossible, or may be in use by us, for the answer was lost: another one.
            if let Some(marker) = Self::put(dataset, note, pace, &mut tries).await? {
                break marker;
            }
        };
        let cleaned = cleanup::clean(dataset, &marker, keep_old).await?;
        Ok((marker, cleaned))
    }

    async fn put(
        dataset: &Dataset,
        note: Note,
        pace: Pace,
        tries: &mut Tries,
    ) -> Result<Option<Self>, DatasetError> {
        let id = note.run.clone();
        let relative = format!("{FOLDER}/{id}.json");
        let kept = match dataset.folder() {
            Some(root) => {
                let path = root.join(&relative);
                let json = note.json();
                let made = std::fs::create_dir_all(root.join(FOLDER))
                    .and_then(|()| Held::create(&path))
                    .and_then(|held| match held {
                        Some(mut held) => match held.write(&json) {
                            Ok(()) => Ok(Some(held)),
                            Err(e) => {
                                let _ = held.remove();
                                Err(e)
                            }
                        },
                        None => Ok(None),
                    });
                let made = made.map_err(|cause| DatasetError::File {
                    location: dataset.location().into(),
                    path: relative,
                    cause,
                })?;
                made.map(Kept::Folder)
            }
            None => {
                let (store, path) = (dataset.store().clone(), dataset.path(&relative));
                let create = PutOptions::from(PutMode::Create);
                match store.put_opts(&path, note.payload(), create).await {
                    Ok(put) => Some(Kept::renewed(
                        Beat {
                            store,
                            path,
                            note,
                            version: put.into(),
                        },
                        pace.renew,
                    )),
                    Err(StoreError::AlreadyExists { .. }) => None,
                    Err(cause) if may_pass(&cause) && tries.again().await => None,
                    Err(cause) => return Err(store_error(dataset.location(), cause)),
                }
            }
        };
        Ok(kept.map(|kept| Self {
            id,
            names: AtomicU32::new(0),
            pace,
            kept,
        }))
    }

    /// The run's name: part of the name of every file that it writes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Begin of a file's name, `CAPTURE-RUN`, or `CAPTURE-RUN.3`: no two calls give the same one,
    /// in whatever run, so no file is ever written over. `capture_id` empty: of several captures.
    pub fn file_name(&self, capture_id: &str) -> String {
        let plain = capture_id.chars().filter(char::is_ascii_alphanumeric);
        let mut name: String = plain.take(8).collect();
        if name.is_empty() {
            name = "captures".into();
        }
        match self.names.fetch_add(1, Ordering::Relaxed) {
            0 => format!("{name}-{}", self.id),
            n => format!("{name}-{}.{n}", self.id),
        }
    }

    /// Commits as [`Dataset::commit`], if this run is still alive to others.
    ///
    /// # Errors
    /// As [`Dataset::commit`], and [`DatasetError::TakenForDead`].
    pub async fn commit(&self, dataset: &mut Dataset, next: Manifest) -> Result<(), DatasetError> {
        if let Kept::Store { beat, .. } = &self.kept {
            let renewed = beat.lock().await.renew().await;
            // From here on there are minutes before anybody could take us for dead.
            if !renewed.map_err(|cause| store_error(dataset.location(), cause))? {
                return Err(DatasetError::TakenForDead {
                    location: dataset.location().into(),
                    run: self.id.clone(),
                });
            }
        }
        dataset.commit(next).await
    }

    /// Ends a run whose files are all committed, or that wrote none. A marker that cannot be
    /// removed is dead from now on, and the next run's to remove: that is no failure of this one.
    pub async fn end(self) {
        match self.kept {
            Kept::Folder(held) => drop(held.remove()),
            Kept::Store { beat, renewing } => {
                drop(renewing);
                let beat = beat.lock().await;
                drop(patiently(|| beat.store.delete(&beat.path)).await);
            }
        }
    }

    /// Ends a run that failed: removes what it wrote and did not commit. Best effort: if the store
    /// fails again, the marker stays, and the next run does it.
    pub async fn abandon(self, dataset: &mut Dataset) {
        let mine = HashSet::from([self.id.clone()]);
        let cleaned = match dataset.reload().await {
            Ok(()) => cleanup::remove_litter(dataset, &mine).await.ok(),
            Err(_) => None,
        };
        if cleaned.is_some_and(|c| c.failed == 0) {
            self.end().await;
        }
    }

    /// The markers of dead runs, each taken over so that nobody else does, and the runs' names.
    pub(crate) async fn dead(
        &self,
        dataset: &Dataset,
    ) -> Result<Vec<(String, Dead)>, DatasetError> {
        match dataset.folder() {
            Some(root) => Ok(dead_in_folder(root.join(FOLDER))),
            None => self.dead_in_store(dataset).await,
        }
    }

    async fn dead_in_store(&self, dataset: &Dataset) -> Result<Vec<(String, Dead)>, DatasetError> {
        let failed = |cause| store_error(dataset.location(), cause);
        let (store, folder) = (dataset.store(), dataset.path(FOLDER));
        let listed = store::list(store, Some(&folder)).await.map_err(failed)?;
        let age_limit = i64::try_from(self.pace.dead.as_millis()).unwrap_or(i64::MAX);
        let ours = dataset.path(&format!("{FOLDER}/{}.json", self.id));
        let now = listed.iter().find(|m| m.location == ours);
        // Without our own marker nothing is known of the store's clock.
        let Some(now) = now.map(|m| m.last_modified.timestamp_millis()) else {
            return Ok(Vec::new());
        };
        let mut dead = Vec::new();
        for meta in listed {
            if now - meta.last_modified.timestamp_millis() <= age_limit {
                continue;
            }
            let Some(id) = run_of_marker(&meta.location) else {
                continue;
            };
            let taken = self.take(store, &meta.location, now - age_limit).await;
            if taken.map_err(failed)? {
                dead.push((id, Dead::Store(store.clone(), meta.location)));
            }
        }
        Ok(dead)
    }

    /// Takes over a marker that has not been renewed since; whether that came off.
    async fn take(
        &self,
        store: &Arc<dyn ObjectStore>,
        path: &Path,
        dead_before: i64,
    ) -> Result<bool, StoreError> {
        let (meta, bytes) = match read(store, path).await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            other => other?,
        };
        if meta.last_modified.timestamp_millis() >= dead_before {
            return Ok(false);
        }
        let version = UpdateVersion {
            e_tag: meta.e_tag,
            version: meta.version,
        };
        // Whatever the marker says, it is dead; what it says is kept where it can be read.
        let mut note: Note = serde_json::from_slice(&bytes).unwrap_or(Note {
            run: String::new(),
            command: String::new(),
            pid: 0,
            renewed: 0,
            taken_by: None,
        });
        note.taken_by = Some(self.id.clone());
        match store
            .put_opts(path, note.payload(), PutMode::Update(version).into())
            .await
        {
            Ok(_) => Ok(true),
            Err(
                StoreError::Precondition { .. }
                | StoreError::NotFound { .. }
                | StoreError::AlreadyExists { .. },
            ) => Ok(false),
            // Ours or not, nobody knows: another run may do it.
            Err(e) if may_pass(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// An object, whole.
async fn read(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
) -> Result<(ObjectMeta, Bytes), StoreError> {
    let read = || async {
        let got = store.get(path).await?;
        Ok((got.meta.clone(), got.bytes().await?))
    };
    patiently(read).await
}

/// Markers that nobody holds.
fn dead_in_folder(folder: PathBuf) -> Vec<(String, Dead)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let dead = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let id = name.strip_suffix(".json")?.to_string();
        // One that cannot be opened is not ours to judge.
        let held = Held::dead(&entry.path()).ok()??;
        Some((id, Dead::Folder(held)))
    });
    dead.collect()
}

fn run_of_marker(path: &Path) -> Option<String> {
    Some(path.filename()?.strip_suffix(".json")?.to_string())
}

/// The run that wrote a file, by the file's name: `CAPTURE-RUN-000001.parquet`,
/// `CAPTURE-RUN.parquet`, `CAPTURE-RUN.3-000001.parquet`, or one of these on its way (`#1`).
pub fn run_of(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let run = name.split('-').nth(1)?;
    run.split('.').next().filter(|run| !run.is_empty())
}

impl Dead {
    /// Removes the marker: nothing of its run is left.
    pub(crate) async fn remove(self) {
        // What stays is dead still, and the next run's to remove.
        match self {
            Self::Folder(held) => drop(held.remove()),
            Self::Store(store, path) => drop(store.delete(&path).await),
        }
    }
}

impl Kept {
    fn renewed(beat: Beat, every: Duration) -> Self {
        let beat = Arc::new(Mutex::new(beat));
        let other = beat.clone();
        let renewing = Renewing(tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                // A store that fails now may work the next time; the commit will tell.
                if let Ok(false) = other.lock().await.renew().await {
                    return;
                }
            }
        }));
        Self::Store { beat, renewing }
    }
}

impl Beat {
    /// Puts the marker again; whether it was still ours.
    async fn renew(&mut self) -> Result<bool, StoreError> {
        self.note.renewed += 1;
        let mut tries = Tries::new();
        let mut refused = 0;
        while refused < 2 {
            let update = PutMode::Update(self.version.clone());
            let put = self
                .store
                .put_opts(&self.path, self.note.payload(), update.into())
                .await;
            match put {
                Ok(put) => {
                    self.version = put.into();
                    return Ok(true);
                }
                Err(StoreError::Precondition { .. } | StoreError::NotFound { .. }) => refused += 1,
                Err(e) if may_pass(&e) && tries.again().await => {}
                Err(e) => return Err(e),
            }
            // Taken from us, or put by ourselves and the answer was lost.
            let (meta, bytes) = match read(&self.store, &self.path).await {
                Err(StoreError::NotFound { .. }) => return Ok(false),
                other => other?,
            };
            self.version = UpdateVersion {
                e_tag: meta.e_tag,
                version: meta.version,
            };
            let note: Option<Note> = serde_json::from_slice(&bytes).ok();
            if note.is_none_or(|n| n.run != self.note.run || n.taken_by.is_some()) {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

impl Note {
    fn json(&self) -> Vec<u8> {
        // Numbers and plain text: it has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn payload(&self) -> PutPayload {
        PutPayload::from(self.json())
    }
}

#[cfg(test)]
#[path = "runs_test.rs"]
mod tests;
