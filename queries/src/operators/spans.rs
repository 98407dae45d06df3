//! `_working_set_curve(condition)` and `_aet_curve(condition)`: what follows from how long pages are not referenced.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue};
use pgtrace_locality::spans::{self, Spans};

use super::inputs::Inputs;
use super::memory::Memory;
use super::pages::{PageTable, Summary};
use super::pass::{Pass, Stretched, fold, in_stretches};
use super::references::Rows;
use super::{Operator, Output, curves, no_arguments};

pub(crate) const WORKING_SET_CURVE: &str = "_working_set_curve";
pub(crate) const AET_CURVE: &str = "_aet_curve";

pub(crate) fn working_set_curve(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    no_arguments(WORKING_SET_CURVE, arguments)?;
    Ok(Arc::new(Curve::WorkingSet))
}

pub(crate) fn aet_curve(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    no_arguments(AET_CURVE, arguments)?;
    Ok(Arc::new(Curve::Aet))
}

#[derive(Clone, Copy, Debug)]
enum Curve {
    WorkingSet,
    Aet,
}

impl Operator for Curve {
    fn name(&self) -> &'static str {
        match self {
            Curve::WorkingSet => WORKING_SET_CURVE,
            Curve::Aet => AET_CURVE,
        }
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Curve::WorkingSet => curves::schema("window_refs", "pages", &["refs"]),
            Curve::Aet => curves::schema("pages", "miss_ratio", &["refs"]),
        }
    }

    fn reads(&self) -> &'static [&'static str] {
        &["object_id", "page"]
    }

    fn in_stretches(&self) -> bool {
        true
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let extents = input.extents();
        in_stretches(input, output, memory, |capture, _, memory| Capture {
            id: Arc::clone(capture),
            curve: *self,
            table: PageTable::new(&extents, memory),
            spans: Spans::default(),
            refs: 0,
            schema: self.schema(),
        })
    }
}

/// First and last reference to a page, counted from 1; 0: none yet.
#[derive(Clone, Copy, Default)]
struct Ends {
    first: u64,
    last: u64,
}

impl Ends {
    /// Puts what a later stretch says behind this; the gap between them goes to `across`.
    fn join(&mut self, later: &Ends, across: &mut Spans) {
        if self.last == 0 {
            *self = *later;
        } else {
            across.add(later.first - self.last);
            self.last = later.last;
        }
    }
}

impl Summary for Ends {
    const WORDS: usize = 2;

    #[inline]
    fn known(&self) -> bool {
        self.last > 0
    }

    fn shift(&mut self, by: u64) {
        self.first += by;
        self.last += by;
    }

    fn words(&self) -> impl IntoIterator<Item = u64> {
        [self.first, self.last]
    }

    fn take(words: &dyn Fn(usize) -> u64) -> Self {
        Self {
            first: words(0),
            last: words(1),
        }
    }
}

struct Capture {
    id: Arc<str>,
    curve: Curve,
    table: PageTable<Ends>,
    spans: Spans,
    /// References so far: time, as these curves count it.
    refs: u64,
    schema: SchemaRef,
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        self.table.room(range.len(), memory, size_of::<Spans>())?;
        let (objects, pages) = (&rows.object_id[range.clone()], &rows.page[range]);
        let Self {
            table, spans, refs, ..
        } = self;
        table.references(objects, pages, |_, _, ends| {
            *refs += 1;
            if ends.last == 0 {
                ends.first = *refs;
            } else {
                spans.add(*refs - ends.last);
            }
            ends.last = *refs;
        });
        Ok(true)
    }

    fn end(self, output: &mut Output, memory: &Memory) -> Result<bool> {
        let Self {
            table,
            refs,
            mut spans,
            ..
        } = self;
        // Gaps across what was spilled, and what follows the last reference to a page.
        let (mut across, mut after) = (Spans::default(), Spans::default());
        let mut join = |known: &mut Ends, later: &Ends| known.join(later, &mut across);
        table.finish(memory, 0, &mut join, &mut |_, ends| {
            match self.curve {
                Curve::WorkingSet => after.add(refs + 1 - ends.last),
                Curve::Aet => after.add_endless(1),
            }
            Ok(true)
        })?;
        spans.merge(&across);
        spans.merge(&after);
        let curve = match self.curve {
            Curve::WorkingSet => spans::working_set_curve(&spans).collect(),
            Curve::Aet => spans::aet_curve(&spans),
        };
        curves::give(output, &self.schema, &self.id, &curve, &[refs])
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        fold(stretches, |whole: &mut Self, later| {
            let mut join = |known: &mut Ends, ends: &Ends| known.join(ends, &mut whole.spans);
            whole
                .table
                .join(later.table, whole.refs, memory, 0, &mut join)?;
            whole.spans.merge(&later.spans);
            whole.refs += later.refs;
            Ok(())
        })
    }
}
