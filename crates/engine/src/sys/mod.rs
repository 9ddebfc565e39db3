//! System calls that no library wraps safely, and the time stamp counter. Everything unsafe of
//! this crate is in here.

pub(crate) mod child;
pub(crate) mod descriptor;
pub(crate) mod guest_vm;
pub(crate) mod kvm;
pub(crate) mod pidfd;
pub(crate) mod tsc;
pub(crate) mod vcpu;
