//! `pgtrace-capture`: records page references of processes into raw chunks.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use pgtrace_capture::chunk::Targets;
use pgtrace_capture::cli::{Cli, Cmd, Record, Source};
use pgtrace_capture::control::{Module, Status};
use pgtrace_capture::perf;
use pgtrace_capture::record::Level;
use pgtrace_capture::recorder::{self, Options, Progress};
use pgtrace_capture::units::{show_bytes, show_count};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Cmd::Record(args) => record(args),
        Cmd::Status => status(),
        Cmd::Stop => stop(),
    };
    match done {
        Ok(code) => code,
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            // Nobody may be there to read it; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "pgtrace-capture: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn record(args: Record) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catching signals")?;
    }
    // A file size limit is told by the write's error, as a full disk is: it must not kill the recorder.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .context("catching signals")?;
    // perf cannot make pages fault again: what it cannot do is off unless it is asked for, and then refused.
    let (level, clean_ms) = match args.source {
        Source::Kmod => (Level::Rich, 500),
        Source::Perf => (Level::Light, 0),
    };
    let options = Options {
        targets: Targets {
            pids: args.pid,
            uids: args.uid,
            command: args.cmd,
            ..Targets::default()
        },
        dir: args.output,
        level: args.level.map_or(level, Level::from),
        clean_ms: args.clean.unwrap_or(clean_ms),
        rotate_bytes: args.rotate_size,
        rotate_after: args.rotate_time,
        duration: args.duration,
    };
    let mut live = Live::new();
    let report = match args.source {
        Source::Kmod => {
            recorder::record(&options, &Module::from_env(), &stop, &mut |p| live.show(p))
        }
        Source::Perf => {
            let _ = writeln!(std::io::stderr(), "{}", perf::cannot_see());
            perf::record(&options, &stop, &mut |p| live.show(p))
        }
    };
    live.clear();
    let report = report?;
    let _ = writeln!(std::io::stderr(), "{report}"); // words; the chunks are what was asked for
    Ok(match (report.errors.is_empty(), report.is_whole()) {
        (false, _) => ExitCode::from(2),
        (true, false) => ExitCode::from(1),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn status() -> anyhow::Result<ExitCode> {
    let status = Module::from_env().status()?;
    write!(std::io::stdout(), "{}", describe(&status))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(s: &Status) -> String {
    let mut text = format!(
        "module {} (wire version {}): {}\nlevel {}, cleaner {}\n{} processes, {} objects\nbuffers a CPU: {} x {} refs, {} x {} names\n",
        s.module,
        s.version,
        s.state,
        s.level,
        if s.clean_ms == 0 {
            "off".into()
        } else {
            format!("every {} ms", s.clean_ms)
        },
        show_count(s.processes),
        show_count(s.objects),
        s.n_subbufs,
        show_bytes(s.subbuf_size),
        s.names_n_subbufs,
        show_bytes(s.names_subbuf_size),
    );
    for c in &s.cpus {
        text += &format!(
            "cpu {}: refs {} written, {} lost; names {} written, {} lost\n",
            c.cpu,
            show_count(c.refs_emitted),
            show_count(c.refs_lost),
            show_count(c.names_emitted),
            show_count(c.names_lost),
        );
    }
    text
}

fn stop() -> anyhow::Result<ExitCode> {
    let module = Module::from_env();
    let was = module.status()?.state;
    if was == "recording" {
        module.command("stop")?;
    }
    let said = if was == "recording" {
        "stopped"
    } else {
        "no recording is running"
    };
    let _ = writeln!(std::io::stderr(), "{said}");
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The line that shows how the recording goes, on a terminal only.
struct Live {
    terminal: bool,
    before: (Duration, u64, u64),
}

impl Live {
    fn new() -> Live {
        Live {
            terminal: std::io::stderr().is_terminal(),
            before: Default::default(),
        }
    }

    fn show(&mut self, p: Progress) {
        if !self.terminal {
            return;
        }
        let (then, records, bytes) = self.before;
        let seconds = (p.elapsed.saturating_sub(then)).as_secs_f64().max(1e-3);
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{} s  {} records/s  {}/s  {} so far  {} lost",
            p.elapsed.as_secs(),
            show_count(rate(p.records, records)),
            show_bytes(rate(p.bytes, bytes)),
            show_bytes(p.bytes),
            show_count(p.lost),
        );
        self.before = (p.elapsed, p.records, p.bytes);
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
