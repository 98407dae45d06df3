//! A dataset: a place in an object store and the newest manifest there.

use std::collections::BTreeSet;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use rayon::prelude::*;
use url::Url;

use crate::local;
use crate::manifest::{self, FileEntry, Manifest, ManifestError};
use crate::store::{self, Tries, is_refusal, may_pass, patiently};

/// What can go wrong with a dataset as a whole. Every variant names the place.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The folder does not exist.
    #[error("{location}: no such dataset")]
    Missing {
        /// The dataset, as the user named it.
        location: String,
    },
    /// The place exists but holds no manifest.
    #[error(
        "{location}: not a pgtrace dataset: no manifest in {}/",
        manifest::FOLDER
    )]
    NotADataset {
        /// The dataset, as the user named it.
        location: String,
    },
    /// A new dataset was asked for in a place that is in use for something else.
    #[error(
        "{location}: is not empty and not a pgtrace dataset (found {found:?}); name an empty or a new folder"
    )]
    Occupied {
        /// The dataset, as the user named it.
        location: String,
        /// Something that is there.
        found: String,
    },
    /// The manifest cannot be used.
    #[error("{location}: {path}: {cause}")]
    Manifest {
        /// The dataset, as the user named it.
        location: String,
        /// Path of the manifest within it.
        path: String,
        /// What is wrong with it.
        cause: ManifestError,
    },
    /// Somebody else committed this version first.
    #[error("{location}: version {version} was committed by another program meanwhile")]
    Conflict {
        /// The dataset, as the user named it.
        location: String,
        /// The version that was to be committed.
        version: u64,
    },
    /// The store failed before it said whether it took a commit.
    #[error(
        "{location}: version {version} may have been committed or not, the store did not say: {}; run it again, which adds nothing twice",
        store::words(.cause)
    )]
    Unsure {
        /// The dataset, as the user named it.
        location: String,
        /// The version that was to be committed.
        version: u64,
        /// The store's own words.
        cause: object_store::Error,
    },
    /// The location is not a path or a URL that can be used.
    #[error("{location}: {detail}")]
    Location {
        /// The dataset, as the user named it.
        location: String,
        /// Why it cannot be used.
        detail: String,
    },
    /// A file of a local dataset could not be written, synced or removed.
    #[error("{location}: {path}: {cause}")]
    File {
        /// The dataset, as the user named it.
        location: String,
        /// Path of the file within it.
        path: String,
        /// The system's own words.
        cause: std::io::Error,
    },
    /// This run stood still for so long that another one took it for dead.
    #[error(
        "{location}: this run ({run}) stood still for so long that another one took it for dead and removed its files; nothing of it is in the dataset, so run it again"
    )]
    TakenForDead {
        /// The dataset, as the user named it.
        location: String,
        /// The run.
        run: String,
    },
    /// The object store failed.
    #[error("{location}: {}", store::words(.cause))]
    Store {
        /// The dataset, as the user named it.
        location: String,
        /// The store's own words.
        cause: object_store::Error,
    },
}

/// An opened dataset at one version.
#[derive(Clone, Debug)]
pub struct Dataset {
    location: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Of a local dataset: its folder.
    folder: Option<PathBuf>,
    manifest: Manifest,
}

/// What stands at a location.
#[derive(Debug)]
pub enum Place {
    /// A dataset.
    Taken(Box<Dataset>),
    /// Nothing.
    Vacant(Vacant),
}

/// A place for a new dataset.
#[derive(Debug)]
pub struct Vacant {
    location: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Vacant {
    /// Makes an empty dataset laid out as `new` says; if somebody else has made one meanwhile, it is theirs, with their
    /// layout.
    ///
    /// # Errors
    /// The store's own failure.
    pub async fn create(self, new: Manifest) -> Result<Dataset, DatasetError> {
        let folder = self.folder();
        let mut dataset = Dataset {
            location: self.location,
            store: self.store,
            prefix: self.prefix,
            folder,
            manifest: new,
        };
        // Committed at once, so that a killed first run leaves a dataset (an
        // empty one) and not a folder of files that nobody owns.
        let first = dataset.manifest.next();
        match dataset.commit(first).await {
            Err(DatasetError::Conflict { .. }) => dataset.reload().await?,
            other => other?,
        }
        Ok(dataset)
    }

    /// The folder of what will be a local dataset; it is there.
    pub fn folder(&self) -> Option<PathBuf> {
        folder_of(&self.location)
    }
}

impl Dataset {
    /// Opens the dataset at a folder or URL (`file:`, and the object stores this
    /// program was built with) at its newest version.
    ///
    /// # Errors
    /// [`DatasetError`]: missing, not a dataset, a manifest too new or damaged,
    /// or the store's own failure.
    pub async fn open(location: &str) -> Result<Self, DatasetError> {
        let (store, prefix) = connect(location, false)?;
        match Self::load(location, store, prefix).await? {
            (_, _, Some(dataset)) => Ok(dataset),
            (..) => Err(DatasetError::NotADataset {
                location: location.into(),
            }),
        }
    }

