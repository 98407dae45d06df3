//! What the commands do.

use std::io::Write;
use std::path::Path;

use super::command::help;
use super::{Command, Next, Shell, show, watch};
use crate::output::{Format, Target};
use crate::{Error, describe};

/// Scripts within scripts, at most: one that runs itself must end.
const DEPTH: usize = 16;

impl Shell<'_> {
    /// Runs the command that `line` is.
    pub(super) fn command(&mut self, line: &str) -> Result<Next, Error> {
        // A command of the system has colons of its own.
        let of_the_system = line.starts_with("\\!") || line.contains('|');
        let line = if of_the_system {
            line.to_owned()
        } else {
            self.expand(line)?
        };
        match Command::parse(&line).map_err(Error::Command)? {
            Command::Quit => return Ok(Next::Quit),
            Command::Help => self.print(&help())?,
            Command::List => self.print(&show::list(self.session))?,
            Command::Describe(name) => {
                let columns = describe::columns(self.session, &name);
                self.print(&show::columns(&self.runtime.block_on(columns)?))?;
            }
            Command::Views => self.print(&show::views(self.session))?,
            Command::View(name) => self.view(&name)?,
            Command::Format(None) => self.print(self.format().name())?,
            Command::Format(Some(format)) => self.set_format(format),
            Command::Expanded(on) => {
                let on = on.unwrap_or(self.format() != Format::Expanded);
                self.set_format(if on { Format::Expanded } else { Format::Table });
                self.say(&format!("expanded display is {}", word(on)));
            }
            Command::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                self.say(&format!("timing is {}", word(self.timing)));
            }
            Command::OutputEnd => self.send_to(Target::Stdout, None)?,
            Command::OutputFile(file) => {
                let path = Path::new(&file);
                self.send_to(Target::file(path)?, Format::of_file(path))?;
            }
            Command::OutputProgram(command) => {
                self.send_to(Target::program(&command)?, None)?;
            }
            Command::Include(file) => return self.include(&file),
            Command::Watch(seconds) => watch::watch(self, seconds)?,
            Command::Variables => {
                let all = self.variables.iter().map(|(n, v)| format!("{n} = '{v}'"));
                let all = all.collect::<Vec<_>>().join("\n");
                if !all.is_empty() {
                    self.print(&all)?;
                }
            }
            Command::Set(name, value) => {
                let set = self.variables.set(&name, &value);
                set.map_err(Error::Command)?;
                self.refresh_variables();
            }
            Command::Unset(name) => {
                if !self.variables.unset(&name) {
                    return Err(Error::Command(format!("no variable {name}")));
                }
                self.refresh_variables();
            }
            Command::Echo(text) => {
                writeln!(std::io::stdout(), "{text}").map_err(Error::Output)?;
            }
            Command::System(command) => self.system(&command)?,
        }
        Ok(Next::Line)
    }

    /// Tells a person what a command did; a script is not asked.
    fn say(&self, text: &str) {
        if self.interactive && self.depth == 0 {
            eprintln!("{text}");
        }
    }

    fn set_format(&mut self, format: Format) {
        (self.format, self.file_format) = (format, None);
    }

    /// Results go there from now on; what took them before gets its end.
    fn send_to(&mut self, target: Target, format: Option<Format>) -> Result<(), Error> {
        self.file_format = format;
        std::mem::replace(&mut self.target, target).close()
    }

    fn view(&self, name: &str) -> Result<(), Error> {
        let views = self.session.views().iter();
        match views.clone().find(|v| v.name == name) {
            Some(view) => self.print(&show::view(view)),
            // A table, or what the session made: its columns are all there is to say.
            None => {
                let columns = describe::columns(self.session, name);
                self.print(&show::columns(&self.runtime.block_on(columns)?))
            }
        }
    }

    fn include(&mut self, file: &str) -> Result<Next, Error> {
        if self.depth >= DEPTH {
            let error =
                format!("{file}: scripts within scripts, {DEPTH} deep; does it run itself?");
            return Err(Error::Command(error));
        }
        let text = std::fs::read_to_string(file).map_err(|cause| Error::SqlFile {
            path: file.into(),
            cause,
        })?;
        self.depth += 1;
        let done = self.script(file, &text);
        self.depth -= 1;
        done.map(|_| Next::Line) // \q ends that script
    }

    fn system(&self, command: &str) -> Result<(), Error> {
        let status = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Command(format!("{command:?} ended with {status}"))),
            Err(cause) => Err(Error::Command(format!("{command:?}: {cause}"))),
        }
    }
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
