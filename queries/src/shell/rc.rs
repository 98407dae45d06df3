//! `.pgtracerc`: statements and commands at the start of an interactive shell.

use std::path::PathBuf;

/// A variable of the environment that is set and not empty.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// `PGTRACERC`, else `~/.pgtracerc`, else `pgtrace/pgtracerc` under the XDG configuration directory. The
/// first is wanted, the others are read if they are there.
pub(super) fn path() -> Option<PathBuf> {
    if std::env::var_os("PGTRACERC").is_some() {
        return variable("PGTRACERC"); // empty: none
    }
    let home = variable("HOME");
    let own = home.clone().map(|home| home.join(".pgtracerc"));
    let config = variable("XDG_CONFIG_HOME").or(home.map(|home| home.join(".config")));
    let config = config.map(|folder| folder.join("pgtrace/pgtracerc"));
    own.into_iter().chain(config).find(|path| path.is_file())
}

/// `PGTRACE_HISTORY`, else `pgtrace/history` under the XDG state directory.
pub(super) fn history_path() -> Option<PathBuf> {
    variable("PGTRACE_HISTORY").or_else(|| {
        let state =
            variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        Some(state?.join("pgtrace/history"))
    })
}
