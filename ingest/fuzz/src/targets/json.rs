//! JSON that others may have written: manifests, and what chunks say of their recording.

use pgtrace_capture::chunk::{Settings, Totals};
use pgtrace_ingest::manifest::Manifest;
use pgtrace_ingest::schema::Table;

/// A manifest that is accepted can be worked with, names no file outside, and reads back the same.
pub(super) fn manifest(data: &[u8]) {
    let manifest = match Manifest::from_json(data) {
        Ok(manifest) => manifest,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    for file in manifest.tables.values().flatten() {
        let path = std::path::Path::new(&file.path);
        let plain = |c| matches!(c, std::path::Component::Normal(_));
        assert!(path.components().all(plain), "{:?}", file.path);
    }
    for table in Table::ALL {
        let _ = manifest.rows(table);
    }
    assert!(manifest.next().version > manifest.version);
    let json = manifest.to_json().expect("every part has a JSON form");
    assert_eq!(Manifest::from_json(&json).ok().as_ref(), Some(&manifest));
    let name = Manifest::file_name(manifest.version);
    assert_eq!(Manifest::version_of(&name), Some(manifest.version));
}

/// Totals and settings, which old and newer recorders write.
pub(super) fn totals(data: &[u8]) {
    if let Ok(totals) = serde_json::from_slice::<Totals>(data) {
        let json = serde_json::to_vec(&totals).expect("numbers and text");
        assert_eq!(serde_json::from_slice::<Totals>(&json).ok(), Some(totals));
    }
    if let Ok(settings) = serde_json::from_slice::<Settings>(data) {
        let json = serde_json::to_vec(&settings).expect("numbers and text");
        let _ = (
            settings.keeps_only_the_newest(),
            settings.targets.commands(),
        );
        assert_eq!(
            serde_json::from_slice::<Settings>(&json).ok(),
            Some(settings)
        );
    }
}
