//! `_sampled_misses(condition, rate, pages)`: the miss-ratio curve of a sample of pages (SHARDS), of a fixed share of them
//! (`rate`), or of a fixed number (`pages`, where rate is null).

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue, plan_err};
use pgtrace_locality::shards::{Estimate, FixedShards, Shards};

use super::inputs::Inputs;
use super::memory::Memory;
use super::pass::{Pass, Place, Stretched, in_stretches};
use super::references::Rows;
use super::{Operator, Output, curves};

pub(crate) const NAME: &str = "_sampled_misses";

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    let [rate, pages] = arguments else {
        return plan_err!("{NAME} takes a condition, a rate and a number of pages");
    };
    let number = |value: &ScalarValue| match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => Ok(number),
        _ => plan_err!("expected a number, found {value}"),
    };
    let sample = match (number(rate)?, number(pages)?) {
        (Some(rate), _) if Shards::new(rate).is_some() => Sample::Rate(rate),
        (Some(rate), _) => return plan_err!("a rate is above 0 and at most 1, found {rate}"),
        (None, Some(pages)) if (1.0..=1e9).contains(&pages) => Sample::Pages(pages as usize),
        (None, found) => return plan_err!("a sample has 1 to 1000000000 pages, found {found:?}"),
    };
    Ok(Arc::new(sample))
}

#[derive(Clone, Copy, Debug)]
enum Sample {
    Rate(f64),
    Pages(usize),
}

impl Operator for Sample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        curves::schema(
            "pages",
            "miss_ratio",
            &["refs", "sampled_refs", "sampled_pages"],
        )
    }

    fn reads(&self) -> &'static [&'static str] {
        &["object_id", "page"]
    }

    fn in_stretches(&self) -> bool {
        // The rate of a fixed number of pages follows from all references before.
        matches!(self, Sample::Rate(_))
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        in_stretches(input, output, memory, |capture, place, _| {
            let sampler = match *self {
                // The rate was tried when the operator was made.
                Sample::Rate(rate) => Shards::of_stretch(rate, place == Place::Later)
                    .map_or_else(|| Sampler::Fixed(FixedShards::new(1)), Sampler::Rate),
                Sample::Pages(pages) => Sampler::Fixed(FixedShards::new(pages)),
            };
            Capture {
                id: Arc::clone(capture),
                sampler,
                schema: self.schema(),
            }
        })
    }
}

enum Sampler {
    Rate(Shards),
    Fixed(FixedShards),
}

struct Capture {
    id: Arc<str>,
    sampler: Sampler,
    schema: SchemaRef,
}

/// What a sampler may grow by in one stretch of a batch, above what it has.
const SLACK: usize = 4 << 20;

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        let (objects, pages) = (&rows.object_id[range.clone()], &rows.page[range]);
        let bytes = match &mut self.sampler {
            Sampler::Rate(shards) => {
                shards.references(objects, pages);
                shards.bytes()
            }
            Sampler::Fixed(shards) => {
                shards.references(objects, pages);
                shards.bytes()
            }
        };
        memory.need(bytes + SLACK, "the sampled pages (a lower rate takes less)")?;
        Ok(true)
    }

    fn end(self, output: &mut Output, _: &Memory) -> Result<bool> {
        let Estimate {
            curve,
            refs,
            sampled_refs,
            sampled_pages,
            ..
        } = match self.sampler {
            Sampler::Rate(shards) => shards.finish(),
            Sampler::Fixed(shards) => shards.finish(),
        };
        curves::give(
            output,
            &self.schema,
            &self.id,
            &curve,
            &[refs, sampled_refs, sampled_pages],
        )
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        let (mut samplers, mut bytes, mut first) = (Vec::new(), 0, None);
        for Capture {
            id,
            sampler,
            schema,
        } in stretches
        {
            let Sampler::Rate(shards) = sampler else {
                return Ok(None);
            };
            bytes += shards.bytes();
            samplers.push(shards);
            first.get_or_insert((id, schema));
        }
        memory.need(
            bytes + bytes / 2 + SLACK,
            "the sampled pages (a lower rate takes less)",
        )?;
        Ok(Shards::join(samplers)
            .zip(first)
            .map(|(shards, (id, schema))| Capture {
                id,
                sampler: Sampler::Rate(shards),
                schema,
            }))
    }
}
