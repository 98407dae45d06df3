//! Starts the partitions that an operator reads: each on a task of its own, so that decoding goes on beside the analysis, or
//! where every thread has a stretch to work on, as that thread wants them: what was decoded is then still in its cache.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};

/// Batches of one partition that may wait for the operator.
const WAITING: usize = 4;

/// A partition that is being read. Dropping it stops the reading.
pub(crate) enum Input {
    /// By a task.
    Beside {
        batches: Receiver<Result<RecordBatch>>,
        _task: SpawnedTask<()>,
    },
    /// By whoever asks for a batch.
    Here {
        stream: SendableRecordBatchStream,
        runtime: Handle,
    },
}

impl Input {
    /// The next batch; waits for it. Wants a thread that may block.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Input::Beside { batches, .. } => batches.blocking_recv(),
            Input::Here { stream, runtime } => runtime.block_on(stream.next()),
        }
        .transpose()
    }
}

/// Where references come from; they can be read more than once.
pub(crate) struct Source {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) context: Arc<TaskContext>,
    /// The runtime to read on, if whoever asks for a batch is to decode it.
    pub(crate) here: Option<Handle>,
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
        if let Some(runtime) = &self.here {
            let runtime = runtime.clone();
            return Ok(Input::Here { stream, runtime });
        }
        let (to, batches) = channel(WAITING);
        let task = SpawnedTask::spawn(async move {
            while let Some(batch) = stream.next().await {
                if to.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Ok(Input::Beside {
            batches,
            _task: task,
        })
    }
}
