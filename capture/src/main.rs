//! `pgtrace-capture`: records page references of processes into raw chunks.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use pgtrace_capture::chunk::Targets;
use pgtrace_capture::control::{Module, Status};
use pgtrace_capture::record::Level;
use pgtrace_capture::recorder::{self, Options, Progress};
use pgtrace_capture::units::{self, show_bytes, show_count};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// Records which pages processes reference, in order, into raw chunks. Needs root and the pgtrace module.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 good; 1 recorded, but with losses or damage; 2 error.\n\n\
    Example: pgtrace-capture record -o raw -- sort big.txt"
)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Record processes until they end, Ctrl-C, or a time is over
    #[command(
        after_help = "Examples:\n  pgtrace-capture record -o raw -- sort big.txt\n  \
        pgtrace-capture record --pid 4242 --duration 30s -o raw\n  \
        pgtrace-capture record --uid 1000 --level full --clean off -o raw"
    )]
    Record(Record),
    /// Say what the module is doing
    #[command(after_help = "Example: pgtrace-capture status")]
    Status,
    /// End a recording, also one whose recorder is gone
    #[command(after_help = "Example: pgtrace-capture stop")]
    Stop,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("target").required(true).multiple(true).args(["pid", "uid", "cmd"])))]
struct Record {
    /// Trace this process and what it forks; may be given several times
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "cmd")]
    pid: Vec<u32>,
    /// Trace every process of this user; may be given several times
    #[arg(
        long,
        value_name = "UID",
        value_delimiter = ',',
        conflicts_with = "cmd"
    )]
    uid: Vec<u32>,
    /// Folder for the chunks; made when missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// light: first touches; rich: and re-references; full: and page-cache look-ups
    #[arg(long, value_enum, default_value = "rich")]
    level: LevelArg,
    /// How often pages are made to fault at their next touch; off: never
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = units::period_ms)]
    clean: u32,
    /// Begin a new chunk at this size
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = rotate_size)]
    rotate_size: u64,
    /// Begin a new chunk at this age
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    rotate_time: Duration,
    /// End the recording after this time
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    duration: Option<Duration>,
    /// Run this command and trace it and what it forks
    #[arg(last = true, value_name = "CMD")]
    cmd: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArg {
    Light,
    Rich,
    Full,
}

fn rotate_size(text: &str) -> Result<u64, String> {
    match units::size(text) {
        Ok(bytes) if bytes >= 4096 => Ok(bytes),
        Ok(_) => Err(format!("expected at least 4KiB, found \"{text}\"")),
        Err(e) => Err(e.to_string()),
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err(format!("expected more than nothing, found \"{text}\"")),
        Err(e) => Err(e.to_string()),
    }
}

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
    let options = Options {
        targets: Targets {
            pids: args.pid,
            uids: args.uid,
            command: args.cmd,
            ..Targets::default()
        },
        dir: args.output,
        level: match args.level {
            LevelArg::Light => Level::Light,
            LevelArg::Rich => Level::Rich,
            LevelArg::Full => Level::Full,
        },
        clean_ms: args.clean,
        rotate_bytes: args.rotate_size,
        rotate_after: args.rotate_time,
        duration: args.duration,
    };
    let mut live = Live::new();
    let report = recorder::record(&options, &Module::from_env(), &stop, &mut |p| live.show(p));
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
