//! Object stores by URL: how they are opened, and how long a failing one is borne with.

use std::future::Future;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpError;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreScheme, Result, RetryConfig,
};
use pgtrace_capture::units;
use url::{Position, Url};

/// Environment variable: how long a request that fails is repeated, like `30s`.
pub const PATIENCE: &str = "PGTRACE_STORE_PATIENCE";
/// What holds without it. Much longer would outlive the signature of a request.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(180);
/// Waits between tries begin with this, double, and end with the other.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(15);

/// Whether a place is named by a URL, and not by a path.
pub fn is_url(location: &str) -> bool {
    location.split_once("://").is_some_and(|(scheme, _)| {
        let mut letters = scheme.bytes();
        letters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && letters.all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
    })
}

/// Reads a URL of a store.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(location: &str) -> Result<Url, String> {
    let url = Url::parse(location).map_err(|e| format!("not a URL: {e}"))?;
    // They would be left out, and another object be taken for this one.
    match url.query().is_some() || url.fragment().is_some() {
        true => Err("expected a URL without ? and # (write them as %3F and %23)".into()),
        false => Ok(url),
    }
}

/// The path that a URL names within its store.
///
/// # Errors
/// The URL is of no store, in words.
pub fn path(url: &Url) -> Result<Path, String> {
    scheme(url).map(|(_, path)| path)
}

fn scheme(url: &Url) -> Result<(ObjectStoreScheme, Path), String> {
    ObjectStoreScheme::parse(url).map_err(|e| {
        format!(
            "expected a path, or a URL like s3://, gs://, az:// (abfs://), https:// or file://: {e}"
        )
    })
}

/// Opens the store of a URL, with the settings and credentials that the
/// environment has for its kind (`AWS_*`, `GOOGLE_*`, `AZURE_*`); gives the
/// path within it, too.
///
/// Not `object_store::parse_url_opts`: that takes variables like `REGION` or
/// `TOKEN` for its own, and lets nobody say how long to be patient.
///
/// # Errors
/// What is wrong with the URL or the settings, in words.
pub fn open(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    let (scheme, path) = scheme(url)?;
    let retry = retry(patience()?);
    let store: Result<Arc<dyn ObjectStore>> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            somebody()?;
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_retry(retry)
                .build()
                .map(|s| Arc::new(s) as _)
        }
        ObjectStoreScheme::GoogleCloudStorage => GoogleCloudStorageBuilder::from_env()
            .with_url(url.as_str())
            .with_retry(retry)
            .build()
            .map(|s| Arc::new(s) as _),
        ObjectStoreScheme::MicrosoftAzure => MicrosoftAzureBuilder::from_env()
            .with_url(url.as_str())
            .with_retry(retry)
            .build()
            .map(|s| Arc::new(s) as _),
        ObjectStoreScheme::Http => HttpBuilder::new()
            .with_url(&url[..Position::BeforePath])
            // Whoever writes http:// means it.
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(retry)
            .build()
            .map(|s| Arc::new(s) as _),
        // Of no use to anybody else.
        #[cfg(test)]
        ObjectStoreScheme::Memory => Ok(Arc::new(object_store::memory::InMemory::new()) as _),
        _ => return Err(format!("no object store has scheme {:?}", url.scheme())),
    };
    let store = store.map_err(|e| format!("cannot be opened: {e}"))?;
    Ok((store, path))
}

/// Whether there is anybody to be for S3. Without credentials the machine is asked for its role, over and over; most
/// machines have none, and the person who forgot the credentials should not wait for that.
fn somebody() -> Result<(), String> {
    let given = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SKIP_SIGNATURE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if given.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let metadata = std::env::var("AWS_METADATA_ENDPOINT");
    let metadata = metadata.unwrap_or_else(|_| "http://169.254.169.254".into());
    let reached = Url::parse(&metadata).map(|url| {
        let addresses = url.socket_addrs(|| None).unwrap_or_default();
        let connect = |a| TcpStream::connect_timeout(a, Duration::from_secs(1));
        addresses.iter().any(|a| connect(a).is_ok())
    });
    match reached {
        Ok(true) => Ok(()),
        _ => Err("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for \
            what anybody may read; and this machine has no role of its own"
            .into()),
    }
}

/// How long requests are repeated.
fn patience() -> Result<Duration, String> {
    match std::env::var(PATIENCE) {
        Ok(text) => units::time(&text).map_err(|e| format!("{PATIENCE}: {e}")),
        Err(_) => Ok(DEFAULT_PATIENCE),
    }
}

/// The time alone decides when to give up, not the number of tries.
fn retry(patience: Duration) -> RetryConfig {
    let mut retry = RetryConfig {
        max_retries: usize::MAX,
        retry_timeout: patience,
        ..RetryConfig::default()
    };
    retry.backoff.init_backoff = FIRST_WAIT;
    retry.backoff.max_backoff = LAST_WAIT;
    retry
}

