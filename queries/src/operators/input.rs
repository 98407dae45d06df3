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

/// Where references come from; they can be read more than once.
pub(crate) struct Source {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) context: Arc<TaskContext>,
}

impl Source {
    /// Starts all partitions. Wants a thread of the runtime.
    ///
    /// # Errors
    /// Those of the plan.
    pub(crate) fn start(&self) -> Result<Vec<Input>> {
        let partitions = self
            .plan
            .properties()
            .output_partitioning()
            .partition_count();
        (0..partitions)
            .map(|partition| self.partition(partition))
            .collect()
    }

    fn partition(&self, partition: usize) -> Result<Input> {
        let mut stream = self.plan.execute(partition, Arc::clone(&self.context))?;
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
    }
}
