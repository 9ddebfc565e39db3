//! Where the probe looks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::probe::{Finding, kvm, qemu};
use crate::qemu::STANDARD_DIRECTORIES;
use crate::sys::tsc;

/// Looks at the host: one finding for each engine, krun first. Blocks for some 30 ms, which is
/// what QEMU takes to tell its version; never for more than a few seconds.
pub fn probe() -> Vec<Finding> {
    // What comes after a probe is a start, which wants to know the counter's pace.
    tsc::begin();
    Host::this().look()
}

/// The places that are looked at.
struct Host<'a> {
    device: PathBuf,
    search_path: Option<OsString>,
    standard: &'a [&'a Path],
}

impl Host<'static> {
    fn this() -> Self {
        static STANDARD: std::sync::LazyLock<Vec<&'static Path>> =
            std::sync::LazyLock::new(|| STANDARD_DIRECTORIES.iter().map(Path::new).collect());
        Self {
            device: PathBuf::from("/dev/kvm"),
            search_path: std::env::var_os("PATH"),
            standard: &STANDARD,
        }
    }
}

impl Host<'_> {
    fn look(&self) -> Vec<Finding> {
        std::thread::scope(|scope| {
            let hardware = scope.spawn(|| kvm::look(&self.device));
            let qemu = qemu::look(self.search_path.as_deref(), self.standard);
            let hardware = hardware.join().unwrap_or_else(|_| kvm::defect(&self.device));
            vec![hardware, qemu]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{EngineKind, FindingCode};

    #[test]
    fn a_bare_host_has_neither_and_both_findings_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host {
            device: folder.path().join("kvm"),
            search_path: Some(folder.path().into()),
            standard: &[],
        };
        let found: Vec<_> = host.look().iter().map(|one| (one.engine, one.code)).collect();
        let expected = [
            (EngineKind::Krun, FindingCode::NoDevice),
            (EngineKind::Qemu, FindingCode::EngineMissing),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn this_host_gets_one_finding_for_each_engine() {
        let found: Vec<_> = probe().iter().map(|one| one.engine).collect();
        assert_eq!(found, [EngineKind::Krun, EngineKind::Qemu]);
    }
}
