//! What this process was granted when it was started, and what confines it.
//!
//! A request that names a file which was not granted is refused here, by name, before the system
//! would refuse it without one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use confine::{Access, Blank, Grant, Report};

use crate::request::{
    BindPlan, BootPlan, FlattenPlan, MountSource, OverlayPlan, RequestError, RootImage, StorePlan,
};

/// The grants of this process.
#[derive(Debug)]
pub struct Granted {
    /// Nothing when all is allowed.
    grants: Option<Vec<Grant>>,
    network: bool,
    blanks: Mutex<Vec<Blank>>,
    refusals: Mutex<Option<OwnedFd>>,
    report: Report,
}

impl Granted {
    /// A process that is not confined can use whatever its user can.
    #[must_use]
    pub fn everything(report: Report) -> Self {
        let (blanks, refusals) = (Mutex::default(), Mutex::default());
        Self { grants: None, network: true, blanks, refusals, report }
    }

    /// A process that is confined.
    #[must_use]
    pub fn only(
        grants: Vec<Grant>,
        network: bool,
        (blanks, refusals): (Vec<Blank>, OwnedFd),
        report: Report,
    ) -> Self {
        let (blanks, refusals) = (Mutex::new(blanks), Mutex::new(Some(refusals)));
        Self { grants: Some(grants), network, blanks, refusals, report }
    }

    /// What confines this process.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The pipe that tells of refused system calls, the first time.
    pub fn take_refusals(&self) -> Option<OwnedFd> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The nameless file for a path that was not there.
    pub fn take_blank(&self, path: &Path) -> Option<Blank> {
        let mut blanks = self.blanks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = blanks.iter().position(|blank| blank.path() == path)?;
        Some(blanks.swap_remove(place))
    }

    /// Whether a boot uses what was granted.
    ///
    /// # Errors
    /// [`RequestError`] names the first field that does not.
    pub fn check_boot(&self, plan: &BootPlan) -> Result<(), RequestError> {
        self.check("kernel.path", Access::Engine, &plan.kernel.path)?;
        self.check("initramfs.path", Access::Engine, &plan.initramfs.path)?;
        self.check_root(&plan.root)?;
        for mount in &plan.mounts {
            if let MountSource::Bind(BindPlan { source, mask_storage, .. }) = &mount.source {
                let access = if mount.read_only { Access::Read } else { Access::Write };
                self.check("mounts.bind.source", access, source)?;
                let storage = mask_storage.as_deref();
                storage.map_or(Ok(()), |path| {
                    self.check("mounts.bind.mask_storage", Access::Write, path)
                })?;
            }
        }
        if plan.network.is_some() && !self.network {
            let reason = "this process was started without --network";
            return Err(RequestError::new("network", "present", reason));
        }
        Ok(())
    }

    /// Whether a disk is one that was granted.
    ///
    /// # Errors
    /// [`RequestError`] names the first field that is not.
    pub fn check_root(&self, root: &RootImage) -> Result<(), RequestError> {
        self.check("root.path", Access::Read, &root.file.path)?;
        match &root.overlay {
            Some(OverlayPlan { store: StorePlan::File { path, create }, .. }) => {
                let access = if *create { Access::Create } else { Access::Write };
                self.check("root.overlay.file.path", access, path)
            }
            _ => Ok(()),
        }
    }

    /// Whether an image can be written from and to where it says.
    ///
    /// # Errors
    /// [`RequestError`] names the first field that cannot.
    pub fn check_flatten(&self, plan: &FlattenPlan) -> Result<(), RequestError> {
        self.check_root(&plan.source)?;
        self.check("destination", Access::Create, &plan.destination)
    }

    fn check(&self, field: &'static str, access: Access, path: &Path) -> Result<(), RequestError> {
        let Some(grants) = &self.grants else { return Ok(()) };
        if grants.iter().any(|grant| grant.covers(access, path)) {
            return Ok(());
        }
        let how = format!("{access:?}").to_lowercase();
        let reason = format!("this process was started without --grant {how}: for it");
        Err(RequestError::new(field, path, reason))
    }
}
