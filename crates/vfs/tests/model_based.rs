//! Random sequences of requests, compared step by step with a tree of a few lines; at the end
//! nothing is held any more.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::collections::BTreeMap;

use common::model::Model;
use common::raw::{ROOT, Raw, z};
use proptest::prelude::*;
use vfs::callbacks::{CallbackFs, CallbackOptions, Features};
use vfs::fuse::Opcode;
use vfs::host_dir::{Access, HostDir, HostDirOptions};
use vfs::{FileSystem, Observer};

#[derive(Clone, Debug)]
enum Step {
    Create(usize, u8),
    MkDir(usize, u8),
    Lookup(usize, u8),
    Unlink(usize, u8),
    RmDir(usize, u8),
    Rename(usize, u8, usize, u8, u32),
    Link(usize, usize, u8),
    Forget(usize),
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (d, n) = (0..4_usize, 0..4_u8);
    let step = prop_oneof![
        (d.clone(), n.clone()).prop_map(|(d, n)| Step::Create(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Step::MkDir(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Step::Lookup(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Step::Unlink(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Step::RmDir(d, n)),
        (d.clone(), n.clone(), d.clone(), n.clone(), 0..3_u32)
            .prop_map(|(a, b, c, d, f)| Step::Rename(a, b, c, d, f)),
        (0..6_usize, d, n).prop_map(|(i, d, n)| Step::Link(i, d, n)),
        (0..6_usize).prop_map(Step::Forget),
        (0..6_usize).prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What should be: directories and files by a number, names to numbers.
#[derive(Default)]
struct Tree {
    directories: BTreeMap<u64, BTreeMap<u8, u64>>,
    next: u64,
}

impl Tree {
    fn is_directory(&self, id: u64) -> bool {
        self.directories.contains_key(&id)
    }

    fn add(&mut self, parent: u64, name: u8, directory: bool) -> Result<u64, i32> {
        let next = self.next;
        let entries = self.directories.get_mut(&parent).ok_or(libc::ENOENT)?;
        if entries.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        entries.insert(name, next);
        self.next += 1;
        if directory {
            self.directories.insert(next, BTreeMap::new());
        }
        Ok(next)
    }

    fn find(&self, parent: u64, name: u8) -> Result<u64, i32> {
        self.directories[&parent].get(&name).copied().ok_or(libc::ENOENT)
    }

    fn below(&self, top: u64, id: u64) -> bool {
        top == id
            || self.directories.get(&top).is_some_and(|entries| {
                entries.values().any(|child| self.is_directory(*child) && self.below(*child, id))
            })
    }

    fn remove(&mut self, parent: u64, name: u8, directory: bool) -> Result<(), i32> {
        let id = self.find(parent, name)?;
        match (directory, self.is_directory(id)) {
            (true, false) => return Err(libc::ENOTDIR),
            (false, true) => return Err(libc::EISDIR),
            (true, true) if !self.directories[&id].is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.directories.get_mut(&parent).unwrap().remove(&name);
        self.directories.remove(&id);
        Ok(())
    }

    /// The error number only where every system agrees on it.
    fn rename(&mut self, from: (u64, u8), to: (u64, u8), flags: u32) -> Result<(), ()> {
        let id = self.find(from.0, from.1).map_err(drop)?;
        let target = self.find(to.0, to.1).ok();
        if self.is_directory(id) && self.below(id, to.0) {
            return Err(());
        }
        match (flags, target) {
            (1, Some(_)) | (2, None) => return Err(()),
            (2, Some(other)) => {
                if self.is_directory(other) && self.below(other, from.0) {
                    return Err(());
                }
                self.directories.get_mut(&from.0).unwrap().insert(from.1, other);
                self.directories.get_mut(&to.0).unwrap().insert(to.1, id);
                return Ok(());
            }
            (_, Some(other)) if other == id => return Ok(()),
            (_, Some(other)) => {
                self.remove(to.0, to.1, self.is_directory(id)).map_err(drop)?;
                let _ = other;
            }
            _ => {}
        }
        self.directories.get_mut(&from.0).unwrap().remove(&from.1);
        self.directories.get_mut(&to.0).unwrap().insert(to.1, id);
        Ok(())
    }
}

fn name(number: u8) -> Vec<u8> {
    vec![b'a' + number]
}

/// What the guest knows: number in the model, inode, lookups.
type Known = (u64, u64, u64);

struct Guest<'a, F: FileSystem> {
    raw: &'a Raw<F>,
    tree: Tree,
    known: Vec<Known>,
}

type Learnt = Result<Option<(u64, u64)>, TestCaseError>;

impl<F: FileSystem> Guest<'_, F> {
    /// A directory that is still there.
    fn directory(&self, index: usize) -> (u64, u64) {
        let live: Vec<_> =
            self.known.iter().filter(|(id, ..)| self.tree.is_directory(*id)).collect();
        let (id, node, _) = *live[index % live.len()];
        (id, node)
    }

    async fn make_or_find(&mut self, step: &Step) -> Learnt {
        let (expected, got) = match step {
            Step::Create(d, n) => {
                let (id, node) = self.directory(*d);
                let body = [common::raw::u32s(&[0o100_644, 0, 0, 0]), z(&name(*n))].concat();
                let got = self.raw.call(Opcode::MkNod, node, &body).await;
                let got = got.map(|entry| common::raw::u64_at(&entry, 0));
                (self.tree.add(id, *n, false), got)
            }
            Step::MkDir(d, n) => {
                let (id, node) = self.directory(*d);
                (self.tree.add(id, *n, true), self.raw.mkdir(node, &name(*n)).await)
            }
            Step::Lookup(d, n) => {
                let (id, node) = self.directory(*d);
                (self.tree.find(id, *n), self.raw.lookup(node, &name(*n)).await)
            }
            other => return Err(TestCaseError::fail(format!("{other:?} makes nothing"))),
        };
        prop_assert_eq!(got.err(), expected.err(), "{:?}", step);
        Ok(got.ok().zip(expected.ok()).map(|(node, id)| (id, node)))
    }

    async fn take(&mut self, step: &Step) -> Learnt {
        match step {
            Step::Create(..) | Step::MkDir(..) | Step::Lookup(..) => {
                return self.make_or_find(step).await;
            }
            Step::Unlink(d, n) | Step::RmDir(d, n) => {
                let (id, node) = self.directory(*d);
                let is_rmdir = matches!(step, Step::RmDir(..));
                let expected = self.tree.remove(id, *n, is_rmdir);
                let opcode = if is_rmdir { Opcode::RmDir } else { Opcode::Unlink };
                let got = self.raw.call(opcode, node, &z(&name(*n))).await;
                prop_assert_eq!(got.err(), expected.err(), "{:?}", step);
            }
            Step::Rename(d, n, e, m, flags) => {
                let ((a, from), (b, to)) = (self.directory(*d), self.directory(*e));
                let expected = self.tree.rename((a, *n), (b, *m), *flags);
                let got = self.raw.rename((from, &name(*n)), (to, &name(*m)), *flags).await;
                prop_assert_eq!(got.is_ok(), expected.is_ok(), "{:?} {:?}", step, got);
            }
            Step::Link(i, d, n) => {
                let (file, node, _) = self.known[i % self.known.len()];
                let (parent, parent_node) = self.directory(*d);
                let entries = &self.tree.directories;
                let named = entries.values().any(|e| e.values().any(|id| *id == file));
                let free = self.tree.find(parent, *n).is_err();
                let possible = named && free && !self.tree.is_directory(file);
                let got = self.raw.link(node, parent_node, &name(*n)).await;
                prop_assert_eq!(got.is_ok(), possible, "{:?} {:?}", step, got);
                if let Ok(node) = got {
                    self.tree.directories.get_mut(&parent).unwrap().insert(*n, file);
                    return Ok(Some((file, node)));
                }
            }
            Step::Forget(i) => {
                let (id, node, lookups) = self.known[i % self.known.len()];
                if lookups > 0 {
                    self.raw.forget(node, lookups).await;
                    self.known.retain(|(other, ..)| *other != id);
                }
            }
            Step::Read(i) => {
                let (id, node, _) = self.known[i % self.known.len()];
                if let Some(entries) = self.tree.directories.get(&id) {
                    let mut names = self.raw.names(node).await.map_err(|error| {
                        TestCaseError::fail(format!("readdir of a live directory: {error}"))
                    })?;
                    names.sort();
                    prop_assert_eq!(names, entries.keys().map(|n| name(*n)).collect::<Vec<_>>());
                }
            }
        }
        Ok(None)
    }

    fn learn(&mut self, (id, node): (u64, u64)) -> Result<(), TestCaseError> {
        match self.known.iter_mut().find(|(other, ..)| *other == id) {
            Some((_, same, lookups)) => {
                prop_assert_eq!(*same, node, "an inode changed its number");
                *lookups += 1;
            }
            None => self.known.push((id, node, 1)),
        }
        Ok(())
    }
}

async fn run<F: FileSystem>(raw: &Raw<F>, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut tree = Tree { next: 1, ..Tree::default() };
    tree.directories.insert(0, BTreeMap::new());
    let mut guest = Guest { raw, tree, known: vec![(0, ROOT, 0)] };
    for step in steps {
        if let Some(learnt) = guest.take(step).await? {
            guest.learn(learnt)?;
        }
    }
    for (_, node, lookups) in guest.known {
        raw.forget(node, lookups).await;
    }
    Ok(())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_host_directory_behaves_as_a_simple_tree_and_forgets_everything(steps in steps()) {
        block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut options = HostDirOptions::new(directory.path(), Access::ReadWrite);
            // Some descriptors are always closed, and opened again.
            options.limits.inode_descriptors = 8;
            let raw = Raw::new(HostDir::new(options, &Observer::log()).unwrap()).await;
            run(&raw, &steps).await?;
            prop_assert_eq!(raw.server.file_system().held().inodes, 1);
            Ok(())
        })?;
    }

    #[test]
    fn callbacks_behave_as_a_simple_tree_and_forget_everything(steps in steps()) {
        block_on(async {
            let model = Model::new(Features::ALL);
            let options = CallbackOptions { remembered: 2, ..CallbackOptions::default() };
            let raw = Raw::new(CallbackFs::new(model, options, Observer::log())).await;
            run(&raw, &steps).await?;
            prop_assert_eq!(raw.server.file_system().held().nodes, 1);
            Ok(())
        })?;
    }
}
