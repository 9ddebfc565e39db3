//! Open directories: one pass sees one list, so that it is complete and without duplicates
//! however the tree changes meanwhile.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::answers::Checker;
use super::path::FilePath;
use super::types::{DirectoryEntry, FileStat};
use crate::{Errno, Name};

/// An open directory.
#[derive(Default)]
pub(super) struct OpenDirectory {
    pass: Mutex<Option<Arc<Vec<Listed>>>>,
}

/// A checked entry.
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) stat: FileStat,
}

impl OpenDirectory {
    pub(super) fn pass(&self) -> Option<Arc<Vec<Listed>>> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn begin(&self, entries: Vec<Listed>) -> Arc<Vec<Listed>> {
        let entries = Arc::new(entries);
        let mut pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        *pass = Some(Arc::clone(&entries));
        entries
    }
}

/// Checks a list. A name that cannot be is `EIO`; one that comes twice counts once, with an event.
pub(super) fn check(
    checker: &Checker,
    path: &FilePath,
    entries: Vec<DirectoryEntry>,
    limit: usize,
) -> Result<Vec<Listed>, Errno> {
    if entries.len() > limit {
        let problem = format!("{} entries where at most {limit} can be", entries.len());
        return Err(checker.wrong("list", path, problem));
    }
    let mut seen = HashSet::with_capacity(entries.len());
    let mut checked = Vec::with_capacity(entries.len());
    for DirectoryEntry { name, stat } in entries {
        let Ok(valid) = Name::new(&name) else {
            let problem = format!("{:?} is no name", String::from_utf8_lossy(&name));
            return Err(checker.wrong("list", path, problem));
        };
        let stat = checker.stat("list", &path.join(&valid), stat)?;
        if !seen.insert(name) {
            let _ = checker.wrong("list", path, format!("{valid:?} is there twice"));
            continue;
        }
        checked.push(Listed { name: valid, stat });
    }
    Ok(checked)
}
