//! What `status` says.

use std::path::Path;

use serde::Serialize;

use super::ControlError;

/// What the module says about itself. Counters are those since the last start; what an older module does not say is 0 or
/// empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Wire version it writes.
    pub version: u32,
    /// Version of the module.
    pub module: String,
    /// Kernel release it was loaded into.
    pub kernel: String,
    /// `idle`, `recording` or `stopped`.
    pub state: String,
    /// `light`, `rich` or `full`.
    pub level: String,
    /// Period of the cleaner in ms; 0: off.
    pub clean_ms: u32,
    /// Pages that may be active in one address space; 0: no FIFO.
    pub fifo: u32,
    /// `none`, `timer` or `fifo`.
    pub policy: String,
    /// `4k` or `2m`.
    pub grain: String,
    /// `exec`, `fork` or `none`.
    pub follow: String,
    /// 1: the refs channels keep the newest records.
    pub overwrite: u32,
    /// Targets asked for.
    pub targets: u64,
    /// Process that is setting a recording up; 0: none.
    pub owner: u32,
    /// Process whose exit ends the recording; 0: none, or the module does not say.
    pub recorder: u32,
    /// Bytes of a sub-buffer of the refs channel.
    pub subbuf_size: u64,
    /// Sub-buffers of the refs channel, per CPU.
    pub n_subbufs: u64,
    /// Bytes of a sub-buffer of the names channel.
    pub names_subbuf_size: u64,
    /// Sub-buffers of the names channel, per CPU.
    pub names_n_subbufs: u64,
    /// Processes traced now.
    pub processes: u64,
    /// Objects known.
    pub objects: u64,
    /// Counters of each CPU.
    pub cpus: Vec<CpuCounts>,
}

/// What the module counted on one CPU since the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CpuCounts {
    /// The CPU.
    pub cpu: u16,
    /// Records written to refs, LOST ones included.
    pub refs_emitted: u64,
    /// Records refs had no room for.
    pub refs_lost: u64,
    /// Records written to names, LOST ones included.
    pub names_emitted: u64,
    /// Records names had no room for.
    pub names_lost: u64,
    /// Records of refs that made room for newer ones, about: a sub-buffer that was read in part counts whole.
    pub refs_overwritten: u64,
}

impl Status {
    /// Understands the text of `status`; `path` names it in errors.
    ///
    /// # Errors
    /// It says nothing that can be understood, or a wire version that this program does not know.
    pub fn parse(text: &str, path: &Path) -> Result<Status, ControlError> {
        let mut status = Status::default();
        for line in text.lines() {
            let bad = || ControlError::BadStatus {
                path: path.to_path_buf(),
                expected: "`key value` with a number where one belongs",
                found: line.into(),
            };
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let number = || value.trim().parse::<u64>().map_err(|_| bad());
            let small = || value.trim().parse::<u32>().map_err(|_| bad());
            match key {
                "version" => status.version = small()?,
                "module" => status.module = value.trim().into(),
                "kernel" => status.kernel = value.trim().into(),
                "state" => status.state = value.trim().into(),
                "level" => status.level = value.trim().into(),
                "clean_ms" => status.clean_ms = small()?,
                "fifo" => status.fifo = small()?,
                "policy" => status.policy = value.trim().into(),
                "grain" => status.grain = value.trim().into(),
                "follow" => status.follow = value.trim().into(),
                "overwrite" => status.overwrite = small()?,
                "targets" => status.targets = number()?,
                "owner" => status.owner = small()?,
                "recorder" => status.recorder = small()?,
                "subbuf_size" => status.subbuf_size = number()?,
                "n_subbufs" => status.n_subbufs = number()?,
                "names_subbuf_size" => status.names_subbuf_size = number()?,
                "names_n_subbufs" => status.names_n_subbufs = number()?,
                "processes" => status.processes = number()?,
                "objects" => status.objects = number()?,
                "cpu" => status.cpus.push(CpuCounts::parse(value).ok_or_else(bad)?),
                // A newer module may say more.
                _ => {}
            }
        }
        match status.version {
            0 => Err(ControlError::BadStatus {
                path: path.to_path_buf(),
                expected: "a line `version N`",
                found: text.lines().next().unwrap_or_default().into(),
            }),
            found if found > u32::from(crate::wire::VERSION) => Err(ControlError::TooNew { found }),
            _ => Ok(status),
        }
    }

    /// Whether a recording runs.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.state == "recording"
    }

    /// Bytes of all refs channels together.
    #[must_use]
    pub fn refs_bytes(&self) -> u64 {
        (self.subbuf_size.saturating_mul(self.n_subbufs)).saturating_mul(self.cpus.len() as u64)
    }

    /// Records lost so far, on all CPUs and channels.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let counts = self.cpus.iter().flat_map(|c| [c.refs_lost, c.names_lost]);
        counts.fold(0, u64::saturating_add)
    }
}

impl CpuCounts {
    /// `0 refs_emitted 12 refs_lost 0 ...`
    fn parse(text: &str) -> Option<CpuCounts> {
        let mut words = text.split_whitespace();
        let mut counts = CpuCounts {
            cpu: words.next()?.parse().ok()?,
            ..CpuCounts::default()
        };
        while let Some(key) = words.next() {
            let value = words.next()?.parse().ok()?;
            match key {
                "refs_emitted" => counts.refs_emitted = value,
                "refs_lost" => counts.refs_lost = value,
                "names_emitted" => counts.names_emitted = value,
                "names_lost" => counts.names_lost = value,
                "refs_overwritten" => counts.refs_overwritten = value,
                _ => {}
            }
        }
        Some(counts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn status_is_understood_whatever_else_it_says() {
        let text = "version 1\nmodule 0.1.0\nkernel 6.1.0\nstate recording\nlevel rich\nclean_ms 500\nprocesses 2\n\
                    objects 7\nfuture 1 2 3\nsubbuf_size 1048576\n\
                    policy fifo\nfifo 512\nclean_ms 0\ngrain 2m\nfollow fork\noverwrite 1\ntargets 3\nowner 0\nrecorder 99\n\
                    cpu 0 refs_emitted 10 refs_lost 1 names_emitted 5 names_lost 0\n\
                    cpu 1 refs_emitted 3 refs_lost 0 names_emitted 2 names_lost 2 refs_overwritten 77 more 9\n";
        let status = Status::parse(text, Path::new("status")).unwrap();
        assert_eq!(
            (status.state.as_str(), status.processes, status.subbuf_size),
            ("recording", 2, 1 << 20)
        );
        assert_eq!(
            (status.cpus.len(), status.cpus[1].names_lost, status.lost()),
            (2, 2, 3)
        );
        let (policy, grain, follow) = (&*status.policy, &*status.grain, &*status.follow);
        assert_eq!(
            (policy, status.fifo, grain, follow),
            ("fifo", 512, "2m", "fork")
        );
        assert_eq!(
            (status.overwrite, status.targets, status.recorder),
            (1, 3, 99)
        );
        assert_eq!(status.cpus[1].refs_overwritten, 77);
    }

    #[test]
    fn bad_status_says_what_was_found() {
        let said = |text: &str| Status::parse(text, Path::new("s")).unwrap_err().to_string();
        assert_eq!(
            said("nonsense\n"),
            "s: expected a line `version N`, found \"nonsense\""
        );
        assert!(said("version 1\nprocesses many\n").ends_with("found \"processes many\""));
        assert!(said("version 1\ncpu 0 refs_emitted\n").contains("cpu 0 refs_emitted"));
        assert!(said("version 9\n").contains("wire version 9, this program knows up to 1"));
    }
}
