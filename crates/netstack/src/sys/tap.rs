//! The ioctls that make a descriptor of `/dev/net/tun` a TAP device (linux/if_tun.h).
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

nix::ioctl_write_ptr_bad!(
    /// Attaches to a device, or makes it.
    tun_set_iff,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// Says what the reader takes unfinished.
    tun_set_offload,
    nix::request_code_write!(b'T', 208, size_of::<libc::c_uint>())
);
nix::ioctl_write_ptr_bad!(set_tx_queue, libc::SIOCSIFTXQLEN, libc::ifreq);

/// Segments with unfinished sums, and segments of TCP over either family to be cut.
const OFFLOAD: libc::c_int = 0x01 | 0x02 | 0x04;

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays for the terminator.
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// Makes an open `/dev/net/tun` the TAP device of that name, with a `virtio_net_hdr` before frames.
pub(crate) fn attach(tun: &File, name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the request is a valid `ifreq` for the whole call.
    unsafe { tun_set_iff(tun.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Lets the kernel leave sums and cutting to us.
pub(crate) fn set_offload(tun: &File) -> io::Result<()> {
    // SAFETY: takes a number, no memory.
    unsafe { tun_set_offload(tun.as_raw_fd(), OFFLOAD) }?;
    Ok(())
}

/// Sets how many frames may wait for us. `socket` is any socket of the device's namespace.
pub(crate) fn set_queue_length(
    socket: &impl AsRawFd,
    name: &str,
    frames: libc::c_int,
) -> io::Result<()> {
    let mut request = request(name)?;
    // The queue length shares its place with the metric.
    request.ifr_ifru.ifru_metric = frames;
    // SAFETY: the request is a valid `ifreq` for the whole call.
    unsafe { set_tx_queue(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}
