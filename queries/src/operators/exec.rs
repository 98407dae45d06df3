//! Runs an operator within a plan.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
    PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, SpillMetrics,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt;
use pgtrace_locality::index::Extent;
use tokio::runtime::Handle;

use super::input::Source;
use super::inputs::Inputs;
use super::memory::Memory;
use super::references::References;
use super::{Operator, Output};

/// What the manifest says of an operator's references.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The capture of all of them, if there is but one.
    pub(crate) capture: Option<Arc<str>>,
    /// Whether each input is one partition in order, whether or not it has the column `seq`.
    pub(crate) ordered: bool,
    /// Where the pages lie, if they lie close together.
    pub(crate) extents: Arc<[Extent]>,
}

/// An operator and where its references come from: plans of stretches that follow one another.
#[derive(Debug)]
pub(crate) struct OperatorExec {
    operator: Arc<dyn Operator>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    /// The small table that it reads besides.
    beside: Option<Arc<dyn ExecutionPlan>>,
    known: Known,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OperatorExec {
    pub(crate) fn new(
        operator: Arc<dyn Operator>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        beside: Option<Arc<dyn ExecutionPlan>>,
        known: Known,
        projection: Option<Vec<usize>>,
    ) -> Result<Self> {
        let schema = operator.schema();
        let schema = match &projection {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => schema,
        };
        let mut equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        // One capture's rows after the other's, in the order of the input. None is null, so nulls lie where they are wanted.
        if let Ok(capture) = schema.index_of("capture_id") {
            for nulls_first in [false, true] {
                let expr = Arc::new(Column::new("capture_id", capture)) as Arc<dyn PhysicalExpr>;
                let options = SortOptions {
                    descending: false,
                    nulls_first,
                };
                equivalences.add_ordering([PhysicalSortExpr { expr, options }]);
            }
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            operator,
            inputs,
            beside,
            known,
            projection,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for OperatorExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OperatorExec: {:?}, {} stretches, {}",
            self.operator,
            self.inputs.len(),
            if self.known.extents.is_empty() {
                "pages hashed"
            } else {
                "pages in place"
            }
        )
    }
}

impl ExecutionPlan for OperatorExec {
    fn name(&self) -> &'static str {
        "OperatorExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().chain(&self.beside).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::UnspecifiedDistribution; self.children().len()]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        if self.known.ordered {
            return vec![None; self.children().len()];
        }
        // The first columns of the input are capture_id, unless there is but one, and seq. Each partition has to be in order; References puts
        // them together.
        let options = Some(SortOptions {
            descending: false,
            nulls_first: false,
        });
        let column = |(i, name): (usize, &str)| {
            PhysicalSortRequirement::new(
                Arc::new(Column::new(name, i)) as Arc<dyn PhysicalExpr>,
                options,
            )
        };
        let names = match self.known.capture {
            Some(_) => &["seq"][..],
            None => &["capture_id", "seq"],
        };
        let order = LexRequirement::new(names.iter().copied().enumerate().map(column));
        let mut orders = vec![order.map(OrderingRequirements::new); self.inputs.len()];
        orders.extend(self.beside.iter().map(|_| None));
        orders
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children().len() {
            return internal_err!("an operator keeps the number of its inputs");
        }
        let beside = self.beside.as_ref().and_then(|_| children.pop());
        Ok(Arc::new(Self::new(
            Arc::clone(&self.operator),
            children,
            beside,
            self.known.clone(),
            self.projection.clone(),
        )?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(Recompute))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("an operator has one output, not one numbered {partition}");
        }
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.operator.schema(), 2);
        let here = (self.inputs.len() > 1).then(Handle::current);
        let source = |plan: &Arc<dyn ExecutionPlan>| Source {
            plan: Arc::clone(plan),
            context: Arc::clone(&context),
            here: here.clone(),
        };
        let all: Vec<usize> = (0..self.operator.schema().fields().len()).collect();
        let wanted: Arc<[usize]> = self.projection.clone().unwrap_or(all).into();
        let reads: Arc<[&'static str]> = self.operator.reads_for(&wanted).into();
        let start = |plan| {
            let source = source(plan);
            let partitions = source.start()?;
            if self.known.ordered && partitions.len() != 1 {
                return internal_err!(
                    "an input in order is one partition, not {}",
                    partitions.len()
                );
            }
            Ok(References::new(
                source,
                partitions,
                Arc::clone(&reads),
                self.known.capture.clone(),
            ))
        };
        let stretches = self.inputs.iter().map(start).collect::<Result<Vec<_>>>()?;
        let mut inputs = Inputs::new(stretches, Arc::clone(&self.known.extents));
        let beside = self.beside.as_ref().map(|plan| source(plan).start());
        let beside = beside.transpose()?.unwrap_or_default();
        let memory = Memory::new(
            self.operator.name(),
            &context,
            SpillMetrics::new(&self.metrics, partition),
        );
        let (operator, to) = (Arc::clone(&self.operator), builder.tx());
        builder.spawn_blocking(move || {
            inputs.read_beside(beside)?;
            operator.run(&mut inputs, &mut Output { to, wanted }, &memory)
        });
        let (rows, schema) = (builder.build(), self.schema());
        let projected = projected(self.projection.clone(), Arc::clone(&schema));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let stream = rows.map(move |batch| {
            let batch = projected(batch?)?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

type Batch = arrow::array::RecordBatch;

fn projected(columns: Option<Vec<usize>>, schema: SchemaRef) -> impl Fn(Batch) -> Result<Batch> {
    move |batch| match &columns {
        Some(columns) => {
            let batch = batch.project(columns)?;
            // Without columns the number of rows is all there is.
            Ok(batch.with_schema(Arc::clone(&schema))?)
        }
        None => Ok(batch),
    }
}
