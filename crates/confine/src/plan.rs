//! All of it in order, for the one thread of a process that has just begun.

use std::path::{Path, PathBuf};

use crate::blank::Blank;
use crate::capabilities;
use crate::control_group;
use crate::engine_jail::EngineJail;
use crate::error::Error;
use crate::grant::{Access, Grant};
use crate::landlock_rules::{Rules, missing_in};
use crate::limits;
use crate::namespaces::{self, Users};
use crate::report::Report;
use crate::seccomp::Facts;
use crate::sys;

/// What a process is to be able to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files that the caller names.
    pub grants: Vec<Grant>,
    /// It has the host's network.
    pub network: bool,
    /// A control group to join.
    pub control_group: Option<PathBuf>,
    /// Files of the system that this process reads.
    pub system: Vec<PathBuf>,
    /// Devices that it uses.
    pub devices: Vec<PathBuf>,
    /// The engine's programs, which may be executed.
    pub programs: Vec<PathBuf>,
    /// What those read.
    pub program_files: Vec<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Jail {
    /// What is in force once [`crate::seal`] has been called.
    pub report: Report,
    /// Files for the names of [`Access::Create`] that are not there yet.
    pub blanks: Vec<Blank>,
    /// For the thread that starts the engine's process.
    pub engine: EngineJail,
    /// For [`crate::seal`].
    pub facts: Facts,
}

/// Confines the process but for its system calls. There must be no other thread.
///
/// # Errors
/// [`Error`]; the process must then exit.
pub fn enter(plan: &Plan) -> Result<Jail, Error> {
    let mut report = Report::default();
    if let Some(group) = &plan.control_group {
        control_group::join(group)?;
        report.control_group = true;
    }
    let kept = capabilities::needed(&plan.grants)?;
    let users = if kept.is_empty() { Users::Own } else { Users::All };
    let own = namespaces::enter(users, plan.network)?;
    report.no_namespaces = own.problem;
    limits::set(!own.own.is_empty())?;
    report.namespaces = own.own;
    let facts = Facts::new(plan);
    let mut blanks = Vec::new();
    let (mut files, mut engine) = (None, None);
    match usable_landlock(plan) {
        Ok(version) => {
            let mut rules = Rules::new(plan.network)?;
            allow(&mut rules, plan, &mut blanks)?;
            files = Some(rules);
            engine = Some(engine_rules(plan)?);
            report.landlock = Some(version);
            report
                .missing
                .extend(missing_in(version).map(|missing| {
                    format!("The host's Landlock has version {version}: {missing}")
                }));
        }
        Err(problem) => report.missing.push(problem),
    }
    capabilities::keep(&kept)?;
    report.capabilities = capabilities::names(&kept);
    if let Some(rules) = files
        && !rules.restrict()?
    {
        report.landlock = None;
        report.missing.push("The host's Landlock is not in force".to_owned());
    }
    let engine = EngineJail::new(engine, facts);
    Ok(Jail { report, blanks, engine, facts })
}

/// The version that the kernel has, or why it is not used.
fn usable_landlock(plan: &Plan) -> Result<u8, String> {
    let version = sys::landlock_version();
    let version = version.ok_or("The host's kernel has no Landlock: files are not restricted")?;
    let writable = |grant: &Grant| grant.access == Access::Write && grant.path.is_dir();
    if version < 2 && plan.grants.iter().any(writable) {
        return Err("The host's Landlock has version 1, which refuses renames between the \
                    directories of a writable mount: files are not restricted"
            .to_owned());
    }
    Ok(version)
}

fn allow(rules: &mut Rules, plan: &Plan, blanks: &mut Vec<Blank>) -> Result<(), Error> {
    for grant in &plan.grants {
        match grant.access {
            Access::Read | Access::Engine => rules.read(&grant.path)?,
            Access::Write => rules.write(&grant.path)?,
            Access::Create => create(rules, &grant.path, blanks)?,
            Access::Socket => rules.sockets(folder(&grant.path))?,
        }
    }
    plan.system.iter().try_for_each(|path| rules.read(path))?;
    plan.devices.iter().try_for_each(|path| rules.device(path))?;
    // What the engine's thread is to have, its creator must have.
    plan.programs.iter().try_for_each(|path| rules.execute(path))?;
    plan.program_files.iter().try_for_each(|path| rules.read(path))
}

fn create(rules: &mut Rules, path: &Path, blanks: &mut Vec<Blank>) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() {
        return rules.write(path);
    }
    match Blank::make(path) {
        Ok(blank) => {
            rules.blank(&blank)?;
            blanks.push(blank);
            Ok(())
        }
        // A filesystem without nameless files: the file is made under a name, like others there.
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            rules.write(folder(path))
        }
        // Whoever makes it meets the same.
        Err(_) => Ok(()),
    }
}

fn engine_rules(plan: &Plan) -> Result<Rules, Error> {
    let mut rules = Rules::new(false)?;
    plan.programs.iter().try_for_each(|path| rules.execute(path))?;
    plan.program_files.iter().try_for_each(|path| rules.read(path))?;
    let engines = plan.grants.iter().filter(|grant| grant.access == Access::Engine);
    engines.map(|grant| grant.path.as_path()).try_for_each(|path| rules.read(path))?;
    rules.device(Path::new("/dev/null"))?;
    Ok(rules)
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}
