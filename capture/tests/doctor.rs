#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! `doctor` against machines made of files.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A machine on which all is well.
fn machine() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let config: String = [
        "RELAY",
        "DEBUG_FS",
        "KPROBES",
        "FUNCTION_TRACER",
        "TRACEPOINTS",
        "NUMA_BALANCING",
    ]
    .map(|name| format!("CONFIG_{name}=y\n"))
    .concat();
    for (path, text) in [
        ("/proc/sys/kernel/arch", "x86_64\n"),
        ("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
        ("/boot/config-6.1.0-13-amd64", &config),
        (
            "/lib/modules/6.1.0-13-amd64/modules.dep",
            "kernel/fs/9p.ko: a.ko\nupdates/dkms/pgtrace.ko.xz:\n",
        ),
        ("/sys/module/pgtrace/version", version),
        (
            "/sys/kernel/security/lockdown",
            "[none] integrity confidentiality\n",
        ),
        ("/sys/module/module/parameters/sig_enforce", "N\n"),
        (
            "/proc/self/mounts",
            "none /sys/kernel/debug debugfs rw 0 0\n",
        ),
        ("/sys/kernel/debug/pgtrace/status", "version 1\n"),
        ("/sys/kernel/debug/pgtrace/control", ""),
        ("/sys/devices/system/node/online", "0\n"),
        ("/proc/sys/kernel/numa_balancing", "0\n"),
        ("/sys/kernel/debug/fault_around_bytes", "4096\n"),
        ("/proc/swaps", "Filename Type Size Used Priority\n"),
        (
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]\n",
        ),
        ("/proc/sys/kernel/perf_event_paranoid", "2\n"),
    ] {
        put(dir.path(), path, text);
    }
    dir
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn remove(root: &Path, path: &str) {
    let path = root.join(path.trim_start_matches('/'));
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

/// Exit code and lines.
fn doctor(root: &Path, args: &[&str]) -> (i32, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-capture"));
    let command = command
        .arg("doctor")
        .args(args)
        .env("PGTRACE_SYSROOT", root);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code().unwrap(),
        text.lines().map(str::to_string).collect(),
    )
}

/// The lines that are not ok.
fn complaints(lines: &[String]) -> Vec<&str> {
    let lines = lines.iter().map(String::as_str);
    lines.filter(|line| !line.starts_with("ok ")).collect()
}

#[test]
fn a_machine_on_which_all_is_well() {
    let machine = machine();
    let (code, lines) = doctor(machine.path(), &[]);
    assert_eq!(complaints(&lines), [] as [&str; 0]);
    assert_eq!(code, 0);
    for what in [
        "architecture",
        "kernel",
        "kernel config",
        "module file",
        "module",
        "lockdown",
        "module signatures",
        "debugfs",
        "permission",
        "NUMA",
        "fault-around",
        "swap",
        "transparent huge pages",
    ] {
        let begin = format!("ok       {what}: ");
        assert_eq!(
            lines.iter().filter(|l| l.starts_with(&begin)).count(),
            1,
            "{what}: {lines:?}"
        );
    }
}

