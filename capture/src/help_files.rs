//! Man pages and shell completions, made from a command's own definition, so that they cannot say anything else.
//!
//! Each of the three commands writes its own: `pgtrace-capture --help-files DIR`, for who makes packages (`make install`
//! does it). No help mentions it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::{Generator, Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// What a man page says that the command's definition does not.
#[derive(Debug, Clone, Copy, Default)]
pub struct More<'a> {
    /// Files it reads or writes: path, and what it is.
    pub files: &'a [(&'a str, &'a str)],
    /// Variables it looks at: name, and what it does.
    pub environment: &'a [(&'a str, &'a str)],
    /// Other pages: name and section.
    pub see_also: &'a [(&'a str, &'a str)],
}

/// Writes the files when the program was called with exactly `--help-files DIR`; the exit code then. To be asked before
/// the command line is parsed.
pub fn asked(command: &Command, more: More<'_>) -> Option<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [option, dir] = words.as_slice() else {
        return None;
    };
    if option != "--help-files" {
        return None;
    }
    Some(match write(command, more, Path::new(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((path, e)) => {
            let name = command.get_name();
            let _ = writeln!(io::stderr(), "{name}: {}: {e}", path.display());
            ExitCode::from(2)
        }
    })
}

/// Writes `man1/NAME.1`, `bash/NAME`, `zsh/_NAME` and `fish/NAME.fish` below `dir`, which is made when missing.
///
/// # Errors
/// A file or folder cannot be written: which, and what the system said.
pub fn write(command: &Command, more: More<'_>, dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let name = command.get_name();
    let mut files = vec![(format!("man1/{name}.1"), page(command, more))];
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        generate(shell, &mut command.clone(), name, &mut script);
        // bash-completion finds a script by the bare name of its command.
        let file = match shell {
            Shell::Bash => name.to_string(),
            _ => shell.file_name(name),
        };
        files.push((format!("{shell}/{file}"), Ok(script)));
    }
    for (file, bytes) in files {
        let path = dir.join(file);
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        std::fs::create_dir_all(&folder).map_err(|e| (folder, e))?;
        bytes
            .and_then(|bytes| std::fs::write(&path, bytes))
            .map_err(|e| (path, e))?;
    }
    Ok(())
}

/// The whole man page: one for a command and its subcommands.
fn page(command: &Command, more: More<'_>) -> io::Result<Vec<u8>> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_string();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("pgtrace");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut notes = Notes::default();
    notes.take(&command);
    let subcommands: Vec<&Command> = command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .collect();
    if !subcommands.is_empty() {
        let mut roff = Roff::new();
        roff.control("SH", ["COMMANDS"]);
        roff.to_writer(&mut out)?;
    }
    for sub in subcommands {
        notes.take(sub);
        subcommand(sub, &mut out)?;
    }
    notes.render(more, &mut out)?;
    man.render_version_section(&mut out)?;
    Ok(out)
}

/// A subcommand's part: its sections, one level down.
fn subcommand(sub: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(sub.clone());
    let mut roff = Roff::new();
    roff.control("SS", [sub.get_name()]);
    let about = sub.get_long_about().or_else(|| sub.get_about());
    roff.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
    roff.to_writer(out)?;
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    if sub
        .get_arguments()
        .any(|a| !a.is_hide_set() && a.get_id() != "help")
    {
        man.render_options_section(&mut part)?;
    }
    for line in part.split_inclusive(|&b| b == b'\n') {
        let heading = line.starts_with(b".SH")
            || line.starts_with(b".TH")
            || line.starts_with(b".ie")
            || line.starts_with(b".el");
        out.extend_from_slice(if heading { b".PP\n" } else { line });
    }
    Ok(())
}

/// What stands below the options in a command's help: its examples, exit codes, and the rest.
#[derive(Default)]
struct Notes {
    examples: Vec<String>,
    exit: Vec<String>,
    other: Vec<String>,
}

impl Notes {
    fn take(&mut self, command: &Command) {
        let help = command
            .get_after_long_help()
            .or_else(|| command.get_after_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        for paragraph in help
            .split("\n\n")
            .map(str::trim_end)
            .filter(|p| !p.is_empty())
        {
            let (head, rest) = paragraph.split_once(':').unwrap_or(("", paragraph));
            if head.starts_with("Example") {
                let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
                for line in lines.map(ToString::to_string) {
                    if !self.examples.contains(&line) {
                        self.examples.push(line);
                    }
                }
            } else if head.starts_with("Exit") {
                self.exit.push(rest.trim().into());
            } else {
                self.other.push(paragraph.into());
            }
        }
    }

    fn render(self, more: More<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let mut roff = Roff::new();
        for (title, texts) in [("NOTES", self.other), ("EXIT STATUS", self.exit)] {
            for (n, text) in texts.into_iter().enumerate() {
                if n == 0 {
                    roff.control("SH", [title]);
                }
                roff.control("PP", []);
                roff.text([roman(text)]);
            }
        }
        for (title, entries) in [("ENVIRONMENT", more.environment), ("FILES", more.files)] {
            if !entries.is_empty() {
                roff.control("SH", [title]);
            }
            for (name, what) in entries {
                roff.control("TP", []);
                roff.text([bold(*name)]);
                roff.text([roman(*what)]);
            }
        }
        if !self.examples.is_empty() {
            roff.control("SH", ["EXAMPLES"]);
            roff.control("nf", []);
            for line in self.examples {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        }
        if !more.see_also.is_empty() {
            roff.control("SH", ["SEE ALSO"]);
            let mut pages: Vec<Inline> = Vec::new();
            for (n, (name, section)) in more.see_also.iter().enumerate() {
                let comma = if n == 0 { "" } else { ", " };
                pages.extend([roman(comma), italic(*name), roman(format!("({section})"))]);
            }
            roff.text(pages);
        }
        roff.to_writer(out)
    }
}
