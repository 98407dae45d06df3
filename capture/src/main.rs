//! `pgtrace-capture`: records page references of processes into raw chunks.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Parser;
use pgtrace_capture::chunk::Targets;
use pgtrace_capture::cli::{Cli, Cmd, Record, SnapshotOn, Source, TargetArgs, command};
use pgtrace_capture::control::Module;
use pgtrace_capture::doctor::{self, System, Verdict};
use pgtrace_capture::help_files::{self, More};
use pgtrace_capture::live::Live;
use pgtrace_capture::perf;
use pgtrace_capture::record::Level;
use pgtrace_capture::recorder::{self, Follow, Grain, News, Options, Signals};
use pgtrace_capture::status_text::describe;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// What the man page says besides.
const MORE: More<'_> = More {
    files: &[
        (
            "/sys/kernel/debug/pgtrace/",
            "the module's control and status files, and its buffers",
        ),
        (
            "DIR/cpuNNN-NNNNNN.pgt",
            "raw chunks: the bytes of one CPU, with CRC32C; each reads alone",
        ),
        (
            "/etc/default/pgtrace",
            "options of the service pgtrace.service, which records continuously",
        ),
    ],
    environment: &[(
        "PGTRACE_DEBUGFS",
        "where the module's files are, instead of /sys/kernel/debug/pgtrace",
    )],
    see_also: &[
        ("pgtrace-ingest", "1"),
        ("pgtrace-sql", "1"),
        ("perf_event_open", "2"),
        ("modinfo", "8"),
    ],
};

fn main() -> ExitCode {
    if let Some(code) = help_files::asked(&command(), MORE) {
        return code;
    }
    let cli = Cli::parse();
    let done = match cli.command {
        Cmd::Record(args) => record(*args),
        Cmd::Level { level } => tell(&format!("level {}", Level::from(level))),
        Cmd::Clean { period } => tell(&format!("clean {period}")),
        Cmd::Fifo { pages } => tell(&format!("fifo {pages}")),
        Cmd::Add(args) => targets(args, ""),
        Cmd::Remove(args) => targets(args, "remove "),
        Cmd::Snapshot { wait } => snapshot(wait),
        Cmd::Status { json } => status(json),
        Cmd::Stop => stop(),
        Cmd::Doctor { source, output } => examine(source, output),
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

/// SIGINT, SIGTERM and SIGHUP end a recording in order, SIGUSR1 takes a snapshot.
fn signals() -> anyhow::Result<(Arc<AtomicBool>, Arc<AtomicBool>)> {
    let (stop, snapshot) = (Arc::default(), Arc::default());
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catching signals")?;
    }
    signal_hook::flag::register(SIGUSR1, Arc::clone(&snapshot)).context("catching signals")?;
    // A file size limit is told by the write's error, as a full disk is: it must not kill the recorder.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .context("catching signals")?;
    Ok((stop, snapshot))
}

fn record(args: Record) -> anyhow::Result<ExitCode> {
    let (stop, snapshot) = signals()?;
    // perf cannot make pages fault again: what it cannot do is off unless it is asked for, and then refused.
    let (level, clean_ms) = match args.source {
        Source::Kmod => (Level::Rich, 500),
        Source::Perf => (Level::Light, 0),
    };
    let options = Options {
        targets: Targets {
            pids: args.pid,
            uids: args.uid,
            comms: args.comm,
            cgroups: args.cgroup,
            all: args.all,
            command: args.cmd,
        },
        follow: args.follow.map_or(Follow::default(), Follow::from),
        dir: args.output,
        level: args.level.map_or(level, Level::from),
        clean_ms: args.clean.unwrap_or(clean_ms),
        fifo: args.fifo.unwrap_or(0),
        grain: args.grain.map_or(Grain::default(), Grain::from),
        buffer: args.buffer,
        keep_last: args.keep_last,
        in_memory: args.in_memory,
        snapshot_on_exit: args.snapshot_on == Some(SnapshotOn::Exit),
        min_free: args.min_free,
        rotate_bytes: args.rotate_size,
        rotate_after: args.rotate_time,
        duration: args.duration,
    };
    let mut live = Live::new();
    let report = match args.source {
        Source::Kmod => {
            let signals = Signals { stop, snapshot };
            recorder::record(
                &options,
                &Module::from_env(),
                &signals,
                &mut |news| match news {
                    News::Progress(progress) => live.show(progress),
                    News::Words(words) => live.say(words),
                },
            )
        }
        Source::Perf => {
            live.say(&perf::cannot_see());
            perf::record(&options, &stop, &mut |p| live.show(p))
        }
    };
    live.clear();
    let report = report?;
    live.say(&report.to_string());
    Ok(match (report.errors.is_empty(), report.is_whole()) {
        (false, _) => ExitCode::from(2),
        (true, false) => ExitCode::from(1),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// Gives a command to the running recording.
fn tell(command: &str) -> anyhow::Result<ExitCode> {
    Module::from_env().while_recording(command)?;
    Ok(ExitCode::SUCCESS)
}

fn targets(args: TargetArgs, before: &str) -> anyhow::Result<ExitCode> {
    let targets = Targets {
        pids: args.pid,
        uids: args.uid,
        comms: args.comm,
        cgroups: args.cgroup,
        all: args.all,
        command: Vec::new(),
    };
    for target in targets.commands() {
        tell(&format!("{before}{target}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn snapshot(wait: bool) -> anyhow::Result<ExitCode> {
    for chunk in recorder::snapshot(&Module::from_env(), wait)? {
        writeln!(std::io::stdout(), "{}", chunk.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn status(json: bool) -> anyhow::Result<ExitCode> {
    let status = Module::from_env().status()?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        write!(out, "{}", describe(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stop() -> anyhow::Result<ExitCode> {
    let module = Module::from_env();
    let recording = module.status()?.is_recording();
    if recording {
        module.command("stop")?;
    }
    let said = if recording {
        "stopped"
    } else {
        "no recording is running"
    };
    let _ = writeln!(std::io::stderr(), "{said}");
    Ok(ExitCode::SUCCESS)
}

fn examine(source: Source, output: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let checks = doctor::examine(&System::from_env(), source, output.as_deref());
    let mut out = std::io::stdout();
    for check in &checks {
        writeln!(out, "{check}")?;
    }
    let worst = checks.iter().map(|check| check.verdict).max();
    Ok(ExitCode::from(match worst.unwrap_or(Verdict::Ok) {
        Verdict::Ok => 0,
        Verdict::Warning => 1,
        Verdict::Problem => 2,
    }))
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
