//! What the rows of a table name - processes and objects - as the records that come before their first use.
//!
//! A recording says who a process is by time: from a moment on it has a name, or is another incarnation. So a table can
//! change that of a pid only where its times rise.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pgtrace_capture::record::{Object, ObjectKind, Record, Stamp};

use super::super::scribe::process;
use super::rows::Bad;

/// Who a row says made the reference.
pub(super) struct Who<'a> {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) upid: u64,
    pub(super) comm: Option<&'a str>,
}

/// What a row says its page belongs to.
pub(super) struct What<'a> {
    /// Its number, where the table has numbers.
    pub(super) id: Option<u32>,
    pub(super) path: Option<&'a str>,
    pub(super) kind: Option<ObjectKind>,
}

/// What a pid is at present.
#[derive(Debug)]
struct Life {
    upid: u64,
    comm: String,
    /// Since when; the first description holds for all times before it.
    since_ns: u64,
    /// Latest time of any row of the pid.
    latest_ns: u64,
}

/// What is known of an object whose number the table gives.
#[derive(Debug)]
struct Known {
    kind: Option<ObjectKind>,
    path: Option<String>,
}

/// What makes an object where the table has no numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Backing {
    Path(String, ObjectKind),
    Process(u64, u32, ObjectKind),
}

/// Everything named so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    lives: HashMap<u32, Life>,
    numbered: HashMap<u32, Known>,
    objects: HashMap<Backing, u32>,
    pids: HashMap<String, u32>,
}

impl Names {
    /// The pid of a command, in a table without pids: from 1, in order of appearance.
    pub(super) fn pid_of(&mut self, comm: Option<&str>) -> Result<u32, Bad> {
        let Some(comm) = comm else { return Ok(1) };
        if let Some(pid) = self.pids.get(comm) {
            return Ok(*pid);
        }
        let pid = self.pids.len() as u32 + 1;
        if pid >= 1 << 22 {
            return Err(Bad::new(
                "comm",
                "at most 4194302 commands where there is no pid",
                "more",
            ));
        }
        self.pids.insert(comm.into(), pid);
        Ok(pid)
    }

    /// Takes note of who made a reference at `stamp`; gives the record that has to come before it, if one has to.
    pub(super) fn process(&mut self, stamp: Stamp, who: &Who<'_>) -> Result<Option<Record>, Bad> {
        let now = stamp.time_ns;
        let described = |comm: String| {
            let record = process(stamp, who.pid, who.uid, comm, who.upid);
            Some(Record::Process(record))
        };
        let life = match self.lives.entry(who.pid) {
            Entry::Vacant(new) => {
                let comm = who.comm.unwrap_or_default().to_string();
                new.insert(Life {
                    upid: who.upid,
                    comm: comm.clone(),
                    since_ns: 0,
                    latest_ns: now,
                });
                return Ok(described(comm));
            }
            Entry::Occupied(life) => life.into_mut(),
        };
        let reborn = who.upid != life.upid;
        if reborn && who.upid < life.upid {
            let expected = format!("at least {}, as before for pid {}", life.upid, who.pid);
            return Err(Bad::new("upid", expected, who.upid));
        }
        let renamed = who.comm.is_some_and(|comm| comm != life.comm);
        if !reborn && !renamed {
            if now < life.since_ns {
                let expected = format!(
                    "a time not before pid {} became what it is ({} ns since 1970)",
                    who.pid, life.since_ns
                );
                return Err(Bad::new("ts", expected, format!("{now} ns")));
            }
            life.latest_ns = life.latest_ns.max(now);
            return Ok(None);
        }
        if now <= life.latest_ns {
            let (column, expected, found) = match renamed {
                true => (
                    "comm",
                    format!("{:?}", life.comm),
                    format!("{:?}", who.comm.unwrap_or_default()),
                ),
                false => ("upid", life.upid.to_string(), who.upid.to_string()),
            };
            let expected = format!(
                "{expected} as long as ts does not rise above {} ns, the latest of pid {}",
                life.latest_ns, who.pid
            );
            return Err(Bad::new(column, expected, found));
        }
        let comm = match (who.comm, reborn) {
            (Some(comm), _) => comm.to_string(),
            (None, true) => String::new(),
            (None, false) => life.comm.clone(),
        };
        *life = Life {
            upid: who.upid,
            comm: comm.clone(),
            since_ns: now,
            latest_ns: now,
        };
        Ok(described(comm))
    }

    /// The number of what a row's page belongs to, and the record that has to come before it, if one has to.
    pub(super) fn object(
        &mut self,
        stamp: Stamp,
        who: &Who<'_>,
        what: &What<'_>,
    ) -> Result<(u32, Option<Record>), Bad> {
        if let Some(id) = what.id {
            return Ok((id, self.numbered(stamp, who, what, id)?));
        }
        let backing = match what.path {
            Some(path) => Backing::Path(path.into(), what.kind.unwrap_or(ObjectKind::File)),
            None => Backing::Process(who.upid, who.pid, what.kind.unwrap_or(ObjectKind::Anon)),
        };
        let next = self.objects.len() as u32 + 1;
        match self.objects.entry(backing) {
            Entry::Occupied(known) => Ok((*known.get(), None)),
            Entry::Vacant(new) => {
                let kind = match new.key() {
                    Backing::Path(_, kind) | Backing::Process(_, _, kind) => *kind,
                };
                new.insert(next);
                Ok((next, Some(object(stamp, who.pid, next, kind, what.path))))
            }
        }
    }

    /// An object with a number of its own. What one row says of it holds for all; none may say something else.
    fn numbered(
        &mut self,
        stamp: Stamp,
        who: &Who<'_>,
        what: &What<'_>,
        id: u32,
    ) -> Result<Option<Record>, Bad> {
        let known = self.numbered.entry(id).or_insert(Known {
            kind: None,
            path: None,
        });
        if let (Some(path), Some(is)) = (&known.path, what.path)
            && path != is
        {
            let expected = format!("{path:?}, as before for object_id {id}");
            return Err(Bad::new("path", expected, format!("{is:?}")));
        }
        if let (Some(kind), Some(is)) = (known.kind, what.kind)
            && kind != is
        {
            let expected = format!("{kind}, as before for object_id {id}");
            return Err(Bad::new("object_kind", expected, is));
        }
        let new_path = known.path.is_none() && what.path.is_some();
        let new_kind = known.kind.is_none() && what.kind.is_some();
        if !new_path && !new_kind {
            return Ok(None);
        }
        if new_path {
            known.path = what.path.map(Into::into);
        }
        // A path alone is a file's.
        let kind = *known
            .kind
            .get_or_insert(what.kind.unwrap_or(ObjectKind::File));
        Ok(Some(object(stamp, who.pid, id, kind, what.path)))
    }
}

fn object(stamp: Stamp, pid: u32, object: u32, kind: ObjectKind, path: Option<&str>) -> Record {
    Record::Object(Object {
        stamp,
        object,
        tgid: pid,
        dev_major: 0,
        dev_minor: 0,
        ino: 0,
        generation: 0,
        kind,
        path: path.map(Into::into),
        deleted: false,
        truncated: false,
    })
}
