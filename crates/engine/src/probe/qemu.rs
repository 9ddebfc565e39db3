//! Whether QEMU is installed and new enough.

use std::ffi::OsStr;
use std::path::Path;

use crate::probe::{EngineKind, Finding, FindingCode, IsolationKind};
use crate::qemu::{INSTALL, MINIMUM, PROGRAM, find_in, version_of};

/// Looks in the directories of `search_path`, then in `standard`.
pub(super) fn look(search_path: Option<&OsStr>, standard: &[&Path]) -> Finding {
    let finding = |code, detail: String, remedy: &str| Finding {
        engine: EngineKind::Qemu,
        isolation: IsolationKind::Emulated,
        code,
        detail,
        remedy: remedy.to_owned(),
    };
    let Some(program) = find_in(search_path, standard) else {
        let detail = format!("{PROGRAM} is not installed.");
        return finding(FindingCode::EngineMissing, detail, INSTALL);
    };
    let name = program.display();
    match version_of(&program) {
        Ok(version) if version >= MINIMUM => {
            let detail =
                format!("{name} is QEMU {version}; it emulates the processor in software.");
            finding(FindingCode::Ok, detail, "")
        }
        Ok(version) => {
            let detail = format!(
                "{name} is QEMU {version}, and {}.{} is the oldest that will do.",
                MINIMUM.major, MINIMUM.minor
            );
            finding(FindingCode::EngineTooOld, detail, INSTALL)
        }
        Err(problem) => {
            let detail = format!("{PROGRAM} does not tell its version: {problem}.");
            finding(FindingCode::EngineTooOld, detail, INSTALL)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What is found where `qemu-system-x86_64 --version` prints this.
    fn look_at(answer: Option<&str>) -> Finding {
        let folder = tempfile::tempdir().unwrap();
        if let Some(answer) = answer {
            let path = folder.path().join(PROGRAM);
            fs::write(&path, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        look(None, &[folder.path()])
    }

    #[test]
    fn missing_old_strange_and_good_programs_are_told_apart() {
        let missing = look_at(None);
        assert_eq!(missing.code, FindingCode::EngineMissing);
        assert!(missing.remedy.contains("apt-get install"), "{}", missing.remedy);
        let old = look_at(Some("QEMU emulator version 6.2.0 (Debian 1:6.2)"));
        assert_eq!(old.code, FindingCode::EngineTooOld);
        assert!(old.detail.contains("6.2.0") && old.detail.contains("7.2"), "{}", old.detail);
        assert!(old.remedy.contains("apt-get install"), "{}", old.remedy);
        let strange = look_at(Some("Segmentation fault"));
        assert_eq!(strange.code, FindingCode::EngineTooOld);
        assert!(strange.detail.contains("Segmentation fault"), "{}", strange.detail);
        let good = look_at(Some("QEMU emulator version 9.0.1"));
        assert_eq!((good.code, good.remedy.as_str()), (FindingCode::Ok, ""));
    }
}