/// Whether asking again may help: the connection was at fault, and `object_store` has not asked again itself, as it
/// has for every answer that told of passing trouble.
pub(crate) fn may_pass(e: &Error) -> bool {
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        if e.is::<HttpError>() {
            return true;
        }
        cause = e.source();
    }
    false
}

/// Whether the store said no: what was asked for has not been done, and will not be.
pub(crate) fn is_refusal(e: &Error) -> bool {
    matches!(
        e,
        Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::AlreadyExists { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
    )
}

/// A store's error in words for people: see [`plain`].
pub fn words(e: &Error) -> String {
    plain(&e.to_string())
}

/// The words of a store's error without what only its program is interested in: the answer's XML becomes the code and
/// message in it, and the number of tries goes, which is not what limits them. A bucket that is not there is said to be.
pub fn plain(text: &str) -> String {
    let mut text = text.replace(&format!(" max_retries: {},", usize::MAX), "");
    let inside = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>"))
            .map(|(inside, _)| inside)
    };
    let (Some(code), Some(message)) = (inside("Code"), inside("Message")) else {
        return text;
    };
    let said = format!("{code}: {message}");
    let missing = ["NoSuchBucket", "ContainerNotFound"].contains(&code);
    let begin = text.find("<?xml").or_else(|| text.find("<Error>"));
    let end = text.rfind("</Error>").map(|at| at + "</Error>".len());
    if let (Some(begin), Some(end)) = (begin, end)
        && begin < end
    {
        text.replace_range(begin..end, &said);
    }
    match missing {
        true => format!("expected a bucket that is there, found none of this name ({text})"),
        false => text,
    }
}

/// Waits between the tries of something that `object_store` does not repeat itself.
pub(crate) struct Tries {
    until: Instant,
    wait: Duration,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self {
            until: Instant::now() + patience().unwrap_or(DEFAULT_PATIENCE),
            wait: FIRST_WAIT,
        }
    }

    /// Waits; `false`: it has been long enough.
    pub(crate) async fn again(&mut self) -> bool {
        if Instant::now() + self.wait > self.until {
            return false;
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LAST_WAIT);
        true
    }
}

/// Does what may be done twice until it succeeds. `object_store` repeats
/// requests, but not what was cut while its answer was being read.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(
    mut what: impl FnMut() -> F,
) -> Result<T> {
    let mut tries = Tries::new();
    loop {
        match what().await {
            Err(e) if may_pass(&e) && tries.again().await => {}
            result => return result,
        }
    }
}

/// All objects below `prefix`, by path.
pub(crate) async fn list(
    store: &Arc<dyn ObjectStore>,
    prefix: Option<&Path>,
) -> Result<Vec<ObjectMeta>> {
    let mut objects: Vec<ObjectMeta> =
        patiently(|| store.list(prefix).try_collect::<Vec<_>>()).await?;
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(objects)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["s3://b/p", "gs://b", "az://c/x", "file:///tmp", "http://h"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["a/b", "/a", "a:b", "://x", "./s3://x", "9s://x", "C:\\x"] {
            assert!(!is_url(path), "{path}");
        }
    }

    #[test]
    fn a_url_that_would_be_read_as_another_is_refused() {
        assert!(parse("s3://b/a%23b%3Fc").is_ok());
        for url in ["s3://b/a#b", "s3://b/a?b", "s3://b/a?", "s3://[", "nothing"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_answer_in_xml_becomes_words() {
        let said = "Error performing GET http://h/b in 4ms, after 2 retries, max_retries: 18446744073709551615, \
            retry_timeout: 2s  - Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error>\
            <Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>x</RequestId></Error>";
        assert_eq!(
            plain(said),
            "Error performing GET http://h/b in 4ms, after 2 retries, retry_timeout: 2s  - Server returned non-2xx status \
            code: 403 Forbidden: AccessDenied: Access Denied"
        );
        let said = "404 Not Found: <Error><Code>NoSuchBucket</Code><Message>No</Message></Error>";
        assert_eq!(
            plain(said),
            "expected a bucket that is there, found none of this name (404 Not Found: NoSuchBucket: No)"
        );
        for same in [
            "",
            "503: injected",
            "<Code>a",
            "</Error><Code></Code>",
            "<Error>",
        ] {
            assert_eq!(plain(same), same);
        }
        // Tags in no order are no reason to panic.
        plain("</Error><Code>a</Code><Message>b</Message><?xml");
    }

    #[test]
    fn a_scheme_nobody_knows_is_named() {
        let error = open(&Url::parse("ftp://host/x").unwrap()).unwrap_err();
        assert!(
            error.contains("ftp://host") && error.contains("s3://"),
            "{error}"
        );
    }
}