    /// Opens the dataset, or makes an empty one laid out as `new` says. An
    /// existing dataset keeps its own layout.
    ///
    /// # Errors
    /// As [`Dataset::open`], and [`DatasetError::Occupied`] if the place is in
    /// use for something else.
    pub async fn create_or_open(location: &str, new: Manifest) -> Result<Self, DatasetError> {
        match Self::open_or_vacant(location).await? {
            Place::Taken(dataset) => Ok(*dataset),
            Place::Vacant(vacant) => vacant.create(new).await,
        }
    }

    /// Opens the dataset, or finds that there is room for a new one.
    ///
    /// # Errors
    /// As [`Dataset::create_or_open`].
    pub async fn open_or_vacant(location: &str) -> Result<Place, DatasetError> {
        let (store, prefix) = connect(location, true)?;
        let (store, prefix) = match Self::load(location, store, prefix).await? {
            (_, _, Some(dataset)) => return Ok(Place::Taken(Box::new(dataset))),
            (store, prefix, None) => (store, prefix),
        };
        if let Some(found) = first_inhabitant(location, &store, &prefix).await? {
            // Somebody may have made the dataset since we looked for it.
            if let (_, _, Some(dataset)) = Self::load(location, store, prefix).await? {
                return Ok(Place::Taken(Box::new(dataset)));
            }
            return Err(DatasetError::Occupied {
                location: location.into(),
                found,
            });
        }
        Ok(Place::Vacant(Vacant {
            location: location.into(),
            store,
            prefix,
        }))
    }

    /// A new dataset in a local folder that nobody looks into yet: nothing is written but the folder.
    pub(crate) fn unborn(folder: &FsPath, new: Manifest) -> Result<Self, DatasetError> {
        let location = folder.display().to_string();
        let (store, prefix) = connect_folder(&location, folder, true)?;
        Ok(Self {
            location,
            store,
            prefix,
            folder: Some(folder.to_owned()),
            manifest: new,
        })
    }

    /// Lays out a dataset that holds nothing yet as `new` says.
    pub(crate) fn lay_out(&mut self, new: Manifest) {
        self.manifest.partition_by = new.partition_by;
        self.manifest.slice_rows = new.slice_rows;
    }

    /// Writes a manifest of [`Dataset::unborn`] where it belongs. Nothing is synced: whoever puts the folder where others
    /// look does that.
    pub(crate) fn write_unsynced(&mut self, next: &Manifest) -> Result<(), DatasetError> {
        let name = format!("{}/{}", manifest::FOLDER, Manifest::file_name(next.version));
        let json = next
            .to_json()
            .map_err(|cause| self.manifest_error(&self.path(&name), cause))?;
        let root = self.folder.clone().unwrap_or_default();
        let written = std::fs::create_dir_all(root.join(manifest::FOLDER))
            .and_then(|()| std::fs::write(root.join(&name), json));
        written.map_err(|cause| DatasetError::File {
            location: self.location.clone(),
            path: name,
            cause,
        })
    }

    /// Reads the newest manifest again, after [`DatasetError::Conflict`].
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub async fn reload(&mut self) -> Result<(), DatasetError> {
        let loaded = Self::load(&self.location, self.store.clone(), self.prefix.clone()).await?;
        let (_, _, Some(dataset)) = loaded else {
            return Err(DatasetError::NotADataset {
                location: self.location.clone(),
            });
        };
        *self = dataset;
        Ok(())
    }

    /// Publishes `next`, which must be this dataset's [`Manifest::next`]: one
    /// conditional put, so that exactly one of several programs wins.
    ///
    /// # Errors
    /// [`DatasetError::Conflict`] if that version exists already: reload, build
    /// upon what is there, and commit again. [`DatasetError::Unsure`] if the
    /// store broke down meanwhile: files of `next` must stay, it may name them.
    pub async fn commit(&mut self, next: Manifest) -> Result<(), DatasetError> {
        let path = self.path(&format!(
            "{}/{}",
            manifest::FOLDER,
            Manifest::file_name(next.version)
        ));
        let json = next
            .to_json()
            .map_err(|cause| self.manifest_error(&path, cause))?;
        if self.put_new(&path, next.version, json).await? {
            self.manifest = next;
            return Ok(());
        }
        Err(DatasetError::Conflict {
            location: self.location.clone(),
            version: next.version,
        })
    }

