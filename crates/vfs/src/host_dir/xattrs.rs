//! Extended attributes: `user.` ones, and `trusted.` ones when this process is privileged.
//!
//! `security.` ones (file capabilities before all) would give rights on the host, and `system.`
//! ones are ACLs that the guest does not apply: both are `EOPNOTSUPP`, and not listed.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::HostDir;
use super::proc_fd::ProcFd;
use crate::{Errno, Inode, Name};

/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
const VALUE_MAX: usize = 65_536;

impl HostDir {
    fn serves(&self, name: &[u8]) -> bool {
        name.starts_with(b"user.") || (self.owners.privileged() && name.starts_with(b"trusted."))
    }

    fn xattr_path(&self, inode: Inode) -> Result<(Arc<OwnedFd>, String), Errno> {
        let fd = self.nodes.fd(&self.nodes.get(inode)?)?;
        let path = ProcFd::path(fd.as_fd());
        Ok((fd, path))
    }

    fn checked<'a>(&self, name: &'a Name) -> Result<&'a CStr, Errno> {
        if self.serves(name.as_bytes()) { Ok(name.as_c_str()) } else { Err(Errno::EOPNOTSUPP) }
    }

    pub(super) fn xattr(&self, inode: Inode, name: &Name) -> Result<Vec<u8>, Errno> {
        let name = self.checked(name)?;
        let (_fd, path) = self.xattr_path(inode)?;
        let mut value = vec![0; VALUE_MAX];
        let length = rustix::fs::getxattr(&*path, name, &mut value[..])?;
        value.truncate(length);
        Ok(value)
    }

    pub(super) fn write_xattr(
        &self,
        inode: Inode,
        name: &Name,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let name = self.checked(name)?;
        let (_fd, path) = self.xattr_path(inode)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        Ok(rustix::fs::setxattr(&*path, name, value, flags)?)
    }

    pub(super) fn xattr_names(&self, inode: Inode) -> Result<Vec<u8>, Errno> {
        let (_fd, path) = self.xattr_path(inode)?;
        let mut names = vec![0; VALUE_MAX];
        let length = rustix::fs::listxattr(&*path, &mut names[..])?;
        names.truncate(length);
        let served = names.split_inclusive(|byte| *byte == 0).filter(|name| self.serves(name));
        Ok(served.flatten().copied().collect())
    }

    pub(super) fn drop_xattr(&self, inode: Inode, name: &Name) -> Result<(), Errno> {
        let name = self.checked(name)?;
        let (_fd, path) = self.xattr_path(inode)?;
        Ok(rustix::fs::removexattr(&*path, name)?)
    }
}
