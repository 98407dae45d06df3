//! The module: whether it can be found, loaded, reached and trusted to fit.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::{Check, System};

const DEBUGFS: &str = "/sys/kernel/debug";

/// Whether the module is in the kernel.
pub(super) fn is_loaded(system: &System) -> bool {
    system.path("/sys/module/pgtrace").is_dir()
}

pub(super) fn checks(system: &System, loaded: bool) -> Vec<Check> {
    let mut checks = vec![file(system, loaded), load(system, loaded)];
    checks.extend(lockdown(system));
    checks.extend(signatures(system, loaded));
    let mounted = debugfs(system);
    let reachable = mounted.mend.is_empty();
    checks.push(mounted);
    if reachable && loaded {
        checks.push(permission(system));
    }
    checks
}

/// Where modprobe would find it.
fn file(system: &System, loaded: bool) -> Check {
    const WHAT: &str = "module file";
    let modules = format!("/lib/modules/{}", system.release());
    let listed = system.text(&format!("{modules}/modules.dep"));
    let path = listed
        .iter()
        .flat_map(|text| text.lines())
        .find_map(|line| {
            let (path, _) = line.split_once(':')?;
            let name = Path::new(path).file_name()?.to_str()?;
            (name.split('.').next() == Some("pgtrace")).then_some(path)
        });
    let why = "modprobe does not find it, nor will the next boot";
    let mend = "dkms install pgtrace, or: make -C kmod && make -C kmod install";
    match path {
        Some(path) => Check::ok(WHAT, format!("{modules}/{path}")),
        None if loaded => Check::warning(WHAT, format!("none in {modules}"), why, mend),
        None => Check::problem(WHAT, format!("none in {modules}"), why, mend),
    }
}

fn load(system: &System, loaded: bool) -> Check {
    const WHAT: &str = "module";
    let ours = env!("CARGO_PKG_VERSION");
    if !loaded {
        let why = "without it only --source perf records";
        return Check::problem(WHAT, "not loaded", why, "modprobe pgtrace");
    }
    match system.text("/sys/module/pgtrace/version") {
        Some(version) if version == ours => Check::ok(WHAT, format!("loaded, version {version}")),
        other => {
            let version = other.unwrap_or_else(|| "unknown".into());
            Check::warning(
                WHAT,
                format!("loaded, version {version}; this program is {ours}"),
                "they may not know all of each other's options",
                "install both of one release, then: rmmod pgtrace && modprobe pgtrace",
            )
        }
    }
}

fn lockdown(system: &System) -> Option<Check> {
    let text = system.text("/sys/kernel/security/lockdown")?;
    let mode = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    Some(match mode {
        "none" => Check::ok("lockdown", mode),
        _ => Check::problem(
            "lockdown",
            mode,
            "the kernel lets nobody reach the module's files, and loads signed modules only",
            "switch Secure Boot off in the firmware, or boot with lockdown=none",
        ),
    })
}

/// Whether the kernel takes signed modules only.
fn signatures(system: &System, loaded: bool) -> Option<Check> {
    const WHAT: &str = "module signatures";
    let enforced = system.text("/sys/module/module/parameters/sig_enforce")? == "Y";
    let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = std::fs::read(system.path(variable)).unwrap_or_default();
    let secure = bytes.get(4) == Some(&1); // behind four bytes of attributes
    let found = match (enforced, secure) {
        (false, false) => return Some(Check::ok(WHAT, "not enforced")),
        (true, _) => "enforced",
        (false, true) => "not enforced, Secure Boot is on",
    };
    if loaded {
        return Some(Check::ok(WHAT, format!("{found}; the module is loaded")));
    }
    Some(Check::warning(
        WHAT,
        found,
        "a module you built is refused unless the machine knows your key",
        "mokutil --import your-key.der, and sign pgtrace.ko (dkms does with its key)",
    ))
}

fn debugfs(system: &System) -> Check {
    const WHAT: &str = "debugfs";
    let mounts = system.text("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(DEBUGFS) && words.next() == Some("debugfs")
    });
    if mounted {
        Check::ok(WHAT, format!("mounted at {DEBUGFS}"))
    } else {
        let why = "the module's files are in it";
        Check::problem(
            WHAT,
            format!("not mounted at {DEBUGFS}"),
            why,
            format!("mount -t debugfs none {DEBUGFS}"),
        )
    }
}

fn permission(system: &System) -> Check {
    const WHAT: &str = "permission";
    let open = |name: &str, write: bool| {
        let path = system.path(&format!("{DEBUGFS}/pgtrace/{name}"));
        let opened = OpenOptions::new().read(!write).append(write).open(&path);
        opened.map(drop).map_err(|e| (path, e))
    };
    match open("status", false).and_then(|()| open("control", true)) {
        Ok(()) => Check::ok(WHAT, "this user may record"),
        Err((path, e)) if e.kind() == io::ErrorKind::PermissionDenied => Check::problem(
            WHAT,
            format!("{}: permission denied", path.display()),
            "recording needs root, or the group that the module was given",
            "sudo, or: modprobe pgtrace gid=GROUP and chmod o+x /sys/kernel/debug",
        ),
        Err((path, e)) => Check::problem(
            WHAT,
            format!("{}: {e}", path.display()),
            "the module cannot be talked to",
            "rmmod pgtrace && modprobe pgtrace",
        ),
    }
}
