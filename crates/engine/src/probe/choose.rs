//! From findings to an engine, or to words that help. Pure: looks at nothing but its arguments.

use crate::probe::{EngineKind, Finding, FindingCode, IsolationKind};

/// Engines in the order they are preferred.
const PREFERENCE: [EngineKind; 2] = [EngineKind::Krun, EngineKind::Qemu];

/// Whether this version has the engine for hardware isolation in it. Where it has not, no remedy
/// may send the user off to repair a /dev/kvm that nothing would use.
pub(super) const KRUN_BUILT: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// The engine to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// What to start.
    pub engine: EngineKind,
    /// The isolation it gives, at least what was asked for.
    pub isolation: IsolationKind,
}

/// No engine of this host is what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unavailable {
    /// What was found, a sentence or two.
    pub message: String,
    /// What the user can do; done, it works.
    pub remedy: String,
}

/// The engine to start when `minimum` is the least isolation that is accepted, and `engine`, when
/// given, the only engine. The first usable one of krun, qemu is taken; never one with less
/// isolation, and never another one than asked for.
///
/// # Errors
/// [`Unavailable`] when none will do.
pub fn choose(
    minimum: IsolationKind,
    engine: Option<EngineKind>,
    findings: &[Finding],
) -> Result<Choice, Unavailable> {
    let request = Request { minimum, engine };
    match request.best(findings) {
        Some(finding) => Ok(Choice { engine: finding.engine, isolation: finding.isolation }),
        None => Err(Unavailable {
            message: request.message(findings),
            remedy: request.remedy(findings, KRUN_BUILT),
        }),
    }
}

#[derive(Clone, Copy)]
struct Request {
    minimum: IsolationKind,
    engine: Option<EngineKind>,
}

impl Request {
    fn names(self, engine: EngineKind) -> bool {
        self.engine.is_none_or(|wanted| wanted == engine)
    }

    fn best(self, findings: &[Finding]) -> Option<&Finding> {
        let acceptable = |kind: EngineKind| {
            findings.iter().find(|finding| {
                finding.engine == kind
                    && finding.code == FindingCode::Ok
                    && finding.isolation >= self.minimum
            })
        };
        PREFERENCE.into_iter().filter(|kind| self.names(*kind)).find_map(acceptable)
    }

    fn message(self, findings: &[Finding]) -> String {
        let who = match self.engine {
            None => "No engine of this host gives".to_owned(),
            Some(engine) => format!("The engine {engine} does not give"),
        };
        let mut message = format!("{who} {} isolation", self.minimum);
        if self.minimum == IsolationKind::Emulated {
            message.push_str(" or better");
        }
        for kind in PREFERENCE.into_iter().filter(|kind| self.names(*kind)) {
            let said = match findings.iter().find(|finding| finding.engine == kind) {
                None => "nothing is known about it here".to_owned(),
                Some(finding) if finding.isolation < self.minimum => {
                    format!("it gives {} isolation only", finding.isolation)
                }
                Some(finding) => finding.detail.trim_end_matches('.').to_owned(),
            };
            message.push_str(&format!(". {kind}: {said}"));
        }
        message.push('.');
        message
    }

    fn remedy(self, findings: &[Finding], krun_built: bool) -> String {
        let of = |kind| findings.iter().find(|finding| finding.engine == kind);
        let mut steps = Vec::new();
        if krun_built && let Some(krun) = of(EngineKind::Krun) {
            match krun.code {
                FindingCode::Ok => steps.push("Use isolation: { engine: \"auto\" }.".to_owned()),
                _ if self.names(EngineKind::Krun) => steps.push(krun.remedy.clone()),
                _ => {}
            }
        }
        steps.push(self.way_to_emulation(of(EngineKind::Qemu)));
        steps.join(" Or: ")
    }

    /// What makes the same call work with QEMU.
    fn way_to_emulation(self, qemu: Option<&Finding>) -> String {
        let option = match self.engine {
            Some(EngineKind::Krun) => "{ minimum: \"emulated\", engine: \"auto\" }",
            Some(EngineKind::Qemu) => "{ minimum: \"emulated\", engine: \"qemu\" }",
            None => "{ minimum: \"emulated\" }",
        };
        let needs_option = self.minimum > IsolationKind::Emulated || !self.names(EngineKind::Qemu);
        let install = qemu
            .filter(|finding| finding.code != FindingCode::Ok)
            .map(|finding| finding.remedy.clone());
        let accept =
            needs_option.then(|| format!("Accept software emulation with isolation: {option}."));
        [install, accept].into_iter().flatten().collect::<Vec<_>>().join(" Then: ")
    }
}

#[cfg(test)]
mod tests;
