//! The client's callbacks as those of `vfs`: each method is a question, and converts.

use std::sync::Arc;

use bytes::Bytes;
use protocol::v1;
use protocol::v1::filesystem_call::Call;
use vfs::callbacks::{Callbacks, DirectoryEntry, Features, FilePath, FileStat};
use vfs::{Errno, Event, Kind, Observer, RenameMode, SetTime, StatFs, TARGET_MAX};

use super::answer::{Expected, Outcome, Reply};
use super::link::Link;
use crate::limits::{FILESYSTEM_ENTRIES, MAX_PATH};

/// The longest extended attribute.
const XATTR_BYTES: usize = 64 * 1024;

/// A mount's callbacks over its stream.
pub(super) struct StreamCallbacks {
    pub(super) link: Arc<Link>,
    pub(super) features: Features,
    pub(super) observer: Observer,
}

impl StreamCallbacks {
    async fn ask(
        &self,
        callback: &'static str,
        path: &FilePath,
        call: Call,
        expected: Expected,
    ) -> Result<Reply, Errno> {
        if path.as_bytes().len() > MAX_PATH {
            return Err(Errno::ENAMETOOLONG);
        }
        let writes = match &call {
            Call::Write(write) => u32::try_from(write.contents.len()).unwrap_or(u32::MAX),
            _ => 0,
        };
        let wrong = |problem| {
            let path = path.as_bytes().to_vec();
            self.observer.report(Event::WrongAnswer { callback, path, problem });
        };
        match self.link.ask(path, call, expected, writes).await {
            Ok(Outcome::Reply(reply)) => Ok(reply),
            Ok(Outcome::Failed { errno, problem }) => {
                problem.into_iter().for_each(wrong);
                Err(errno)
            }
            Ok(Outcome::Wrong(problem)) => {
                wrong(problem);
                Err(Errno::EIO)
            }
            Err(_) => Err(Errno::EIO),
        }
    }

    async fn done(&self, name: &'static str, path: &FilePath, call: Call) -> Result<(), Errno> {
        self.ask(name, path, call, Expected::Done).await.map(drop)
    }

    async fn for_stat(
        &self,
        name: &'static str,
        path: &FilePath,
        call: Call,
    ) -> Result<FileStat, Errno> {
        match self.ask(name, path, call, Expected::Stat).await? {
            Reply::Stat(stat) => Ok(stat),
            _ => Err(Errno::EIO),
        }
    }

    async fn for_data(
        &self,
        name: &'static str,
        path: &FilePath,
        call: Call,
        limit: usize,
    ) -> Result<Bytes, Errno> {
        match self.ask(name, path, call, Expected::Data(limit)).await? {
            Reply::Data(data) => Ok(data),
            _ => Err(Errno::EIO),
        }
    }
}

impl Callbacks for StreamCallbacks {
    fn features(&self) -> Features {
        self.features
    }