    /// Puts a file where there must be none, as whole and as durable as a commit: for logs beside the
    /// tables, whose files count by their `version`. `false`: there is one already, and it says something else.
    ///
    /// # Errors
    /// [`DatasetError`], as for [`Dataset::commit`].
    pub async fn put_version(
        &self,
        relative: &str,
        version: u64,
        content: Vec<u8>,
    ) -> Result<bool, DatasetError> {
        self.put_new(&self.path(relative), version, content).await
    }

    /// Puts a manifest where there must be none; whether it is there now.
    async fn put_new(
        &self,
        path: &Path,
        version: u64,
        json: Vec<u8>,
    ) -> Result<bool, DatasetError> {
        if let Some(root) = self.folder.clone() {
            let at = root.join(path.as_ref());
            let put = tokio::task::spawn_blocking(move || {
                let put = local::publish(&at, &json)?;
                for folder in at.ancestors().skip(2) {
                    local::sync_folder(folder)?;
                    if folder == root {
                        break;
                    }
                }
                // The folder itself may be new; the one above need not be ours to open.
                let _ = root.parent().map(local::sync_folder);
                Ok(put)
            });
            let put = put.await.map_err(std::io::Error::other).flatten();
            return put.map_err(|cause| DatasetError::File {
                location: self.location.clone(),
                path: path.to_string(),
                cause,
            });
        }
        let json = Bytes::from(json);
        let mut tries = Tries::new();
        loop {
            let options = PutOptions::from(PutMode::Create);
            let payload = PutPayload::from(json.clone());
            let cause = match self.store.put_opts(path, payload, options).await {
                Ok(_) => return Ok(true),
                Err(cause) => cause,
            };
            let taken = matches!(cause, object_store::Error::AlreadyExists { .. });
            if !taken && is_refusal(&cause) {
                return Err(store_error(&self.location, cause));
            }
            // It may be ours: the answer to a put can get lost, and the put be repeated. Files are named after their
            // runs, so the same text is ours.
            match patiently(|| async { self.store.get(path).await?.bytes().await }).await {
                Ok(stored) => return Ok(stored == json),
                // Not there, and not to be seen yet: a put that failed, or a race that nobody has won yet.
                Err(object_store::Error::NotFound { .. })
                    if (taken || may_pass(&cause)) && tries.again().await => {}
                Err(_) => {
                    return Err(DatasetError::Unsure {
                        location: self.location.clone(),
                        version,
                        cause,
                    });
                }
            }
        }
    }

    /// The version that is open.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The store that holds the files.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Where in the store the dataset begins.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Whether the dataset is a local folder: files can grow in pieces of any size.
    pub fn is_local(&self) -> bool {
        self.folder.is_some()
    }

    /// The folder of a local dataset.
    pub fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    /// Makes sure that files and the folders on the way to them are on disk; to be called before
    /// the commit that names them, so that a power cut never leaves a manifest that names files
    /// which are not there, or not whole. The manifest itself is synced by [`Dataset::commit`]:
    /// when that returns, the new version is there for good, and until then the old one is. (As
    /// far as the disk keeps its word; an object store has a file once it has taken it.)
    ///
    /// # Errors
    /// [`DatasetError::File`].
    pub fn sync<'a>(
        &self,
        files: impl IntoIterator<Item = &'a FileEntry>,
    ) -> Result<(), DatasetError> {
        let Some(root) = &self.folder else {
            return Ok(());
        };
        let paths: Vec<&str> = files.into_iter().map(|f| f.path.as_str()).collect();
        let mut folders = BTreeSet::from([FsPath::new("")]);
        for path in &paths {
            folders.extend(FsPath::new(path).ancestors().skip(1));
        }
        let failed = |path: &FsPath, cause| DatasetError::File {
            location: self.location.clone(),
            path: path.display().to_string(),
            cause,
        };
        paths
            .par_iter()
            .map(FsPath::new)
            .try_for_each(|path| local::sync_file(&root.join(path)).map_err(|e| failed(path, e)))?;
        // Folders after their files, so that a name on disk is the name of a whole file.
        folders
            .par_iter()
            .try_for_each(|path| local::sync_folder(&root.join(path)).map_err(|e| failed(path, e)))
    }

    /// The dataset as the user named it, for messages.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Path in the store of a file of the dataset.
    pub fn path_of(&self, file: &FileEntry) -> Path {
        self.path(&file.path)
    }

