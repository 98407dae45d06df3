//! Object stores that a statement names, as in `COPY .. TO 's3://bucket/x.parquet'`: opened when they are first named.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::object_store::ObjectStore;
use datafusion::object_store::path::Path;
use pgtrace_ingest::store;
use url::{Position, Url};

/// Stores known to the engine: those registered with it, local files, and what a URL opens, with the settings and
/// credentials with which datasets are opened.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    registered: DefaultObjectStoreRegistry,
    /// By the URL up to its path: the engine's own key leaves out what stands before the host, which may be a container.
    opened: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl ObjectStoreRegistry for Stores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.registered.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.registered.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(store) = self.registered.get_store(url) {
            return Ok(store);
        }
        let key = &url[..Position::BeforePath];
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = opened.get(key) {
            return Ok(Arc::clone(store));
        }
        let unusable = |detail: String| exec_datafusion_err!("{url}: {detail}");
        let (store, path) = store::open(url).map_err(unusable)?;
        // The engine takes the URL's path for the path in the store. An https:// URL may have the bucket in it.
        if Path::from_url_path(url.path()).ok() != Some(path) {
            let expected =
                "expected a URL like s3://bucket/path, which names the bucket before the path";
            return Err(unusable(expected.into()));
        }
        opened.insert(key.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}
