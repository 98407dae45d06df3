//! Reading an object like a file: the same bytes, in any order, and a change is told.
#![allow(clippy::unwrap_used)]

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

use super::*;

struct World {
    runtime: Runtime,
    store: Arc<InMemory>,
    bytes: Vec<u8>,
    path: Path,
}

impl World {
    fn new(len: usize) -> Self {
        let world = Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            store: Arc::new(InMemory::new()),
            bytes: (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect(),
            path: Path::from("a/b.pgt"),
        };
        world.put(world.bytes.clone());
        world
    }

    fn put(&self, bytes: Vec<u8>) {
        let put = self.store.put(&self.path, PutPayload::from(bytes));
        self.runtime.block_on(put).unwrap();
    }

    fn reader(&self) -> ObjectReader {
        let meta = self.runtime.block_on(self.store.head(&self.path)).unwrap();
        let url = "s3://x/a/b.pgt".into();
        let handle = self.runtime.handle().clone();
        ObjectReader::new(Arc::new(Object::new(self.store.clone(), meta, url, handle)))
    }
}

#[test]
fn all_bytes_in_order() {
    for len in [0, 1, FIRST as usize, FIRST as usize + 1, 5_000_001] {
        let world = World::new(len);
        let mut read = Vec::new();
        world.reader().read_to_end(&mut read).unwrap();
        assert!(read == world.bytes, "{len}");
    }
}

#[test]
fn from_anywhere() {
    let world = World::new(6_000_000);
    let mut reader = world.reader();
    let mut buf = [0; 1000];
    // Forth, back, inside what is held, into what is on its way, and past it.
    for at in [
        0, 900, 5_999_000, 10, 65_536, 1_200_000, 1_300_000, 4_000_000, 64_000, 70_000, 5_000_000,
    ] {
        assert_eq!(reader.seek(SeekFrom::Start(at)).unwrap(), at);
        reader.read_exact(&mut buf).unwrap();
        assert_eq!(buf, world.bytes[at as usize..at as usize + 1000], "{at}");
    }
    assert_eq!(reader.seek(SeekFrom::End(-5)).unwrap(), 5_999_995);
    assert_eq!(reader.read(&mut buf).unwrap(), 5);
    assert_eq!(reader.read(&mut buf).unwrap(), 0);
    assert!(reader.seek(SeekFrom::Current(-7_000_000)).is_err());
}

#[test]
fn what_is_held_is_bounded() {
    let world = World::new(20_000_000);
    let mut reader = world.reader();
    let mut buf = vec![0; 100_000];
    while reader.read(&mut buf).unwrap() > 0 {
        let coming: u64 = reader
            .coming
            .iter()
            .map(|c| c.range.end - c.range.start)
            .sum();
        let held = reader.have.1.len() as u64 + coming;
        assert!(held <= ObjectReader::MOST_BYTES, "{held}");
    }
}

#[test]
fn a_change_is_told() {
    let world = World::new(3_000_000);
    let mut reader = world.reader();
    let mut buf = [0; 10];
    reader.read_exact(&mut buf).unwrap();
    world.put(vec![7; 3_000_000]);
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
}

#[test]
fn a_store_that_lost_it_is_an_error() {
    let world = World::new(3_000_000);
    let mut reader = world.reader();
    world
        .runtime
        .block_on(world.store.delete(&world.path))
        .unwrap();
    let error = reader.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
}