#[test]
fn each_thing_that_is_missing_is_told_with_its_mend() {
    type Change = fn(&Path);
    let cases: [(Change, i32, &str, &str); 17] = [
        (
            |m| put(m, "/proc/sys/kernel/arch", "aarch64"),
            2,
            "problem  architecture: aarch64",
            "--source perf",
        ),
        (
            |m| {
                put(m, "/proc/sys/kernel/osrelease", "5.10.0-1");
                put(m, "/boot/config-5.10.0-1", "");
                remove(m, "/boot/config-5.10.0-1");
                put(m, "/lib/modules/5.10.0-1/modules.dep", "extra/pgtrace.ko:");
            },
            1,
            "warning  kernel: 5.10.0-1",
            "6.1 to 6.12",
        ),
        (
            |m| {
                put(
                    m,
                    "/boot/config-6.1.0-13-amd64",
                    "CONFIG_RELAY=y\n# CONFIG_KPROBES is not set\n",
                )
            },
            2,
            "problem  kernel config: /boot/config-6.1.0-13-amd64 lacks CONFIG_DEBUG_FS (the module's files), CONFIG_KPROBES",
            "distribution's kernel",
        ),
        (
            |m| {
                remove(m, "/boot");
                remove(m, "/sys/module/pgtrace");
            },
            2,
            "warning  kernel config: neither",
            "modprobe pgtrace",
        ),
        (
            |m| {
                put(
                    m,
                    "/lib/modules/6.1.0-13-amd64/modules.dep",
                    "kernel/fs/9p.ko:",
                )
            },
            1,
            "warning  module file: none in /lib/modules/6.1.0-13-amd64",
            "dkms install pgtrace",
        ),
        (
            |m| {
                remove(m, "/lib/modules");
                remove(m, "/sys/module/pgtrace");
            },
            2,
            "problem  module file: none in",
            "make -C kmod install",
        ),
        (
            |m| remove(m, "/sys/module/pgtrace"),
            2,
            "problem  module: not loaded",
            "modprobe pgtrace",
        ),
        (
            |m| put(m, "/sys/module/pgtrace/version", "9.9.9"),
            1,
            "warning  module: loaded, version 9.9.9",
            "rmmod pgtrace && modprobe pgtrace",
        ),
        (
            |m| {
                put(
                    m,
                    "/sys/kernel/security/lockdown",
                    "none [integrity] confidentiality",
                )
            },
            2,
            "problem  lockdown: integrity",
            "Secure Boot",
        ),
        (
            |m| {
                put(m, "/sys/module/module/parameters/sig_enforce", "Y");
                remove(m, "/sys/module/pgtrace");
            },
            2,
            "warning  module signatures: enforced",
            "mokutil --import",
        ),
        (
            |m| put(m, "/proc/self/mounts", "sysfs /sys sysfs rw 0 0\n"),
            2,
            "problem  debugfs: not mounted",
            "mount -t debugfs none /sys/kernel/debug",
        ),
        (
            |m| remove(m, "/sys/kernel/debug/pgtrace/status"),
            2,
            "problem  permission: ",
            "rmmod pgtrace && modprobe pgtrace",
        ),
        (
            |m| put(m, "/sys/devices/system/node/online", "0-1"),
            1,
            "warning  NUMA: nodes 0-1: ",
            "numactl",
        ),
        (
            |m| {
                put(m, "/sys/devices/system/node/online", "0-1");
                put(m, "/proc/sys/kernel/numa_balancing", "1");
            },
            1,
            "warning  NUMA: nodes 0-1, kernel.numa_balancing is 1",
            "sysctl kernel.numa_balancing=0",
        ),
        (
            |m| put(m, "/sys/kernel/debug/fault_around_bytes", "65536"),
            0,
            "ok       fault-around: 65536 bytes: the first touches",
            "echo 4096 > /sys/kernel/debug/fault_around_bytes",
        ),
        (
            |m| put(m, "/proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n"),
            0,
            "ok       swap: 1 in use",
            "swapoff -a",
        ),
        (
            |m| {
                put(
                    m,
                    "/sys/kernel/mm/transparent_hugepage/enabled",
                    "[always] madvise never",
                )
            },
            0,
            "ok       transparent huge pages: always",
            "--grain 2m",
        ),
    ];
    for (change, wanted, begin, mend) in cases {
        let machine = machine();
        change(machine.path());
        let (code, lines) = doctor(machine.path(), &[]);
        assert_eq!(code, wanted, "{begin}: {lines:#?}");
        let line = lines.iter().find(|line| line.starts_with(begin));
        let line = line.unwrap_or_else(|| panic!("{begin}: {lines:#?}"));
        assert!(line.contains(mend), "{line}");
        if wanted == 0 {
            assert_eq!(complaints(&lines), [] as [&str; 0]);
        }
    }
}

#[test]
fn a_config_that_the_kernel_keeps_is_read() {
    let machine = machine();
    let boot = machine.path().join("boot/config-6.1.0-13-amd64");
    let text = std::fs::read(&boot).unwrap();
    std::fs::remove_file(&boot).unwrap();
    let plain = machine.path().join("proc/config");
    std::fs::write(&plain, text).unwrap();
    let packed = Command::new("gzip").arg(&plain).status().unwrap();
    assert!(packed.success());
    let (code, lines) = doctor(machine.path(), &[]);
    assert_eq!(code, 0);
    assert!(
        lines.contains(&"ok       kernel config: /proc/config.gz has all that is needed".into()),
        "{lines:?}"
    );
    // Damaged: as if it were not there.
    std::fs::write(machine.path().join("proc/config.gz"), "nonsense").unwrap();
    assert_eq!(
        doctor(machine.path(), &[]).0,
        0,
        "the module is loaded all the same"
    );
}

#[test]
fn perf_needs_less() {
    let machine = machine();
    remove(machine.path(), "/sys/module/pgtrace");
    let perf = |paranoid: &str| {
        put(
            machine.path(),
            "/proc/sys/kernel/perf_event_paranoid",
            paranoid,
        );
        doctor(machine.path(), &["--source", "perf"])
    };
    assert_eq!(perf("2").0, 0);
    assert_eq!(perf("-1").0, 0);
    let (code, lines) = perf("4");
    assert_eq!((code, lines.len()), (2, 1));
    assert!(
        lines[0].contains("sysctl kernel.perf_event_paranoid=2"),
        "{lines:?}"
    );
    remove(machine.path(), "/proc/sys/kernel/perf_event_paranoid");
    assert_eq!(doctor(machine.path(), &["--source", "perf"]).0, 2);
}

#[test]
fn the_disk_is_looked_at_where_chunks_would_go() {
    let machine = machine();
    let out = machine.path().join("not/yet/there");
    let (_, lines) = doctor(machine.path(), &["-o", out.to_str().unwrap()]);
    let line = lines.last().unwrap();
    let there = machine.path().display().to_string();
    assert!(line.contains(&format!("disk: {there} has ")), "{line}");
}

#[test]
fn this_machine_can_be_examined() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-capture"));
    let output = command.args(["doctor", "-o", "."]).output().unwrap();
    assert!([0, 1, 2].contains(&output.status.code().unwrap()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() > 5, "{text}");
    for line in text.lines() {
        let verdict = line.split(' ').next().unwrap();
        assert!(["ok", "warning", "problem"].contains(&verdict), "{line}");
    }
}
