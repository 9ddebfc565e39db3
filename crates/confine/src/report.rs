//! What is in force, in words.

use std::fmt;

/// What confines this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// It was asked not to be confined.
    pub off: bool,
    /// Version of Landlock that restricts files.
    pub landlock: Option<u8>,
    /// Capabilities that are kept.
    pub capabilities: Vec<String>,
    /// Namespaces of its own.
    pub namespaces: Vec<&'static str>,
    /// It has joined a control group.
    pub control_group: bool,
    /// Why it has no namespaces of its own.
    pub no_namespaces: Option<String>,
    /// What else this host does not give, which weakens the walls; one sentence each.
    pub missing: Vec<String>,
}

impl Report {
    /// Of a process that was asked not to be confined.
    #[must_use]
    pub fn off() -> Self {
        let missing = vec![
            "The helper is not confined, as the option asks: whoever takes it over can do what \
             its user can"
                .to_owned(),
        ];
        Self { off: true, missing, ..Self::default() }
    }
}

impl Report {
    /// Everything that this host does not give; one sentence each.
    #[must_use]
    pub fn all_missing(&self) -> Vec<String> {
        let namespaces = self
            .no_namespaces
            .iter()
            .map(|why| format!("The host gives no user namespaces ({why})"));
        namespaces.chain(self.missing.iter().cloned()).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.off {
            return f.write_str("helper not confined (confinement: \"off\")");
        }
        f.write_str("helper confined by seccomp")?;
        match self.landlock {
            Some(version) => write!(f, ", Landlock ABI {version}")?,
            None => f.write_str(", no Landlock")?,
        }
        match self.capabilities.as_slice() {
            [] => f.write_str(", no capabilities")?,
            kept => write!(f, ", capabilities {} for files", kept.join("+"))?,
        }
        match self.namespaces.as_slice() {
            [] => {
                let why = self.no_namespaces.as_deref().unwrap_or("none asked for");
                write!(f, ", no namespaces of its own ({why})")?;
            }
            own => write!(f, ", {} namespaces", own.join("+"))?,
        }
        if self.control_group {
            f.write_str(", control group")?;
        }
        self.missing.iter().try_for_each(|missing| write!(f, "; {missing}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_said_in_one_line() {
        let report = Report {
            landlock: Some(7),
            namespaces: vec!["user", "mount"],
            control_group: true,
            ..Report::default()
        };
        assert_eq!(
            report.to_string(),
            "helper confined by seccomp, Landlock ABI 7, no capabilities, user+mount namespaces, \
             control group"
        );
    }

    #[test]
    fn what_is_missing_or_kept_is_said() {
        let missing = vec!["The host's kernel has no Landlock".to_owned()];
        let capabilities = vec!["chown".to_owned()];
        let report = Report { capabilities, missing, ..Report::default() };
        let said = report.to_string();
        assert!(said.ends_with("; The host's kernel has no Landlock"), "{said}");
        assert!(said.contains("no Landlock") && said.contains("no namespaces"), "{said}");
        assert!(said.contains("capabilities chown for files"), "{said}");
        assert!(Report::off().to_string().contains("not confined"));
        assert_eq!(Report::off().missing.len(), 1);
    }
}
