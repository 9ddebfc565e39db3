//! Whether /dev/kvm runs guest kernel code at the processor's speed.

use std::path::Path;

use crate::probe::{EngineKind, Finding, FindingCode, IsolationKind};

pub(super) fn look(device: &Path) -> Finding {
    defect(device)
}

/// The finding when looking itself failed.
pub(super) fn defect(device: &Path) -> Finding {
    Finding {
        engine: EngineKind::Krun,
        isolation: IsolationKind::Hardware,
        code: FindingCode::DeviceBroken,
        detail: format!("{} could not be examined.", device.display()),
        remedy: "Report this as a defect of Lanebox.".to_owned(),
    }
}