    async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        self.for_stat("stat", path, Call::Stat(v1::StatCall {})).await
    }

    async fn list(&self, path: &FilePath) -> Result<Vec<DirectoryEntry>, Errno> {
        let expected = Expected::Entries(FILESYSTEM_ENTRIES);
        match self.ask("list", path, Call::List(v1::ListCall {}), expected).await? {
            Reply::Entries(entries) => Ok(entries),
            _ => Err(Errno::EIO),
        }
    }

    async fn read(&self, path: &FilePath, offset: u64, length: usize) -> Result<Bytes, Errno> {
        let asked = u32::try_from(length).map_err(|_| Errno::EINVAL)?;
        let call = Call::Read(v1::ReadCall { offset, length: asked });
        self.for_data("read", path, call, length).await
    }

    async fn create_file(
        &self,
        path: &FilePath,
        kind: Kind,
        permissions: u32,
    ) -> Result<FileStat, Errno> {
        let kind = match kind {
            Kind::Fifo => v1::FileType::Fifo,
            Kind::Socket => v1::FileType::Socket,
            _ => v1::FileType::File,
        };
        let call = v1::CreateFileCall { r#type: kind.into(), mode: permissions };
        self.for_stat("createFile", path, Call::CreateFile(call)).await
    }

    async fn write(&self, path: &FilePath, offset: u64, contents: Bytes) -> Result<u64, Errno> {
        let expected = Expected::Written(contents.len());
        let call = Call::Write(v1::WriteCall { offset, contents });
        match self.ask("write", path, call, expected).await? {
            Reply::Written(count) => Ok(count),
            _ => Err(Errno::EIO),
        }
    }

    async fn truncate(&self, path: &FilePath, size: u64) -> Result<FileStat, Errno> {
        self.for_stat("truncate", path, Call::Truncate(v1::TruncateCall { size })).await
    }

    async fn mkdir(&self, path: &FilePath, permissions: u32) -> Result<(), Errno> {
        self.done("mkdir", path, Call::Mkdir(v1::MkdirCall { mode: permissions })).await
    }

    async fn unlink(&self, path: &FilePath) -> Result<(), Errno> {
        self.done("unlink", path, Call::Unlink(v1::UnlinkCall {})).await
    }

    async fn rmdir(&self, path: &FilePath) -> Result<(), Errno> {
        self.done("rmdir", path, Call::Rmdir(v1::RmdirCall {})).await
    }

    async fn rename(&self, from: &FilePath, to: &FilePath, mode: RenameMode) -> Result<(), Errno> {
        let mode = match mode {
            RenameMode::Replace => v1::RenameMode::Unspecified,
            RenameMode::NoReplace => v1::RenameMode::NoReplace,
            RenameMode::Exchange => v1::RenameMode::Exchange,
        };
        let call = v1::RenameCall { to: bytes(to.as_bytes()), mode: mode.into() };
        self.done("rename", from, Call::Rename(call)).await
    }

    async fn link(&self, existing: &FilePath, path: &FilePath) -> Result<(), Errno> {
        let call = Call::Link(v1::LinkCall { to: bytes(path.as_bytes()) });
        self.done("link", existing, call).await
    }

    async fn symlink(&self, target: &[u8], path: &FilePath) -> Result<(), Errno> {
        let call = Call::Symlink(v1::SymlinkCall { target: bytes(target) });
        self.done("symlink", path, call).await
    }

    async fn readlink(&self, path: &FilePath) -> Result<Vec<u8>, Errno> {
        let call = Call::Readlink(v1::ReadlinkCall {});
        Ok(self.for_data("readlink", path, call, TARGET_MAX).await?.to_vec())
    }

    async fn chmod(&self, path: &FilePath, permissions: u32) -> Result<(), Errno> {
        self.done("chmod", path, Call::Chmod(v1::ChmodCall { mode: permissions })).await
    }

    async fn chown(&self, path: &FilePath, uid: u32, gid: u32) -> Result<(), Errno> {
        self.done("chown", path, Call::Chown(v1::ChownCall { uid, gid })).await
    }

    async fn utimes(
        &self,
        path: &FilePath,
        accessed: Option<SetTime>,
        modified: Option<SetTime>,
    ) -> Result<(), Errno> {
        let (accessed, modified) = (accessed.map(set_time), modified.map(set_time));
        self.done("utimes", path, Call::Utimes(v1::UtimesCall { accessed, modified })).await
    }

    async fn setxattr(
        &self,
        path: &FilePath,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let call = v1::SetxattrCall { name: bytes(name), value: bytes(value), flags };
        self.done("setxattr", path, Call::Setxattr(call)).await
    }

    async fn getxattr(&self, path: &FilePath, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let call = Call::Getxattr(v1::GetxattrCall { name: bytes(name) });
        Ok(self.for_data("getxattr", path, call, XATTR_BYTES).await?.to_vec())
    }

    async fn listxattr(&self, path: &FilePath) -> Result<Vec<Vec<u8>>, Errno> {
        let call = Call::Listxattr(v1::ListxattrCall {});
        match self.ask("listxattr", path, call, Expected::Names).await? {
            Reply::Names(names) => Ok(names),
            _ => Err(Errno::EIO),
        }
    }

    async fn removexattr(&self, path: &FilePath, name: &[u8]) -> Result<(), Errno> {
        let call = Call::Removexattr(v1::RemovexattrCall { name: bytes(name) });
        self.done("removexattr", path, call).await
    }

    async fn fsync(&self, path: &FilePath) -> Result<(), Errno> {
        self.done("fsync", path, Call::Fsync(v1::FsyncCall {})).await
    }

    async fn statfs(&self) -> Result<StatFs, Errno> {
        let (root, call) = (FilePath::root(), Call::Statfs(v1::StatfsCall {}));
        match self.ask("statfs", &root, call, Expected::Sizes).await? {
            Reply::Sizes(sizes) => Ok(sizes),
            _ => Err(Errno::EIO),
        }
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn set_time(time: SetTime) -> v1::SetTime {
    let time = match time {
        SetTime::Now => None,
        SetTime::To(time) => Some(v1::FileTime { seconds: time.seconds, nanos: time.nanos }),
    };
    v1::SetTime { time }
}
