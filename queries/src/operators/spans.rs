//! `_working_set_curve(condition)` and `_aet_curve(condition)`: what follows from how long pages are not referenced.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue};
use pgtrace_locality::spans::{self, Spans};

use super::memory::Memory;
use super::pages::{PageTable, Summary};
use super::pass::{Pass, each_capture};
use super::references::{References, Rows};
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

    fn run(&self, input: &mut References, output: &mut Output, memory: &Memory) -> Result<()> {
        each_capture(input, output, memory, |capture| Capture {
            id: Arc::clone(capture),
            curve: *self,
            table: PageTable::new(),
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

impl Summary for Ends {
    const WORDS: usize = 2;

    fn put(&self, words: &mut [Vec<u64>]) {
        words[0].push(self.first);
        words[1].push(self.last);
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
        for row in range {
            self.refs += 1;
            let object = self.table.index.object(rows.object_id[row]);
            let ends = self.table.state(object, rows.page[row]);
            if ends.last == 0 {
                ends.first = self.refs;
            } else {
                self.spans.add(self.refs - ends.last);
            }
            ends.last = self.refs;
        }
        Ok(true)
    }

    fn end(self, output: &mut Output, memory: &Memory) -> Result<bool> {
        let Self {
            table,
            refs,
            mut spans,
            ..
        } = self;
        // Gaps from one stretch to the next, and what follows the last reference to a page.
        let (mut across, mut after) = (Spans::default(), Spans::default());
        let mut join = |known: &mut Ends, later: &Ends| {
            if known.last == 0 {
                *known = *later;
            } else {
                across.add(later.first - known.last);
                known.last = later.last;
            }
        };
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
