//! Runs statements and writes their results.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::output::{self, Format, Written};
use crate::session::Session;

/// Runs one statement and writes its result to `out`. SIGINT and SIGTERM stop the statement, not the process.
///
/// # Errors
/// What is wrong with the statement, what failed while it ran, or [`Error::Interrupted`].
pub async fn statement(
    session: &Session,
    sql: &str,
    format: Format,
    max_rows: Option<usize>,
    out: &mut (dyn Write + Send),
) -> Result<Written, Error> {
    let run = async {
        let rows = session.query(sql).await?;
        output::write(rows, format, max_rows, out).await
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Terminal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Terminal)?;
    tokio::select! {
        written = run => written.map_err(|e| session.hint(e)),
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    }
}
