//! Runs statements and writes their results.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::Error;
use crate::diagnose::explain;
use crate::output::{Format, Writer, Written};
use crate::progress::{Clearing, Progress, TICK};
use crate::session::Session;

/// How one result is written.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// In which format.
    pub format: Format,
    /// At most so many rows; `None`: all.
    pub max_rows: Option<usize>,
    /// Whether a long statement may show what it is doing on stderr, if that is a terminal.
    pub progress: bool,
}

/// Runs one statement on `threads` and writes its result to `out`. SIGINT and SIGTERM stop the statement, not
/// the process: the caller's own runtime sees them, even while every one of the threads computes.
///
/// # Errors
/// What is wrong with the statement, what failed while it ran, or [`Error::Interrupted`].
pub async fn statement(
    session: &Session,
    sql: &str,
    how: How,
    threads: &Handle,
    out: &mut (dyn Write + Send),
) -> Result<Written, Error> {
    let progress = Progress::new(how.progress);
    let on_terminal = std::io::stdout().is_terminal();
    let mut out = Clearing {
        out,
        progress: Some(progress.clone()).filter(|_| on_terminal),
    };
    let mut running = Running::start(session, sql, threads);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Terminal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Terminal)?;
    let written = tokio::select! {
        written = receive(&mut running, how, &mut out, &progress) => written,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    };
    progress.clear();
    written.map_err(|e| explain(session, sql, e))
}

/// Writes what comes, and draws the progress meanwhile.
async fn receive(
    running: &mut Running,
    how: How,
    out: &mut (dyn Write + Send),
    progress: &Progress,
) -> Result<Written, Error> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (schema, plan) = loop {
        tokio::select! {
            biased;
            message = running.next() => match message? {
                Some(Message::Started(schema, plan)) => break (schema, plan),
                Some(Message::Rows(_)) => {}
                None => return Ok(Written { rows: 0, cut: false, result: false }),
            },
            _ = ticks.tick() => progress.tick(None, 0),
        }
    };
    let mut writer = Writer::new(schema, how.format, how.max_rows, out)?;
    loop {
        tokio::select! {
            biased;
            message = running.next() => match message? {
                Some(Message::Rows(batch)) => if !writer.batch(batch)? {
                    break;
                }
                Some(Message::Started(..)) => {}
                None => break,
            },
            _ = ticks.tick() => {}
        }
        progress.tick(Some(&plan), writer.rows());
    }
    writer.end()
}

/// A statement that the runtime's threads work on: whoever waits for its rows can stop waiting at any time,
/// even while an operator computes and answers to nobody.
struct Running {
    messages: Receiver<Message>,
    work: JoinHandle<Result<(), DataFusionError>>,
}

enum Message {
    Started(SchemaRef, Arc<dyn ExecutionPlan>),
    Rows(RecordBatch),
}

impl Running {
    fn start(session: &Session, sql: &str, threads: &Handle) -> Running {
        let (sender, messages) = channel(1); // who reads slowly holds the query back
        let work = work(session.context().clone(), sql.to_owned(), sender);
        Running {
            messages,
            work: threads.spawn(work),
        }
    }

    /// `None`: that was all.
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        if let Some(message) = self.messages.recv().await {
            return Ok(Some(message));
        }
        match (&mut self.work).await {
            Ok(done) => Ok(done.map(|()| None)?),
            Err(broken) => Err(DataFusionError::External(Box::new(broken)).into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn work(
    context: SessionContext,
    sql: String,
    sender: Sender<Message>,
) -> Result<(), DataFusionError> {
    let frame = context.sql(&sql).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = stoppable(frame.create_physical_plan().await?)?;
    let mut rows = datafusion::physical_plan::execute_stream(Arc::clone(&plan), task)?;
    let mut open = sender
        .send(Message::Started(rows.schema(), plan))
        .await
        .is_ok();
    while open && let Some(batch) = rows.next().await {
        open = sender.send(Message::Rows(batch?)).await.is_ok();
    }
    Ok(())
}

/// Makes joins pause between batches. The engine lets a plan pause where its sources are read, but a join can
/// make millions of rows from what it has read: it would not notice for hours that nobody wants them.
fn stoppable(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let paused = plan.transform_up(|plan| {
        Ok(if plan.name().ends_with("JoinExec") {
            Transformed::yes(Arc::new(CooperativeExec::new(plan)))
        } else {
            Transformed::no(plan)
        })
    });
    Ok(paused?.data)
}
