//! `pgtrace-sql cut`, `filter` and `split`: datasets of a dataset's rows.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use pgtrace_ingest::progress;
use pgtrace_sql::derive::filter::{ACCESSES, EVENTS, Filter, KINDS, addresses, known};
use pgtrace_sql::derive::{self, Progress};
use pgtrace_sql::range::{SeqRange, TimeRange};
use pgtrace_sql::session::Session;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::{begin, memory};

/// From where to where, and with what.
#[derive(Args)]
struct Common {
    /// The dataset: a folder, or a URL (s3://, gs://, az://, file://)
    dataset: String,
    /// Where the result goes: a new or an empty folder, or a URL
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Copy files whose rows are all asked for, instead of sharing them by a link
    #[arg(long)]
    copy: bool,
    /// Memory for rows
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = memory)]
    memory: usize,
    /// Where what needs more is put meanwhile [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// When.
#[derive(Args)]
struct Ranges {
    /// From A on and before B: a time after the capture's start like 2s or 500ms, or a timestamp like
    /// 2026-01-02T03:04:05.5Z; either may be left out
    #[arg(long, value_name = "A..B")]
    time: Option<TimeRange>,
    /// References numbered from A on and below B; either may be left out
    #[arg(long, value_name = "A..B")]
    seq: Option<SeqRange>,
}

/// Whose, of what, and how.
#[derive(Args)]
struct Conditions {
    /// Of these events only: fault, retouch, lookup, insert, evict
    #[arg(long, value_delimiter = ',', value_name = "EVENTS", value_parser = event)]
    event: Vec<String>,
    /// Of files with such a path only: `*` is any text, `?` any character; may be given several times
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Of these kinds of objects only: file, anon, heap, stack, shmem, hugetlb, vdso, other
    #[arg(long, value_delimiter = ',', value_name = "KINDS", value_parser = kind)]
    kind: Vec<String>,
    /// Of these objects only, by object_id
    #[arg(long, value_delimiter = ',', value_name = "N")]
    object: Vec<u64>,
    /// Of these processes only
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pid: Vec<u32>,
    /// Of these threads only
    #[arg(long, value_delimiter = ',', value_name = "N")]
    tid: Vec<u32>,
    /// Of these users only, by real user id
    #[arg(long, value_delimiter = ',', value_name = "N")]
    uid: Vec<u32>,
    /// Of such commands only, as in --path
    #[arg(long, value_name = "GLOB")]
    comm: Vec<String>,
    /// Of these accesses only: read, write, exec
    #[arg(long, value_delimiter = ',', value_name = "ACCESSES", value_parser = access)]
    access: Vec<String>,
    /// At addresses from LOW on and below HIGH only, as in 0x7f0000000000-0x7f0000010000
    #[arg(long, value_name = "LOW-HIGH", value_parser = addresses)]
    addr: Option<(u64, u64)>,
    /// Only where this is true: SQL over the columns of refs, cwd, cgroup and exe of the process, and slice; may be
    /// given several times
    #[arg(long = "where", value_name = "SQL")]
    condition: Vec<String>,
}

/// What to cut out.
#[derive(Args)]
pub(crate) struct CutArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ranges: Ranges,
}

/// What to keep.
#[derive(Args)]
pub(crate) struct FilterArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ranges: Ranges,
    #[command(flatten)]
    conditions: Conditions,
}

/// What to split by, and what of it.
#[derive(Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    common: Common,
    /// A dataset for each value of KEY: uid, pid, tid, cwd, comm, path, object, cgroup, slice, or SQL as in --where; may be
    /// given several times, for each combination
    #[arg(long, required = true, value_name = "KEY")]
    by: Vec<String>,
    /// Datasets at most
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    max_parts: u64,
    #[command(flatten)]
    ranges: Ranges,
    #[command(flatten)]
    conditions: Conditions,
}

fn event(text: &str) -> Result<String, String> {
    known(text, &EVENTS)
}

fn kind(text: &str) -> Result<String, String> {
    known(text, &KINDS)
}

fn access(text: &str) -> Result<String, String> {
    known(text, &ACCESSES)
}

impl Ranges {
    fn filter(self) -> Filter {
        Filter {
            time: self.time.unwrap_or_default(),
            seq: self.seq.unwrap_or_default(),
            ..Filter::default()
        }
    }
}

impl Conditions {
    fn filter(self, ranges: Ranges) -> Filter {
        Filter {
            events: self.event,
            paths: self.path,
            kinds: self.kind,
            objects: self.object,
            pids: self.pid,
            tids: self.tid,
            uids: self.uid,
            comms: self.comm,
            accesses: self.access,
            addr: self.addr,
            conditions: self.condition,
            ..ranges.filter()
        }
    }
}

/// Cuts. Gives whether references were lost in the time it covers.
pub(crate) fn cut(args: CutArgs) -> anyhow::Result<bool> {
    select("cut", &args.common, &args.ranges.filter())
}

/// Filters. Gives whether references were lost in the time it covers.
pub(crate) fn filter(args: FilterArgs) -> anyhow::Result<bool> {
    let filter = args.conditions.filter(args.ranges);
    select("filter", &args.common, &filter)
}

/// Splits. Gives whether references were lost in the time it covers.
pub(crate) fn split(args: SplitArgs) -> anyhow::Result<bool> {
    let filter = args.conditions.filter(args.ranges);
    let job = Job::begin("split", &args.common)?;
    let stop = stopped(&job.runtime)?;
    let work = derive::split(
        &job.session,
        &filter,
        &args.by,
        args.max_parts,
        &job.options,
        stop,
    );
    let done = job.runtime.block_on(work);
    job.end(done)
}

/// What all of them need.
struct Job {
    runtime: Runtime,
    session: Session,
    options: derive::Options,
    bar: ProgressBar,
}

impl Job {
    fn begin(command: &'static str, common: &Common) -> anyhow::Result<Self> {
        let (options, runtime) = begin(common.memory, common.spill_dir.as_deref(), common.threads)?;
        let session = runtime.block_on(Session::open(&common.dataset, &options))?;
        let bar = progress::bar();
        let told = bar.clone();
        let options = derive::Options {
            command,
            to: common.to.clone(),
            copy: common.copy,
            memory: options.memory,
            threads: options.threads.get(),
            tell: Arc::new(move |progress| match progress {
                Progress::Rows(rows) => told.set_length(told.length().unwrap_or(0) + rows),
                Progress::Read(rows) => told.inc(rows),
            }),
        };
        Ok(Self {
            runtime,
            session,
            options,
            bar,
        })
    }

    /// Says what was done; gives whether there are losses.
    fn end(self, done: Result<derive::Report, derive::DeriveError>) -> anyhow::Result<bool> {
        self.bar.finish_and_clear();
        let report = done?;
        // Words nobody reads are no reason to fail.
        let _ = write!(std::io::stderr(), "{report}");
        Ok(report.lost > 0)
    }
}

/// Ends with Ctrl-C, or when told to end; from this call on, neither ends the program.
fn stopped(runtime: &Runtime) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let _within = runtime.enter();
    let interrupt = signal(SignalKind::interrupt());
    let mut interrupt = interrupt.context("listening to Ctrl-C")?;
    let terminate = signal(SignalKind::terminate());
    let mut terminate = terminate.context("listening to SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn select(command: &'static str, common: &Common, filter: &Filter) -> anyhow::Result<bool> {
    let job = Job::begin(command, common)?;
    let stop = stopped(&job.runtime)?;
    let work = derive::select(&job.session, filter, &job.options, stop);
    let done = job.runtime.block_on(work);
    job.end(done)
}
