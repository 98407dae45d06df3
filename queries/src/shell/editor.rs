//! The line editor: prompt, keys, history.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reedline::{
    ColumnarMenu, Emacs, FileBackedHistory, InputMode, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, ValidationResult,
    Validator, default_emacs_keybindings,
};

use super::complete::{Shared, SqlCompleter};
use super::highlight::SqlHighlighter;
use super::rc;
use crate::statements;

/// Entries that the history keeps.
const HISTORY: usize = 10_000;

/// An editor that completes from `catalog`, and stops reading when `stop` is set. What $EDITOR edits stands
/// in `folder`.
pub(super) fn editor(catalog: &Shared, stop: &Arc<AtomicBool>, folder: &Path) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = vec![
        ReedlineEvent::Menu("completion".to_owned()),
        ReedlineEvent::MenuNext,
    ];
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(complete),
    );
    let menu = ColumnarMenu::default()
        .with_name("completion")
        .with_input_mode(InputMode::FullBuffer); // FROM stands behind the columns it explains
    let completer = SqlCompleter {
        catalog: Arc::clone(catalog),
    };
    let highlighter = SqlHighlighter {
        catalog: Arc::clone(catalog),
    };
    let mut editor = Reedline::create()
        .with_validator(Box::new(Finished))
        .with_highlighter(Box::new(highlighter))
        .with_completer(Box::new(completer))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_break_signal(Arc::clone(stop))
        .with_ansi_colors(colors(&std::io::stdout()))
        .with_edit_mode(Box::new(Emacs::new(keys)));
    if let Some(program) = rc::variable("VISUAL").or_else(|| rc::variable("EDITOR")) {
        let mut editing = std::process::Command::new("sh"); // it may be a program with arguments
        editing.args(["-c", "exec $0 \"$@\""]).arg(program);
        editor = editor.with_buffer_editor(editing, folder.join("statement.sql"));
    }
    if let Some(path) = rc::history_path() {
        match FileBackedHistory::with_file(HISTORY, path.clone()) {
            Ok(history) => editor = editor.with_history(Box::new(history)),
            Err(e) => eprintln!("note: no history, {}: {e}", path.display()),
        }
    }
    editor
}

/// Whether colours are welcome there.
pub(crate) fn colors(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    stream.is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_none_or(|term| term != "dumb")
}

/// Enter ends the input when a statement is whole; before that it begins a new line.
struct Finished;

impl Validator for Finished {
    fn validate(&self, text: &str) -> ValidationResult {
        match statements::split(text).rest {
            None => ValidationResult::Complete,
            Some(_) => ValidationResult::Incomplete,
        }
    }
}

pub(super) struct PgtracePrompt;

impl Prompt for PgtracePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("pgtrace")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("      -> ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(history: {}) ", search.term))
    }
}
