//! A real S3-compatible server (moto), a way to it that fails on purpose, and our programs run against both. Tests of
//! pgtrace-sql include it, too.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStore, ObjectStoreExt};

/// Environment variable: the server's program, moto_server.
const SERVER: &str = "PGTRACE_S3_SERVER";

/// The server of all tests in this program. It ends when this program does: its parent waits for the end of its input.
pub fn server() -> SocketAddr {
    static RUNNING: OnceLock<(SocketAddr, Mutex<Child>)> = OnceLock::new();
    RUNNING.get_or_init(start).0
}

fn program() -> PathBuf {
    if let Some(program) = std::env::var_os(SERVER) {
        return program.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(".venv-s3/bin/moto_server")
}

fn start() -> (SocketAddr, Mutex<Child>) {
    let program = program();
    assert!(
        program.exists(),
        "no S3 server to test with at {}: `make s3-server` installs it, or {SERVER} names a moto_server",
        program.display()
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let child = Command::new("sh")
        .args([
            "-c",
            r#""$0" -H 127.0.0.1 -p "$1" </dev/null >/dev/null 2>&1 & read _; kill $!"#,
        ])
        .arg(program)
        .arg(address.port().to_string())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            begun.elapsed().as_secs() < 60,
            "the S3 server does not start"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    (address, Mutex::new(child))
}

/// Asks the server for something that object_store has no words for.
fn ask(method: &str, path: &str, headers: &str) {
    let at = server();
    let mut connection = TcpStream::connect(at).unwrap();
    // The server believes any signature.
    let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: {signed}\r\n{headers}");
    write!(
        connection,
        "{head}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A bucket of the server, and what is in it.
pub struct Bucket {
    pub name: String,
    store: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

impl Bucket {
    pub fn new(name: &str) -> Self {
        ask("PUT", &format!("/{name}"), "");
        let store = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_endpoint(format!("http://{}", server()))
            .with_allow_http(true)
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .build()
            .unwrap();
        Self {
            name: name.into(),
            store,
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("s3://{}/{path}", self.name)
    }

    /// Puts files below `prefix`.
    pub fn put(&self, prefix: &str, files: &[PathBuf]) {
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap();
            let path = format!("{prefix}/{name}").into();
            let bytes = std::fs::read(file).unwrap();
            self.runtime
                .block_on(self.store.put(&path, bytes.into()))
                .unwrap();
        }
    }

    /// Lets anyone read an object; gives its plain URL.
    pub fn publish(&self, path: &str) -> String {
        let path = format!("/{}/{path}", self.name);
        ask("PUT", &format!("{path}?acl"), "x-amz-acl: public-read\r\n");
        format!("http://{}{path}", server())
    }

    /// Paths and sizes below `prefix`.
    pub fn list(&self, prefix: &str) -> BTreeMap<String, u64> {
        let prefix = prefix.into();
        let objects = self
            .store
            .list(Some(&prefix))
            .map_ok(|o| (o.location.to_string(), o.size));
        self.runtime.block_on(objects.try_collect()).unwrap()
    }

    /// Copies all below `prefix` into a folder.
    pub fn fetch(&self, prefix: &str, to: &Path) {
        for path in self.list(prefix).into_keys() {
            let get = async { self.store.get(&path.as_str().into()).await?.bytes().await };
            let bytes = self.runtime.block_on(get).unwrap();
            let file = to.join(path.strip_prefix(prefix).unwrap().trim_start_matches('/'));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
    }
}

/// A program of ours that is to talk to the store at `at`.
pub fn command_at(program: impl AsRef<OsStr>, at: SocketAddr, patience: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("TMPDIR", std::env::temp_dir())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", format!("http://{at}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_TIMEOUT", "3s")
        .env("PGTRACE_STORE_PATIENCE", patience);
    command
}

/// What a run said, and its exit code.
pub fn said(output: Output) -> (i32, String) {
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    (output.status.code().unwrap_or(-1), words)
}

/// What happens to a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing.
    Through,
    /// The connection is cut in the middle of the request; the server never sees it.
    CutRequest,
    /// The server does as it is asked, and the connection is cut before it can say so.
    LostAnswer,
    /// The connection is cut in the middle of the answer.
    CutAnswer,
    /// Something in between answers with this status.
    Status(u16),
    /// The answer comes late.
    Late(Duration),
    /// The request loses its If-None-Match: a store that does not keep its word.
    Unconditional,
}

/// Decides: number of the request, its method, its path.
type Decide = dyn Fn(u64, &str, &str) -> Fate + Send + Sync;

/// A way to the server that fails on purpose.
pub struct Proxy {
    pub at: SocketAddr,
    met: Arc<Mutex<BTreeMap<Fate, u64>>>,
}

impl Proxy {
    pub fn new(decide: impl Fn(u64, &str, &str) -> Fate + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let met = Arc::new(Mutex::new(BTreeMap::new()));
        let (counts, decide): (_, Arc<Decide>) = (met.clone(), Arc::new(decide));
        let to = server();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counts, decide) = (counts.clone(), decide.clone());
                // Who talks to a proxy may hang up at any time.
                std::thread::spawn(move || drop(pass(client, to, &counts, &*decide)));
            }
        });
        Self { at, met }
    }

    /// Requests that met this fate.
    pub fn met(&self, fate: Fate) -> u64 {
        self.met.lock().unwrap().get(&fate).copied().unwrap_or(0)
    }
}

/// One request of a connection, and its answer; the connection ends with it.
fn pass(
    mut client: TcpStream,
    to: SocketAddr,
    counts: &Mutex<BTreeMap<Fate, u64>>,
    decide: &Decide,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        let mut byte = [0; 1];
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
        if request.ends_with(b"\r\n\r\n") {
            break String::from_utf8_lossy(&request).into_owned();
        }
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<u64>().ok())?
    });
    let fate = {
        let mut counts = counts.lock().unwrap();
        let fate = decide(counts.values().sum(), method, path);
        *counts.entry(fate).or_default() += 1;
        fate
    };
    let length = length.unwrap_or(0);
    if fate == Fate::CutRequest {
        (&client).take(length / 2).read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    let mut body = Vec::new();
    (&client).take(length).read_to_end(&mut body)?;
    if let Fate::Status(status) = fate {
        return write!(
            client,
            "HTTP/1.1 {status} Injected\r\nContent-Length: 8\r\nConnection: close\r\n\r\ninjected"
        );
    }
    let mut server = TcpStream::connect(to)?;
    for line in head.lines().filter(|l| !l.is_empty()) {
        let dropped = line.to_ascii_lowercase().starts_with("if-none-match");
        if fate != Fate::Unconditional || !dropped {
            write!(server, "{line}\r\n")?;
        }
    }
    write!(server, "Connection: close\r\n\r\n")?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fate {
        Fate::LostAnswer => return Ok(()),
        Fate::CutAnswer => answer.truncate(answer.len() / 2),
        Fate::Late(by) => std::thread::sleep(by),
        _ => {}
    }
    client.write_all(&answer)
}
