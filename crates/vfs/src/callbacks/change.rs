//! Changing attributes, and taking names away.

use bytes::Bytes;

use super::adapter::now;
use super::{CallbackFs, Callbacks, Features, FilePath, FileStat};
use crate::{Attr, Caller, Changes, Errno, Inode, Kind, Name, RenameMode, SetTime};

const SET_ID: u32 = 0o6000;

impl<C: Callbacks> CallbackFs<C> {
    pub(super) async fn attr(&self, inode: Inode) -> Result<Attr, Errno> {
        if let Some(orphan) = self.orphan(inode)? {
            return Ok(self.tree().get(inode)?.orphan_attr(inode, &orphan));
        }
        self.by_name(inode, |path| async move {
            let stat = self.stat(&path).await?;
            let mut tree = self.tree();
            let node = tree.get_mut(inode)?;
            if !node.may_be(&stat) {
                // Another file has this name now.
                return Err(Errno::ENOENT);
            }
            node.note(&stat);
            Ok(node.attr(inode, &stat))
        })
        .await
    }

    pub(super) async fn change(&self, inode: Inode, changes: &Changes) -> Result<Attr, Errno> {
        if let Some(orphan) = self.orphan(inode)? {
            if let Some(size) = changes.size {
                orphan.truncate(size)?;
            }
            let mut tree = self.tree();
            let node = tree.get_mut(inode)?;
            let defaults = &mut node.defaults;
            defaults.permissions = changes.permissions.unwrap_or(defaults.permissions);
            defaults.uid = changes.uid.unwrap_or(defaults.uid);
            defaults.gid = changes.gid.unwrap_or(defaults.gid);
            return Ok(node.orphan_attr(inode, &orphan));
        }
        let old = self.attr(inode).await?;
        // By a name that has just led there.
        let path = self.tree().path(inode)?;
        let owners = (changes.uid.unwrap_or(old.uid), changes.gid.unwrap_or(old.gid));
        if owners != (old.uid, old.gid) {
            self.need(Features::CHOWN, Errno::EOPNOTSUPP)?;
            self.callbacks.chown(&path, owners.0, owners.1).await?;
        }
        let mut permissions = changes.permissions.unwrap_or(old.permissions);
        let loses_set_id = changes.drop_set_id || owners != (old.uid, old.gid);
        if loses_set_id && changes.permissions.is_none() && old.kind == Kind::File {
            permissions = without_set_id(permissions);
        }
        if permissions != old.permissions {
            self.need(Features::CHMOD, Errno::EOPNOTSUPP)?;
            self.callbacks.chmod(&path, permissions).await?;
        }
        if let Some(size) = changes.size {
            self.need(Features::WRITABLE, Errno::EROFS)?;
            let gate = self.gate(inode)?;
            let _writing = gate.read().await;
            let stat = self.callbacks.truncate(&path, size).await?;
            self.check.stat("truncate", &path, stat)?;
            self.touched(inode, size);
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            self.set_times(inode, &path, changes).await?;
        }
        self.attr(inode).await
    }

    /// Gives what was just made to who made it, where the callbacks can: they are not told who.
    /// The group is the directory's where that hands its own down.
    pub(super) async fn give(
        &self,
        parent: Inode,
        path: &FilePath,
        stat: FileStat,
        (caller, permissions): (Caller, u32),
    ) -> Result<FileStat, Errno> {
        let group = self.tree().get(parent)?.group;
        let wanted = (caller.uid, group.unwrap_or(caller.gid));
        let (uid, gid) = (stat.uid.unwrap_or(wanted.0), stat.gid.unwrap_or(wanted.1));
        let mut changed = false;
        if (uid, gid) != wanted && self.features.has(Features::CHOWN) {
            self.callbacks.chown(path, wanted.0, wanted.1).await?;
            changed = true;
        }
        if group.is_some() && stat.kind == Kind::Directory && self.features.has(Features::CHMOD) {
            self.callbacks.chmod(path, permissions | 0o2000).await?;
            changed = true;
        }
        if changed { self.stat(path).await } else { Ok(stat) }
    }

    async fn set_times(
        &self,
        inode: Inode,
        path: &FilePath,
        changes: &Changes,
    ) -> Result<(), Errno> {
        if self.features.has(Features::UTIMES) {
            return self.callbacks.utimes(path, changes.accessed, changes.modified).await;
        }
        let explicit = |time| matches!(time, Some(SetTime::To(_)));
        if explicit(changes.accessed) || explicit(changes.modified) {
            return Err(Errno::EOPNOTSUPP);
        }
        // "Now" is what a write does to a file whose callback tells no times.
        if changes.modified.is_some() {
            self.tree().get_mut(inode)?.defaults.modified = now();
        }
        Ok(())
    }

