//! `_relation(condition, a, b)` and `_relation_matrix(condition, top)`: how interleaved objects' references are.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, col, lit};
use pgtrace_locality::relation::Relations;

use super::inputs::Inputs;
use super::memory::Memory;
use super::pass::{Pass, each_capture};
use super::references::{Rows, text};
use super::texts::Texts;
use super::{Operator, Output};

pub(crate) const PAIR: &str = "_relation";
pub(crate) const MATRIX: &str = "_relation_matrix";

/// Objects of a matrix at most: a reference costs time, and a pair memory.
const MOST: u64 = 1024;

pub(crate) fn pair(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    let [a, b] = arguments else {
        return plan_err!("{PAIR} takes a condition and two objects");
    };
    let (a, b) = (Object::of(a)?, Object::of(b)?);
    match a == b {
        true => plan_err!("a relation is between two objects, found one twice"),
        false => Ok(Arc::new(Relation::Pair([a, b]))),
    }
}

pub(crate) fn matrix(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    let [top] = arguments else {
        return plan_err!("{MATRIX} takes a condition and a number of objects");
    };
    match top.cast_to(&DataType::UInt64) {
        Ok(ScalarValue::UInt64(Some(top))) if (2..=MOST).contains(&top) => {
            Ok(Arc::new(Relation::Matrix(top as usize)))
        }
        _ => plan_err!("a matrix has 2 to {MOST} objects, found {top}"),
    }
}

/// An object as a user names it.
#[derive(Clone, Debug, PartialEq)]
enum Object {
    Id(u64),
    /// All objects with this path.
    Path(String),
}

impl Object {
    fn of(value: &ScalarValue) -> Result<Self> {
        if let Some(Some(path)) = value.try_as_str() {
            return Ok(Self::Path(path.to_owned()));
        }
        match value.cast_to(&DataType::UInt64) {
            Ok(ScalarValue::UInt64(Some(id))) => Ok(Self::Id(id)),
            _ => plan_err!("an object is a path or an object_id, found {value}"),
        }
    }

    fn is(&self, id: u64, path: Option<&str>) -> bool {
        match self {
            Self::Id(own) => *own == id,
            Self::Path(own) => path == Some(own),
        }
    }
}

#[derive(Clone, Debug)]
enum Relation {
    Pair([Object; 2]),
    Matrix(usize),
}

impl Operator for Relation {
    fn name(&self) -> &'static str {
        match self {
            Relation::Pair(_) => PAIR,
            Relation::Matrix(_) => MATRIX,
        }
    }

    fn schema(&self) -> SchemaRef {
        let field = |name: &str, kind: &DataType, null| Field::new(name, kind.clone(), null);
        let (text, number, real) = (DataType::Utf8View, DataType::UInt64, DataType::Float64);
        Arc::new(Schema::new(vec![
            field("capture_id", &text, false),
            field("object_a", &number, true),
            field("path_a", &text, true),
            field("object_b", &number, true),
            field("path_b", &text, true),
            field("refs_a", &number, false),
            field("refs_b", &number, false),
            field("switches", &number, false),
            field("interleave", &real, true),
            field("runs_z", &real, true),
        ]))
    }

    fn reads(&self) -> &'static [&'static str] {
        &["object_id", "path"]
    }

    fn takes_only(&self) -> Option<Expr> {
        let Relation::Pair([a, b]) = self else {
            return None;
        };
        let is = |object: &Object| match object {
            Object::Id(id) => col("object_id").eq(lit(*id)),
            Object::Path(path) => col("path").eq(lit(path.clone())),
        };
        Some(is(a).or(is(b)))
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let top = match self {
            Relation::Pair(_) => HashMap::new(),
            Relation::Matrix(top) => {
                let found = most_referenced(input, output, memory, *top)?;
                input.again()?;
                found
            }
        };
        each_capture(input, output, memory, |capture| {
            let places = top.get(capture).cloned().unwrap_or_default();
            let count = if let Relation::Pair(_) = self {
                2
            } else {
                places.len()
            };
            Capture {
                id: Arc::clone(capture),
                relation: self.clone(),
                places,
                objects: vec![None; count],
                names: vec![None; count],
                relations: Relations::new(count),
                schema: self.schema(),
            }
        })
    }
}

/// Place in the matrix of each object that is in it, by capture.
type Places = HashMap<Arc<str>, HashMap<u64, Option<usize>>>;

/// Counts references to objects of one capture.
struct Count {
    id: Arc<str>,
    refs: HashMap<u64, u64>,
    top: usize,
    found: std::rc::Rc<std::cell::RefCell<Places>>,
}

