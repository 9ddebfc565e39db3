//! Three ioctls: how much a pipe holds (pipe(7), FIONREAD), the flags of a network interface
//! (netdevice(7)), and the size of a mounted ext4 (Documentation/admin-guide/ext4.rst).
#![allow(unsafe_code, reason = "ioctl(2) is not typed")]

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// Bytes that can be read from a pipe without waiting.
pub(crate) fn bytes_readable(pipe: impl AsFd) -> nix::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the given address, which outlives the call.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    Errno::result(result)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Brings a network interface up. `socket` is any socket of the network namespace.
pub(crate) fn interface_up(socket: impl AsFd, name: &str) -> nix::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: ifreq is plain data; all zeroes is a valid value of every member of its union.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the name is a C string.
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of the ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: SIOCGIFFLAGS has succeeded, so the flags are the member of the union that is set.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(|_| Errno::EINVAL)?;
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: SIOCSIFFLAGS only reads the ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

/// `_IOW('f', 16, __u64)`, fs/ext4/ext4.h.
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// Grows the mounted ext4 that `file` is in to so many blocks.
pub(crate) fn resize_ext4(file: impl AsFd, blocks: u64) -> nix::Result<()> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: EXT4_IOC_RESIZE_FS only reads the number, which outlives the call.
    Errno::result(unsafe { libc::ioctl(file, EXT4_IOC_RESIZE_FS, &raw const blocks) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_tells_how_much_it_holds() {
        let (read, write) = nix::unistd::pipe().unwrap();
        assert_eq!(bytes_readable(&read), Ok(0));
        nix::unistd::write(&write, b"four").unwrap();
        assert_eq!(bytes_readable(&read), Ok(4));
    }

    #[test]
    fn interface_name_that_does_not_fit_is_refused() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(interface_up(&socket, "sixteen-bytes-xx"), Err(Errno::ENAMETOOLONG));
        assert_eq!(interface_up(&socket, "lanebox-none"), Err(Errno::ENODEV));
    }
}
