//! SQL functions, a file and a row each; what each does has a worked example, `sql/PACKAGE/NAME.slt`.

mod cut;
mod cut_seq;

use crate::session::Scope;

/// Makes a function known to a session.
type Register = fn(&Scope<'_>);

/// All functions, a row each.
#[rustfmt::skip]
const ALL: &[Register] = &[
    cut::register,
    cut_seq::register,
];

/// Makes all functions known to a session.
pub(crate) fn register(scope: &Scope<'_>) {
    ALL.iter().for_each(|register| register(scope));
}
