//! Callbacks as a [`FileSystem`].

use std::time::Duration;

use super::{CallbackFs, Callbacks, Features, listing};
use crate::fuse::DirectorySink;
use crate::{
    Attr, Body, Caller, Changes, Entry, Errno, FileSystem, Handle, Inode, Kind, Name, OpenFlags,
    Opened, Profile, Readable, RenameMode, StatFs, Target, WriteFlags,
};

impl<C: Callbacks> FileSystem for CallbackFs<C> {
    fn profile(&self) -> Profile {
        Profile {
            read_only: self.options.read_only || !self.features.has(Features::WRITABLE),
            deadline: self.options.deadline,
            data_by_open: true,
            ..Profile::default()
        }
    }

    fn reset(&self) {
        self.files.clear();
        self.directories.clear();
        self.tree().clear();
    }

    fn forget(&self, inode: Inode, count: u64) {
        self.tree().forget(inode, count);
    }

    async fn lookup(&self, _: Caller, parent: Inode, name: &Name) -> Result<Entry, Errno> {
        let path = self.tree().path_of(parent, name)?;
        match self.stat(&path).await {
            Ok(stat) => self.enter(parent, name, &stat, None),
            Err(Errno::ENOENT) => {
                self.tree().detach(parent, name);
                let absence = self.options.cache.absence;
                if absence > Duration::ZERO {
                    return Ok(Entry::absent(absence));
                }
                Err(Errno::ENOENT)
            }
            Err(errno) => Err(errno),
        }
    }

    async fn get_attr(&self, inode: Inode, _: Option<Handle>) -> Result<(Attr, Duration), Errno> {
        Ok((self.attr(inode).await?, self.options.cache.attr))
    }

    async fn set_attr(
        &self,
        inode: Inode,
        _: Option<Handle>,
        changes: Changes,
    ) -> Result<(Attr, Duration), Errno> {
        Ok((self.change(inode, &changes).await?, self.options.cache.attr))
    }

    async fn read_link(&self, inode: Inode) -> Result<Vec<u8>, Errno> {
        self.need(Features::READLINK, Errno::EINVAL)?;
        self.by_name(inode, |path| async move {
            let target = self.callbacks.readlink(&path).await?;
            self.check.target(&path, target)
        })
        .await
    }

    async fn symlink(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        target: &Target,
    ) -> Result<Entry, Errno> {
        self.need(Features::SYMLINK, Errno::EPERM)?;
        let path = self.tree().path_of(parent, name)?;
        self.callbacks.symlink(target.as_bytes(), &path).await?;
        let stat = self.stat(&path).await?;
        let made = (caller, 0o777);
        let stat = self.give(parent, &path, stat, made).await?;
        self.enter(parent, name, &stat, Some(made))
    }

    async fn make_node(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        mode: u32,
    ) -> Result<Entry, Errno> {
        let kind = Kind::from_mode(mode).unwrap_or(Kind::File);
        if kind != Kind::File {
            self.need(Features::NODES, Errno::EPERM)?;
        }
        let path = self.tree().path_of(parent, name)?;
        let permissions = mode & 0o7777;
        let stat = self.callbacks.create_file(&path, kind, permissions).await?;
        let stat = self.check.stat("createFile", &path, stat)?;
        if stat.kind != kind {
            return Err(self.check.wrong("createFile", &path, "Another kind than asked for"));
        }
        let made = (caller, permissions);
        let stat = self.give(parent, &path, stat, made).await?;
        self.enter(parent, name, &stat, Some(made))
    }

    async fn make_dir(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        permissions: u32,
    ) -> Result<Entry, Errno> {
        self.need(Features::MKDIR, Errno::EPERM)?;
        let path = self.tree().path_of(parent, name)?;
        self.callbacks.mkdir(&path, permissions).await?;
        let stat = self.stat(&path).await?;
        if stat.kind != Kind::Directory {
            return Err(self.check.wrong("stat", &path, "No directory where one was made"));
        }
        let made = (caller, permissions);
        let stat = self.give(parent, &path, stat, made).await?;
        self.enter(parent, name, &stat, Some(made))
    }

    async fn unlink(&self, parent: Inode, name: &Name) -> Result<(), Errno> {
        self.need(Features::UNLINK, Errno::EPERM)?;
        let path = self.tree().path_of(parent, name)?;
        self.take_name(parent, name, self.callbacks.unlink(&path)).await?;
        self.tree().detach(parent, name);
        Ok(())
    }

