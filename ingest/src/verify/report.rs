//! What was checked, how much of it, and where it does not hold: for people, one line a rule.

use std::fmt;

use pgtrace_capture::units::show_count;

/// Places shown of a rule that does not hold; all are counted.
const PLACES: usize = 5;

/// One rule and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What is counted, and what must hold for it.
    pub what: &'static str,
    /// How many were checked.
    pub checked: u64,
    /// How often it does not hold.
    pub violations: u64,
    /// Where: the first few.
    pub places: Vec<String>,
    /// What is worth knowing, and no violation.
    pub notes: Vec<String>,
}

impl Rule {
    /// A rule nothing was checked against so far.
    pub fn new(name: &'static str, what: &'static str) -> Self {
        Self {
            name,
            what,
            checked: 0,
            violations: 0,
            places: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// So many more were checked.
    pub fn check(&mut self, count: u64) {
        self.checked = self.checked.saturating_add(count);
    }

    /// It does not hold, there; the text is made only if it will be shown.
    pub fn violation(&mut self, place: impl FnOnce() -> String) {
        self.violations = self.violations.saturating_add(1);
        if self.places.len() < PLACES {
            self.places.push(place());
        }
    }

    /// Something worth knowing.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.violations == 0
    }

    /// Adds what another part of the input came to.
    pub fn merge(&mut self, other: Self) {
        self.check(other.checked);
        self.violations = self.violations.saturating_add(other.violations);
        let room = PLACES - self.places.len().min(PLACES);
        self.places.extend(other.places.into_iter().take(room));
        self.notes.extend(other.notes);
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, what) = (self.name, self.what);
        let checked = show_count(self.checked);
        match self.violations {
            0 => writeln!(f, "  {name:<10} ok         {checked} {what}")?,
            n => writeln!(
                f,
                "  {name:<10} VIOLATION  {checked} {what}: {} times not",
                show_count(n)
            )?,
        }
        for place in &self.places {
            writeln!(f, "      {place}")?;
        }
        let more = self.violations - self.places.len() as u64;
        if more > 0 {
            writeln!(f, "      and {} more", show_count(more))?;
        }
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "      note: {note}"))
    }
}

/// One recording or dataset, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it is, for people.
    pub title: String,
    /// The rules, in the order they are shown.
    pub rules: Vec<Rule>,
}

/// All that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Recordings and datasets, in order.
    pub subjects: Vec<Subject>,
}

impl Report {
    /// Whether every rule holds everywhere.
    pub fn holds(&self) -> bool {
        let mut rules = self.subjects.iter().flat_map(|s| &s.rules);
        rules.all(Rule::holds)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for subject in &self.subjects {
            writeln!(f, "{}", subject.title)?;
            subject.rules.iter().try_for_each(|r| write!(f, "{r}"))?;
        }
        Ok(())
    }
}
