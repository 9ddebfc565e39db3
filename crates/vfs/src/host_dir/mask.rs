//! Which names of the tree are absent or lead into the mask's storage.
//!
//! A tree of the masked paths. A directory of the source that lies on the way to one carries its
//! step in that tree ([`Step`]); everything else carries none and costs nothing.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::{HostDirError, Mask};

/// A directory on the way to masked names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step(usize);

/// What a name in such a directory is.
#[derive(Clone, Debug)]
pub(super) enum Masked {
    /// Nothing special.
    No,
    /// If a directory: one more step on the way.
    OnTheWay(Step),
    /// Not there.
    Absent,
    /// In this directory of the storage, under the same name.
    Redirected(Arc<OwnedFd>),
}

#[derive(Default)]
struct Directory {
    names: BTreeMap<Vec<u8>, Child>,
    storage: Option<Arc<OwnedFd>>,
}

#[derive(Clone, Copy)]
enum Child {
    OnTheWay(Step),
    Masked,
}

/// The masked paths of a mount.
pub(super) struct MaskTree {
    directories: Vec<Directory>,
}

impl MaskTree {
    /// Checks the paths and opens (making them where needed) the directories of the storage that
    /// masked names lie in.
    pub(super) fn new(mask: &Mask) -> Result<Self, HostDirError> {
        let mut tree = Self { directories: Vec::new() };
        for path in &mask.paths {
            tree.add(path).ok_or_else(|| HostDirError::MaskPath { path: path.clone() })?;
        }
        if let (Some(storage), false) = (&mask.storage, tree.directories.is_empty()) {
            tree.open_storage(Step(0), storage)?;
        }
        Ok(tree)
    }

    /// The step of the source itself; `None` when nothing is masked.
    pub(super) fn root(&self) -> Option<Step> {
        (!self.directories.is_empty()).then_some(Step(0))
    }

    fn add(&mut self, path: &Path) -> Option<()> {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.as_bytes().to_vec()),
                _ => return None,
            }
        }
        let last = names.pop()?;
        // `components` forgives `a//b`, `a/.` and `a/`: what is not said plainly is refused.
        let plain = names.iter().chain([&last]).map(Vec::len).sum::<usize>() + names.len();
        if plain != path.as_os_str().len() || path.as_os_str().as_bytes().contains(&0) {
            return None;
        }
        if self.directories.is_empty() {
            self.directories.push(Directory::default());
        }
        let mut at = 0;
        for name in names {
            let next = self.directories.len();
            let child =
                *self.directories[at].names.entry(name).or_insert(Child::OnTheWay(Step(next)));
            match child {
                Child::OnTheWay(Step(next)) if next < self.directories.len() => at = next,
                Child::OnTheWay(Step(next)) => {
                    self.directories.push(Directory::default());
                    at = next;
                }
                // Masked as a whole already.
                Child::Masked => return Some(()),
            }
        }
        self.directories[at].names.insert(last, Child::Masked);
        Some(())
    }

    fn open_storage(&mut self, step: Step, path: &Path) -> Result<(), HostDirError> {
        use std::os::unix::ffi::OsStrExt;
        let failed = |source| HostDirError::Open { path: path.to_path_buf(), source };
        if let Err(error) = std::fs::create_dir(path)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Below the storage's own root a symlink would lead somewhere else.
        let flags = if step == Step(0) { flags } else { flags | OFlags::NOFOLLOW };
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        self.directories[step.0].storage = Some(Arc::new(fd));
        let below: Vec<_> = self.directories[step.0]
            .names
            .iter()
            .filter_map(|(name, child)| match child {
                Child::OnTheWay(step) => Some((name.clone(), *step)),
                Child::Masked => None,
            })
            .collect();
        for (name, step) in below {
            self.open_storage(step, &path.join(std::ffi::OsStr::from_bytes(&name)))?;
        }
        Ok(())
    }

    /// What `name` is in a directory at `step`.
    pub(super) fn find(&self, step: Option<Step>, name: &[u8]) -> Masked {
        let Some(Step(step)) = step else { return Masked::No };
        let directory = &self.directories[step];
        match directory.names.get(name) {
            None => Masked::No,
            Some(Child::OnTheWay(step)) => Masked::OnTheWay(*step),
            Some(Child::Masked) => match &directory.storage {
                Some(storage) => Masked::Redirected(Arc::clone(storage)),
                None => Masked::Absent,
            },
        }
    }

    /// The names in a directory at `step` that lead into the storage, with where they lie.
    pub(super) fn redirected(&self, step: Step) -> Vec<(Vec<u8>, Arc<OwnedFd>)> {
        let directory = &self.directories[step.0];
        let Some(storage) = &directory.storage else { return Vec::new() };
        directory
            .names
            .iter()
            .filter(|(_, child)| matches!(child, Child::Masked))
            .map(|(name, _)| (name.clone(), Arc::clone(storage)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Result<MaskTree, HostDirError> {
        MaskTree::new(&Mask { paths: paths.iter().map(Into::into).collect(), storage: None })
    }

    #[test]
    fn paths_that_are_not_plain_and_relative_are_refused() {
        for bad in ["", "/etc", "..", "a/../b", "./a", "a//b", "a/", "a/.", "."] {
            assert!(tree(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_way_to_a_masked_name_carries_a_step() {
        let tree = tree(&["a/b", "a/c/d", "e"]).unwrap();
        let root = tree.root();
        assert!(matches!(tree.find(root, b"e"), Masked::Absent));
        assert!(matches!(tree.find(root, b"b"), Masked::No));
        assert!(matches!(tree.find(None, b"e"), Masked::No));
        let Masked::OnTheWay(a) = tree.find(root, b"a") else { panic!("a is on the way") };
        assert!(matches!(tree.find(Some(a), b"b"), Masked::Absent));
        assert!(matches!(tree.find(Some(a), b"c"), Masked::OnTheWay(_)));
        assert!(matches!(tree.find(Some(a), b"e"), Masked::No));
    }

    #[test]
    fn a_masked_directory_covers_what_is_below_it_in_any_order() {
        for paths in [["a", "a/b"], ["a/b", "a"]] {
            let tree = tree(&paths).unwrap();
            assert!(matches!(tree.find(tree.root(), b"a"), Masked::Absent), "{paths:?}");
        }
    }
}