impl Pass for Count {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        for id in &rows.object_id[range] {
            *self.refs.entry(*id).or_default() += 1;
        }
        memory.need(self.refs.capacity() * 32, "counting all objects")?;
        Ok(true)
    }

    fn end(self, _: &mut Output, _: &Memory) -> Result<bool> {
        let mut counted: Vec<(u64, u64)> = self.refs.into_iter().collect();
        counted.sort_unstable_by_key(|(id, refs)| (std::cmp::Reverse(*refs), *id));
        let places = counted
            .iter()
            .take(self.top)
            .enumerate()
            .map(|(place, (id, _))| (*id, Some(place)));
        self.found.borrow_mut().insert(self.id, places.collect());
        Ok(true)
    }
}

/// The objects with the most references of each capture, the most referenced first.
fn most_referenced(
    input: &mut Inputs,
    output: &mut Output,
    memory: &Memory,
    top: usize,
) -> Result<Places> {
    let found = std::rc::Rc::new(std::cell::RefCell::new(Places::new()));
    each_capture(input, output, memory, |capture| Count {
        id: Arc::clone(capture),
        refs: HashMap::new(),
        top,
        found: std::rc::Rc::clone(&found),
    })?;
    Ok(found.take())
}

struct Capture {
    id: Arc<str>,
    relation: Relation,
    /// Place of each object met so far; `None`: it has none.
    places: HashMap<u64, Option<usize>>,
    objects: Vec<Option<u64>>,
    names: Vec<Option<String>>,
    relations: Relations,
    schema: SchemaRef,
}

impl Capture {
    /// Place of an object, which may be met for the first time.
    fn place(&mut self, id: u64, rows: &Rows, row: usize) -> Option<usize> {
        if let Some(known) = self.places.get(&id) {
            let place = (*known)?;
            if self.objects[place].is_none() {
                self.name(place, id, rows, row);
            }
            return Some(place);
        }
        let Relation::Pair(pair) = &self.relation else {
            return None;
        };
        let path = text(rows.path.as_ref(), row);
        let place = pair.iter().position(|object| object.is(id, path));
        self.places.insert(id, place);
        self.name(place?, id, rows, row);
        place
    }

    fn name(&mut self, place: usize, id: u64, rows: &Rows, row: usize) {
        self.objects[place].get_or_insert(id);
        if self.names[place].is_none() {
            self.names[place] = text(rows.path.as_ref(), row).map(str::to_owned);
        }
    }
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        for row in range {
            if let Some(place) = self.place(rows.object_id[row], rows, row) {
                self.relations.reference(place);
            }
        }
        memory.need(
            self.places.capacity() * 40 + self.objects.len().pow(2) * 8,
            "the objects met",
        )?;
        Ok(true)
    }

    fn end(self, output: &mut Output, _: &Memory) -> Result<bool> {
        let count = self.objects.len();
        let pairs: Vec<(usize, usize)> = (0..count)
            .flat_map(|a| (a + 1..count).map(move |b| (a, b)))
            .collect();
        for part in pairs.chunks(super::BATCH) {
            let found: Vec<_> = part.iter().map(|&(a, b)| self.relations.of(a, b)).collect();
            let ids = |side: fn(&(usize, usize)) -> usize| {
                Arc::new(
                    part.iter()
                        .map(|p| self.objects[side(p)])
                        .collect::<UInt64Array>(),
                ) as ArrayRef
            };
            let paths = |side: fn(&(usize, usize)) -> usize| {
                let mut paths = Texts::default();
                part.iter()
                    .for_each(|p| paths.push(side(p) as u32, self.names[side(p)].as_deref()));
                paths.take()
            };
            let counts = |value: fn(&pgtrace_locality::relation::Relation) -> u64| {
                Arc::new(UInt64Array::from_iter_values(found.iter().map(value))) as ArrayRef
            };
            let columns = vec![
                Texts::same(&self.id, part.len()),
                ids(|p| p.0),
                paths(|p| p.0),
                ids(|p| p.1),
                paths(|p| p.1),
                counts(|r| r.refs_a),
                counts(|r| r.refs_b),
                counts(|r| r.switches),
                Arc::new(found.iter().map(|r| r.interleave).collect::<Float64Array>()),
                Arc::new(found.iter().map(|r| r.runs_z).collect::<Float64Array>()),
            ];
            if !output.give(RecordBatch::try_new(Arc::clone(&self.schema), columns)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
