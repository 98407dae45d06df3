//! Whether a store is safe for commits: of several programs that make one object at the same time, one may succeed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::dataset::{DatasetError, connect};
use crate::store::patiently;

/// Races that are run. A store that does not keep its word gave itself away in the first few.
const RACES: u32 = 32;
/// Writers in each race.
const WRITERS: u32 = 8;

/// What the races came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The place, as the user named it.
    pub location: String,
    /// Races that were run.
    pub races: u32,
    /// Writers in each of them.
    pub writers: u32,
    /// Races that several writers won: each would have believed its commit to be the dataset.
    pub many_winners: u32,
    /// Races whose object is not what its winner wrote.
    pub overwritten: u32,
    /// Races that nobody won.
    pub no_winner: u32,
    /// The store cannot do it at all, in its own words.
    pub unsupported: Option<String>,
}

impl Verdict {
    /// Whether programs may commit at the same time.
    pub fn is_safe(&self) -> bool {
        self.many_winners == 0 && self.overwritten == 0 && self.unsupported.is_none()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.location;
        if let Some(words) = &self.unsupported {
            return write!(
                f,
                "{place}: unsafe: the store does not refuse to overwrite an object (conditional put): {words}"
            );
        }
        let races = format!("{} races of {} writers", self.races, self.writers);
        if self.is_safe() {
            write!(
                f,
                "{place}: safe: in {races} for one object, never did more than one succeed"
            )?;
        } else {
            write!(
                f,
                "{place}: unsafe: of {races} for one object, {} had several winners, and {} an object that is not the winner's; \
                two programs that commit at the same time can lose each other's rows here: let only one write at a time",
                self.many_winners, self.overwritten
            )?;
        }
        match self.no_winner {
            0 => Ok(()),
            n => write!(f, " ({n} races had no winner; a commit tries again)"),
        }
    }
}

/// Races conditional puts below `location`, a folder or a URL, and removes what they made.
///
/// # Errors
/// A place that cannot be opened or written to.
pub async fn doctor(location: &str) -> Result<Verdict, DatasetError> {
    let (store, prefix) = connect(location, false)?;
    let failed = |cause| DatasetError::Store {
        location: location.into(),
        cause,
    };
    let folder = prefix
        .join("_pgtrace")
        .join(format!("doctor-{}", Uuid::new_v4().simple()));
    let mut verdict = Verdict {
        location: location.into(),
        writers: WRITERS,
        ..Verdict::default()
    };
    for race in 0..RACES {
        let path = folder.clone().join(race.to_string());
        let result = run_race(&store, &path, &mut verdict).await;
        // Whatever came of it, nothing stays.
        let removed = patiently(|| store.delete(&path)).await;
        match (result, removed) {
            (Ok(()), Ok(()) | Err(Error::NotFound { .. })) => {}
            (Ok(()), Err(e)) => return Err(failed(e)),
            (Err(Error::NotImplemented { operation, .. }), _) => {
                verdict.unsupported = Some(operation);
                return Ok(verdict);
            }
            (Err(e), _) => return Err(failed(e)),
        }
        verdict.races += 1;
    }
    Ok(verdict)
}

/// One race: all put at once; then one more, when it is over.
async fn run_race(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    verdict: &mut Verdict,
) -> object_store::Result<()> {
    let start = Arc::new(Barrier::new(WRITERS as usize));
    let writers = (0..WRITERS).map(|writer| {
        let (store, path, start) = (store.clone(), path.clone(), start.clone());
        tokio::spawn(async move {
            start.wait().await;
            put(&store, &path, writer).await
        })
    });
    let mut winners = Vec::new();
    for (writer, put) in (0..).zip(join_all(writers).await) {
        match put.map_err(|source| Error::JoinError { source })? {
            Ok(()) => winners.push(writer),
            Err(Error::AlreadyExists { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    let late = put(store, path, WRITERS).await;
    let found = patiently(|| async { store.get(path).await?.bytes().await }).await?;
    match late {
        Ok(()) => winners.push(WRITERS),
        Err(Error::AlreadyExists { .. }) => {}
        Err(e) => return Err(e),
    }
    // A winner whose answer was lost is told that the object exists.
    match winners.as_slice() {
        [] => verdict.no_winner += 1,
        [winner] if found == words(*winner) => {}
        [_] => verdict.overwritten += 1,
        _ => verdict.many_winners += 1,
    }
    Ok(())
}

async fn put(store: &Arc<dyn ObjectStore>, path: &Path, writer: u32) -> object_store::Result<()> {
    let payload = PutPayload::from(words(writer));
    store
        .put_opts(path, payload, PutOptions::from(PutMode::Create))
        .await
        .map(|_| ())
}

/// What a writer writes: as long as a small manifest, so that writing takes a while.
fn words(writer: u32) -> Bytes {
    format!("writer {writer}\n").repeat(2000).into()
}
