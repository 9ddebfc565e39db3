//! Which files can be opened, and how (landlock(7)).
//!
//! Rules belong to files that were there when they were made, whatever names they get later. Not
//! covered by Landlock: looking at a file's attributes, and changing them; the filter of system
//! calls forbids the changing where nothing is to be changed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::blank::Blank;
use crate::error::Error;

/// The newest version whose rights we have looked at.
const KNOWN: ABI = ABI::V7;

/// The rights of one process, being collected.
pub(crate) struct Rules(RulesetCreated);

impl Rules {
    /// Nothing is allowed. With `network`, TCP is left alone.
    pub(crate) fn new(network: bool) -> Result<Self, Error> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?;
        if !network {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
        }
        Ok(Self(ruleset.create()?))
    }

    /// Files are read, here and below.
    pub(crate) fn read(&mut self, path: &Path) -> Result<(), Error> {
        self.path(path, AccessFs::ReadFile | AccessFs::ReadDir)
    }

    /// The file is read and executed.
    pub(crate) fn execute(&mut self, path: &Path) -> Result<(), Error> {
        self.path(path, AccessFs::ReadFile | AccessFs::Execute)
    }

    /// A device is used.
    pub(crate) fn device(&mut self, path: &Path) -> Result<(), Error> {
        self.path(path, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)
    }

    /// Files are changed, made and removed, here and below; no devices are made, and nothing is
    /// executed.
    pub(crate) fn write(&mut self, path: &Path) -> Result<(), Error> {
        let never =
            AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
        self.path(path, AccessFs::from_all(KNOWN) & !never)
    }

    /// Sockets are made and removed in a directory.
    pub(crate) fn sockets(&mut self, folder: &Path) -> Result<(), Error> {
        self.path(folder, AccessFs::MakeSock | AccessFs::RemoveFile)
    }

    /// The file is read and changed, and its directory gets its name.
    pub(crate) fn blank(&mut self, blank: &Blank) -> Result<(), Error> {
        let file = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
        self.add(blank.file(), file)?;
        self.add(blank.folder(), AccessFs::MakeReg)
    }

    fn path(&mut self, path: &Path, rights: impl Into<BitFlags<AccessFs>>) -> Result<(), Error> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = match open(path, flags, Mode::empty()).map(File::from) {
            Ok(file) => file,
            Err(errno) => return missing(path, errno.into()),
        };
        let is_folder = file.metadata().is_ok_and(|found| found.is_dir());
        let rights = rights.into();
        // The kernel refuses rights that make no sense for a file.
        self.add(&file, if is_folder { rights } else { rights & AccessFs::from_file(KNOWN) })
    }

    fn add(&mut self, file: impl AsFd, rights: impl Into<BitFlags<AccessFs>>) -> Result<(), Error> {
        let file: BorrowedFd<'_> = file.as_fd();
        (&mut self.0).add_rule(PathBeneath::new(file, rights))?;
        Ok(())
    }

    /// Restricts this thread, and those that it starts, for good. Whether it took effect.
    pub(crate) fn restrict(self) -> Result<bool, Error> {
        let status = self.0.restrict_self()?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }
}

/// What is not there cannot be used, and whoever uses it says so. What is there and cannot be
/// reached is an error later, too, by the one who knows what it is for.
fn missing(path: &Path, error: io::Error) -> Result<(), Error> {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied => Ok(()),
        _ => Err(Error::Path { path: path.to_owned(), source: error }),
    }
}

/// What a version of Landlock cannot do that the newest that is known can.
pub(crate) fn missing_in(version: u8) -> Option<&'static str> {
    match version {
        1 | 2 => Some(
            "files that are open for reading can be cut, TCP, ioctl and signals are not restricted",
        ),
        3 => Some("TCP, ioctl and signals are not restricted"),
        4 => Some("ioctl and signals are not restricted"),
        5 => Some("signals are not restricted"),
        _ => None,
    }
}