    /// Path in the store of `relative`, a path within the dataset.
    pub fn path(&self, relative: &str) -> Path {
        relative
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Finds and reads the newest manifest; gives the store back if there is none.
    async fn load(
        location: &str,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
    ) -> Result<(Arc<dyn ObjectStore>, Path, Option<Self>), DatasetError> {
        let folder = manifest::FOLDER
            .split('/')
            .fold(prefix.clone(), |path, part| path.join(part));
        let newest = patiently(|| {
            let listed = store.list(Some(&folder));
            listed.try_fold(None, |newest: Option<u64>, object| async move {
                let version = object.location.filename().and_then(Manifest::version_of);
                Ok(newest.max(version))
            })
        })
        .await
        .map_err(|e| store_error(location, e))?;
        let Some(version) = newest else {
            return Ok((store, prefix, None));
        };
        let path = folder.join(Manifest::file_name(version));
        let bytes = patiently(|| async { store.get(&path).await?.bytes().await })
            .await
            .map_err(|e| store_error(location, e))?;
        let manifest = Manifest::from_json(&bytes)
            .and_then(|m| match m.version == version {
                true => Ok(m),
                false => Err(ManifestError::Damaged(format!(
                    "says version {}, the file's name says {version}",
                    m.version
                ))),
            })
            .map_err(|cause| DatasetError::Manifest {
                location: location.into(),
                path: path.to_string(),
                cause,
            })?;
        let dataset = Self {
            location: location.into(),
            store: store.clone(),
            prefix: prefix.clone(),
            folder: folder_of(location),
            manifest,
        };
        Ok((store, prefix, Some(dataset)))
    }

    fn manifest_error(&self, path: &Path, cause: ManifestError) -> DatasetError {
        DatasetError::Manifest {
            location: self.location.clone(),
            path: path.to_string(),
            cause,
        }
    }
}

pub(crate) fn store_error(location: &str, cause: object_store::Error) -> DatasetError {
    DatasetError::Store {
        location: location.into(),
        cause,
    }
}

/// Something that stands where a new dataset should be.
async fn first_inhabitant(
    location: &str,
    store: &Arc<dyn ObjectStore>,
    prefix: &Path,
) -> Result<Option<String>, DatasetError> {
    let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
    let first = || async { store.list(prefix).try_next().await };
    let found = patiently(first)
        .await
        .map_err(|e| store_error(location, e))?;
    Ok(found.map(|object| object.location.to_string()))
}

/// The folder that a location names; `None`: it is no local one.
pub(crate) fn folder_of(location: &str) -> Option<PathBuf> {
    let folder = match Url::parse(location) {
        Ok(url) if location.contains("://") => match url.scheme() {
            "file" => url.to_file_path().ok()?,
            _ => return None,
        },
        _ => PathBuf::from(location),
    };
    // The store keeps the full path likewise: the program may go elsewhere.
    Some(std::fs::canonicalize(&folder).unwrap_or(folder))
}

/// The store and prefix that a location names.
pub(crate) fn connect(
    location: &str,
    create: bool,
) -> Result<(Arc<dyn ObjectStore>, Path), DatasetError> {
    let unusable = |detail: String| DatasetError::Location {
        location: location.into(),
        detail,
    };
    if !store::is_url(location) {
        return connect_folder(location, FsPath::new(location), create);
    }
    let url = store::parse(location).map_err(unusable)?;
    if url.scheme() == "file" {
        let folder: PathBuf = url
            .to_file_path()
            .map_err(|()| unusable("a file URL needs an absolute path".into()))?;
        return connect_folder(location, &folder, create);
    }
    store::open(&url).map_err(unusable)
}

/// A local folder is a store of its own, so that odd names in the path above it
/// never meet the rules for object names.
fn connect_folder(
    location: &str,
    folder: &FsPath,
    create: bool,
) -> Result<(Arc<dyn ObjectStore>, Path), DatasetError> {
    let unusable = |detail: String| DatasetError::Location {
        location: location.into(),
        detail,
    };
    match std::fs::metadata(folder) {
        Ok(meta) if !meta.is_dir() => {
            return Err(unusable("is a file; a dataset is a folder".into()));
        }
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && create => {
            std::fs::create_dir_all(folder)
                .map_err(|e| unusable(format!("cannot make the folder: {e}")))?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(DatasetError::Missing {
                location: location.into(),
            });
        }
        Err(e) => return Err(unusable(e.to_string())),
    }
    let store = LocalFileSystem::new_with_prefix(folder)
        .map_err(|e| store_error(location, e))?
        .with_automatic_cleanup(true);
    Ok((Arc::new(store), Path::default()))
}
