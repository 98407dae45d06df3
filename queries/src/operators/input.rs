//! Starts the partitions that an operator reads, each on a task of its own: decoding goes on beside the analysis.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, channel};

/// Batches of one partition that may wait for the operator.
const WAITING: usize = 4;

/// A partition that is being read. Dropping it stops the reading.
pub(crate) struct Input {
    batches: Receiver<Result<RecordBatch>>,
    _task: SpawnedTask<()>,
}

impl Input {
    /// The next batch; waits for it.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.blocking_recv().transpose()
    }
}

/// Starts all partitions of `plan`.
///
/// # Errors
/// Those of the plan.
pub(crate) fn start(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Vec<Input>> {
    let partitions = plan.properties().output_partitioning().partition_count();
    let one = |partition| {
        let mut stream = plan.execute(partition, Arc::clone(context))?;
        let (to, batches) = channel(WAITING);
        let task = SpawnedTask::spawn(async move {
            while let Some(batch) = stream.next().await {
                if to.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Ok(Input {
            batches,
            _task: task,
        })
    };
    (0..partitions).map(one).collect()
}
