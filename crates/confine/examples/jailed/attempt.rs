//! What the program does where there are attempts to make.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use confine::{Grant, Plan, Role, Targets, attempts, enter, seal, thread};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("an argument is missing");
    let targets = Targets {
        folder: next()?.into(),
        process: next()?.parse()?,
        port: next()?.parse()?,
        socket: next()?,
    };
    let role = next()?;
    let mut plan = Plan::default();
    for argument in arguments {
        match argument.as_str() {
            "network" => plan.network = true,
            "no-landlock" => hide_landlock()?,
            grant => plan.grants.push(Grant::parse(OsStr::new(grant))?),
        }
    }
    if role == "--off" {
        tell(&targets);
        return Ok(());
    }
    nix::sys::prctl::set_no_new_privs()?;
    let jail = enter(&plan)?;
    println!("report {}", jail.report);
    println!("missing {}", jail.report.all_missing().join("; "));
    let told = seal(jail.facts)?;
    let role = Role::ALL.into_iter().find(|known| format!("{known:?}") == role);
    let role = role.ok_or("no such role")?;
    let tried = std::thread::spawn(move || {
        if role != Role::Main {
            thread(role);
        }
        tell(&targets);
    });
    tried.join().map_err(|_| "the thread panicked")?;
    let mut numbers = [0; 4096];
    let count = nix::unistd::read(&told, &mut numbers)?;
    println!("told {}", count / 4);
    Ok(())
}

/// Has the kernel look like one without Landlock.
fn hide_landlock() -> Result<(), Box<dyn Error>> {
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let rules = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn tell(targets: &Targets) {
    for (name, outcome) in attempts(targets) {
        match outcome {
            Ok(_) => println!("{name} done"),
            Err(errno) => println!("{name} {errno:?}"),
        }
    }
}