    async fn remove_dir(&self, parent: Inode, name: &Name) -> Result<(), Errno> {
        self.need(Features::RMDIR, Errno::EPERM)?;
        let path = self.tree().path_of(parent, name)?;
        self.callbacks.rmdir(&path).await?;
        self.tree().detach(parent, name);
        Ok(())
    }

    async fn rename(
        &self,
        from: (Inode, &Name),
        to: (Inode, &Name),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        self.move_name(from, to, mode).await
    }

    async fn link(&self, inode: Inode, parent: Inode, name: &Name) -> Result<Entry, Errno> {
        self.need(Features::LINK, Errno::EPERM)?;
        if self.tree().get(inode)?.kind == Kind::Directory {
            return Err(Errno::EPERM);
        }
        let path = self.tree().path_of(parent, name)?;
        loop {
            let existing = self.tree().path(inode).map_err(|_| Errno::ENOENT)?;
            match self.callbacks.link(&existing, &path).await {
                // Which of the two is not there?
                Err(Errno::ENOENT) if self.attr(inode).await.is_ok() => {
                    if self.tree().path(inode)? == existing {
                        return Err(Errno::ENOENT);
                    }
                }
                result => break result?,
            }
        }
        let stat = self.stat(&path).await?;
        if self.tree().get(inode)?.kind == stat.kind {
            self.tree().attach(parent, name, inode)?;
        }
        self.enter(parent, name, &stat, None)
    }

