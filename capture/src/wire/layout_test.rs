#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! The mirror is the header: the C compiler is asked for every size, offset and constant of `kmod/pgtrace_api.h`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::v1;

fn kmod() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kmod")
}

/// Runs the C compiler on `source`; gives the program.
pub(super) fn compile(source: &Path, to: &Path) -> PathBuf {
    let program = to.join("program");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(&cc)
        .args(["-Wall", "-Werror", "-I"])
        .arg(kmod())
        .arg(source)
        .arg("-o")
        .arg(&program)
        .status()
        .unwrap_or_else(|e| panic!("the layout test needs a C compiler ({cc:?}): {e}"));
    assert!(status.success(), "{} does not compile", source.display());
    program
}

/// Structs with their fields, and constants, by the text of the header: what somebody adds there is asked for here.
fn declared(header: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let (mut structs, mut constants) = (Vec::new(), Vec::new());
    let mut inside: Option<(String, Vec<String>)> = None;
    for line in header.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&mut inside, words.as_slice()) {
            (None, ["struct", name, "{"]) => inside = Some(((*name).into(), Vec::new())),
            (None, ["#define", name, _, ..]) if name.starts_with("PGT_") => {
                constants.push((*name).into())
            }
            (Some(_), ["};"]) => structs.extend(inside.take()),
            (Some((_, fields)), ["struct", _, field, ..] | [_, field, ..])
                if field.contains(';') && !words[0].starts_with(['/', '*']) =>
            {
                let end = field.find(['[', ';']).unwrap();
                fields.push(field[..end].to_string());
            }
            _ => {}
        }
    }
    (structs, constants)
}

#[test]
fn c_layout_is_the_mirrors() {
    let header = std::fs::read_to_string(kmod().join("pgtrace_api.h")).unwrap();
    let (structs, constants) = declared(&header);
    let mut source = String::from(
        "#include <stdio.h>\n#include <stddef.h>\n#include \"pgtrace_api.h\"\nint main(void) {\n",
    );
    for (name, fields) in &structs {
        source += &format!("printf(\"{name} %zu\\n\", sizeof(struct {name}));\n");
        for f in fields {
            source += &format!(
                "printf(\"{name}.{f} %zu %zu\\n\", offsetof(struct {name}, {f}), sizeof(((struct {name} *)0)->{f}));\n"
            );
        }
    }
    for name in &constants {
        source += &format!("printf(\"{name} %llu\\n\", (unsigned long long){name});\n");
    }
    source += "return 0; }\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("layout.c");
    std::fs::write(&file, source).unwrap();
    let out = Command::new(compile(&file, dir.path())).output().unwrap();
    let c: BTreeMap<String, String> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();

    let mut mirror = BTreeMap::new();
    for (name, size, fields) in v1::layouts() {
        assert_eq!(size % 8, 0, "{name}: sizes are multiples of 8");
        mirror.insert(name.to_string(), size.to_string());
        for (field, offset, size) in fields {
            mirror.insert(format!("{name}.{field}"), format!("{offset} {size}"));
        }
    }
    for (name, value) in v1::constant_values() {
        mirror.insert(name.to_string(), value.to_string());
    }
    assert_eq!(c, mirror);
    // The text was understood: 14 structs, the last with 4 fields.
    assert_eq!((structs.len(), structs.last().unwrap().1.len()), (14, 4));
    assert_eq!(super::HEADER_LEN, size_of::<v1::Header>());
    assert_eq!(super::VERSION, v1::PGT_VERSION);
}