    pub(super) async fn drop_set_id(&self, inode: Inode) -> Result<(), Errno> {
        if self.features.has(Features::CHMOD) {
            let changes = Changes { drop_set_id: true, ..Changes::default() };
            self.change(inode, &changes).await?;
        }
        Ok(())
    }

    /// Writes as much as its callback does at once.
    pub(super) async fn write_some(
        &self,
        inode: Inode,
        offset: u64,
        contents: Bytes,
    ) -> Result<usize, Errno> {
        let (contents, length) = (&contents, contents.len());
        self.by_name(inode, |path| async move {
            let count = self.callbacks.write(&path, offset, contents.clone()).await?;
            match usize::try_from(count) {
                Ok(count @ 1..) if count <= length => Ok(count),
                _ => {
                    let problem = format!("{count} bytes written of {length}");
                    Err(self.check.wrong("write", &path, problem))
                }
            }
        })
        .await
    }

    pub(super) fn gate(
        &self,
        inode: Inode,
    ) -> Result<std::sync::Arc<tokio::sync::RwLock<()>>, Errno> {
        Ok(std::sync::Arc::clone(&self.tree().get(inode)?.gate))
    }

    /// Runs `work`, which takes the name `(parent, name)` away from its file, keeping what an open
    /// file needs.
    pub(super) async fn take_name<T>(
        &self,
        parent: Inode,
        name: &Name,
        work: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let open = {
            let tree = self.tree();
            tree.child(parent, name).filter(|inode| {
                let node = tree.get(*inode).ok();
                node.is_some_and(|n| n.opens > 0 && n.orphan.is_none() && n.kind == Kind::File)
            })
        };
        let Some(inode) = open else { return work.await };
        if self.has_another_name(inode, (parent, name)).await? {
            return work.await;
        }
        let path = self.tree().path_of(parent, name)?;
        let gate = self.gate(inode)?;
        let _alone = gate.write().await;
        let (orphan, stat) = self.content_before_unlink(&path).await?;
        let result = work.await?;
        let mut tree = self.tree();
        if let Ok(node) = tree.get_mut(inode)
            && node.opens > 0
        {
            let attr = node.attr(inode, &stat);
            node.defaults.permissions = attr.permissions;
            (node.defaults.uid, node.defaults.gid) = (attr.uid, attr.gid);
            node.orphan = Some(orphan);
        }
        Ok(result)
    }

    /// Whether a file is still found by a name other than this one; those that it is not found by
    /// are gone.
    async fn has_another_name(&self, inode: Inode, not: (Inode, &Name)) -> Result<bool, Errno> {
        loop {
            let (parent, name, path) = {
                let tree = self.tree();
                let names = &tree.get(inode)?.names;
                let other = names.iter().find(|(parent, name)| (*parent, name) != not).cloned();
                let Some((parent, name)) = other else { return Ok(false) };
                let path = tree.path_of(parent, &name).ok();
                (parent, name, path)
            };
            let found = match &path {
                Some(path) => self.stat(path).await,
                None => Err(Errno::ENOENT),
            };
            match found {
                Ok(stat) if self.tree().get(inode)?.may_be(&stat) => return Ok(true),
                Ok(_) | Err(Errno::ENOENT) => self.tree().detach(parent, &name),
                Err(errno) => return Err(errno),
            };
        }
    }

    pub(super) async fn move_name(
        &self,
        from: (Inode, &Name),
        to: (Inode, &Name),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        self.need(Features::RENAME, Errno::EPERM)?;
        let (old, new) = {
            let tree = self.tree();
            (tree.path_of(from.0, from.1)?, tree.path_of(to.0, to.1)?)
        };
        if old != new
            && (old.contains(&new) || (mode == RenameMode::Exchange && new.contains(&old)))
        {
            return Err(Errno::EINVAL);
        }
        let heeds = self.features.has(Features::RENAME_FLAGS);
        match mode {
            RenameMode::Exchange if !heeds => return Err(Errno::EINVAL),
            RenameMode::NoReplace if !heeds => match self.stat(&new).await {
                Ok(_) => return Err(Errno::EEXIST),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            },
            _ => {}
        }
        let told = if heeds { mode } else { RenameMode::Replace };
        let work = self.callbacks.rename(&old, &new, told);
        if mode == RenameMode::Exchange {
            work.await?;
            self.tree().exchange(from, to);
            return Ok(());
        }
        let same_file = {
            let tree = self.tree();
            let one = tree.child(from.0, from.1);
            one.is_some() && one == tree.child(to.0, to.1)
        };
        if same_file {
            return work.await;
        }
        self.take_name(to.0, to.1, work).await?;
        self.tree().rename(from, to);
        Ok(())
    }
}

fn without_set_id(permissions: u32) -> u32 {
    if permissions & 0o010 == 0 { permissions & !0o4000 } else { permissions & !SET_ID }
}
