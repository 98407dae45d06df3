//! What a long statement is doing: a line on the terminal, gone before the answer comes.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::stats::Precision;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Faster answers need no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the line is drawn anew.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// The line on stderr. Copies are the same line.
#[derive(Clone)]
pub(crate) struct Progress {
    started: Instant,
    /// Drawn nowhere when stderr is no terminal.
    bar: ProgressBar,
}

impl Progress {
    /// Begins to wait. `wanted` false: nothing is ever shown.
    pub(crate) fn new(wanted: bool) -> Progress {
        let target = if wanted && io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Progress {
            started: Instant::now(),
            bar: ProgressBar::with_draw_target(None, target),
        }
    }

    /// Draws the line, if it is time.
    pub(crate) fn tick(&self, plan: Option<&Arc<dyn ExecutionPlan>>, rows: usize) {
        if self.bar.is_hidden() || self.bar.is_finished() || self.started.elapsed() < PATIENCE {
            return;
        }
        let read = plan.map(Read::of).unwrap_or_default();
        let template = if read.total > 0 {
            "{spinner} {elapsed}  {bar:24} {percent} %  {msg}"
        } else {
            "{spinner} {elapsed}  {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        let mut message = String::new();
        if read.total > 0 {
            self.bar.set_length(read.total);
            self.bar.set_position(read.rows.min(read.total));
            let (rows, total) = (HumanCount(read.rows), HumanCount(read.total));
            message = format!("{rows} of {total} rows read, ");
        }
        message += &format!("{} out; Ctrl-C stops it", HumanCount(rows as u64));
        self.bar.set_message(message);
        self.bar.tick();
    }

    /// Takes the line away, for good.
    pub(crate) fn clear(&self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

/// Rows that the scans of a plan have read, and will read at most.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    rows: u64,
    total: u64,
}

impl Read {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Read {
        let mut read = Read::default();
        let mut plans = vec![plan];
        while let Some(plan) = plans.pop() {
            plans.extend(plan.children());
            if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
                read.add(scan);
            }
        }
        read
    }

    fn add(&mut self, scan: &DataSourceExec) {
        let statistics = scan.data_source().partition_statistics(None);
        let total = match statistics.map(|s| s.num_rows) {
            Ok(Precision::Exact(rows) | Precision::Inexact(rows)) => rows as u64,
            _ => return, // a scan of what is not ours
        };
        self.total = self.total.saturating_add(total);
        let Some(metrics) = scan.metrics() else {
            return;
        };
        for metric in metrics.iter() {
            // Rows that a filter dropped inside the scan were read, too, or need not be read any more.
            let rows = match metric.value() {
                MetricValue::OutputRows(rows) => rows.value(),
                MetricValue::Count { name, count } if name == "pushdown_rows_pruned" => {
                    count.value()
                }
                MetricValue::PruningMetrics {
                    name,
                    pruning_metrics,
                } if name == "page_index_rows_pruned" => pruning_metrics.pruned(),
                _ => 0,
            };
            self.rows = self.rows.saturating_add(rows as u64);
        }
    }
}

/// Takes the line away before anything is written to the terminal it stands on.
pub(crate) struct Clearing<'a> {
    pub(crate) out: &'a mut (dyn Write + Send),
    /// `None`: what is written goes elsewhere.
    pub(crate) progress: Option<Progress>,
}

impl Write for Clearing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