    async fn open(&self, inode: Inode, flags: OpenFlags) -> Result<Opened, Errno> {
        match self.tree().get(inode)?.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::ENXIO),
        }
        if flags.truncate {
            let drop_set_id = flags.drop_set_id;
            let changes = Changes { size: Some(0), drop_set_id, ..Changes::default() };
            self.change(inode, &changes).await?;
        } else if self.tree().get(inode)?.may_be_outdated() {
            self.attr(inode).await?;
        }
        self.open_counted(inode)
    }

    async fn create(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        permissions: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), Errno> {
        let mode = Kind::File.mode_bits() | permissions;
        let entry = match self.make_node(caller, parent, name, mode).await {
            Err(Errno::EEXIST) if !flags.exclusive => self.lookup(caller, parent, name).await?,
            made => made?,
        };
        match self.open_counted(entry.inode) {
            Ok(opened) => Ok((entry, opened)),
            Err(errno) => {
                self.forget(entry.inode, 1);
                Err(errno)
            }
        }
    }

    async fn read(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        body: &mut Body<'_>,
    ) -> Result<(), Errno> {
        self.files.get(inode, handle)?;
        if let Some(orphan) = self.orphan(inode)? {
            orphan.read(offset, body);
            return Ok(());
        }
        while body.room() > 0 {
            let (at, room) = (offset + body.filled() as u64, body.room());
            let read = self.by_name(inode, |path| async move {
                let bytes = self.callbacks.read(&path, at, room).await?;
                self.check.at_most("read", &path, bytes.len(), room)?;
                Ok(bytes)
            });
            let bytes = read.await?;
            body.push(&bytes);
            // A short answer is the end only where the file's size says so, or nothing does.
            let end = self.tree().get(inode)?.seen.map_or(0, |(size, _)| size);
            if bytes.is_empty() || at + bytes.len() as u64 >= end {
                break;
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        data: &mut Readable,
        flags: WriteFlags,
    ) -> Result<usize, Errno> {
        self.files.get(inode, handle)?;
        let contents = bytes::Bytes::from(data.take_vec(usize::MAX));
        let gate = self.gate(inode)?;
        let _writing = gate.read().await;
        if let Some(orphan) = self.orphan(inode)? {
            orphan.write(offset, &contents)?;
            return Ok(contents.len());
        }
        let mut done = 0;
        while done < contents.len() {
            match self.write_some(inode, offset + done as u64, contents.slice(done..)).await {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        self.touched(inode, offset + done as u64);
        if flags.drop_set_id {
            self.drop_set_id(inode).await?;
        }
        Ok(done)
    }

    async fn flush(&self, inode: Inode, handle: Handle, _: u64) -> Result<(), Errno> {
        self.files.get(inode, handle).map(drop)
    }

    fn release(&self, inode: Inode, handle: Handle) -> Result<(), Errno> {
        self.files.remove(inode, handle)?;
        self.tree().closed(inode);
        Ok(())
    }

    async fn fsync(&self, inode: Inode, handle: Handle, _: bool) -> Result<(), Errno> {
        self.files.get(inode, handle)?;
        // Without the callback: every write was answered by its own already.
        if self.orphan(inode)?.is_some() || !self.features.has(Features::FSYNC) {
            return Ok(());
        }
        self.by_name(inode, |path| async move { self.callbacks.fsync(&path).await }).await
    }

    async fn open_dir(&self, inode: Inode) -> Result<Opened, Errno> {
        let mut tree = self.tree();
        if tree.get(inode)?.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let handle = self.directories.insert(inode, listing::OpenDirectory::default())?;
        tree.opened(inode)?;
        Ok(Opened { handle, direct: false, keep_cache: false })
    }

    async fn read_dir(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        sink: &mut DirectorySink,
    ) -> Result<(), Errno> {
        let open = self.directories.get(inode, handle)?;
        let pass = match open.pass() {
            Some(pass) if offset > 0 => pass,
            _ => {
                let path = self.tree().path(inode)?;
                let entries = self.callbacks.list(&path).await?;
                open.begin(listing::check(&self.check, &path, entries, self.options.entries)?)
            }
        };
        let own = self.tree().get(inode)?.ino.unwrap_or(inode.0);
        for (index, dots) in [&b"."[..], b".."].into_iter().enumerate() {
            let next = index as u64 + 1;
            if offset < next && !sink.push(dots, own, Some(Kind::Directory), next, None) {
                return Ok(());
            }
        }
        let from = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
        for (index, listed) in pass.iter().enumerate().skip(from) {
            let name = listed.name.as_bytes();
            if !sink.fits(name) {
                break;
            }
            let entry = match sink.wants_entries() && listed.stat.is_complete() {
                true => Some(self.enter(inode, &listed.name, &listed.stat, None)?),
                false => None,
            };
            // Any number but 0 will do for a name that is not looked up yet.
            let ino = entry.map(|entry| entry.attr.ino).or(listed.stat.ino).unwrap_or(1);
            let kind = Some(listed.stat.kind);
            if !sink.push(name, ino, kind, index as u64 + 3, entry.as_ref()) {
                break;
            }
        }
        Ok(())
    }

    fn release_dir(&self, inode: Inode, handle: Handle) -> Result<(), Errno> {
        self.directories.remove(inode, handle)?;
        self.tree().closed(inode);
        Ok(())
    }

    async fn stat_fs(&self, _: Inode) -> Result<StatFs, Errno> {
        if self.features.has(Features::STATFS) {
            return self.callbacks.statfs().await;
        }
        // Nothing is known: as much as anybody may ask for, so that no program refuses to begin.
        let blocks = 1 << 28;
        let files = 1 << 32;
        Ok(StatFs {
            blocks,
            blocks_free: blocks,
            blocks_available: blocks,
            files,
            files_free: files,
            block_size: 4096,
            fragment_size: 4096,
            name_max: 255,
        })
    }

    async fn set_xattr(
        &self,
        inode: Inode,
        name: &Name,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.need(Features::SETXATTR, Errno::ENOSYS)?;
        let name = name.as_bytes();
        let set = |path| async move { self.callbacks.setxattr(&path, name, value, flags).await };
        self.by_name(inode, set).await
    }

    async fn get_xattr(&self, inode: Inode, name: &Name) -> Result<Vec<u8>, Errno> {
        self.need(Features::GETXATTR, Errno::ENOSYS)?;
        // The kernel asks for it at every execution.
        if name.as_bytes() == b"security.capability" {
            return Err(Errno::ENODATA);
        }
        self.by_name(inode, |path| async move {
            let value = self.callbacks.getxattr(&path, name.as_bytes()).await?;
            self.check.xattr(&path, value)
        })
        .await
    }

    async fn list_xattr(&self, inode: Inode) -> Result<Vec<u8>, Errno> {
        self.need(Features::LISTXATTR, Errno::ENOSYS)?;
        self.by_name(inode, |path| async move {
            let names = self.callbacks.listxattr(&path).await?;
            self.check.xattr_names(&path, &names)
        })
        .await
    }

    async fn remove_xattr(&self, inode: Inode, name: &Name) -> Result<(), Errno> {
        self.need(Features::REMOVEXATTR, Errno::ENOSYS)?;
        let remove = |path| async move { self.callbacks.removexattr(&path, name.as_bytes()).await };
        self.by_name(inode, remove).await
    }
}
