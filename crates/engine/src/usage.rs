//! What a process of the host uses: proc_pid_stat(5).

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// Processor time and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far, of all threads.
    pub cpu: Duration,
    /// Bytes of memory that are resident, shared ones included.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of a process; nothing when it is gone, or the system does not tell.
    #[must_use]
    pub fn of(process: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let unit = |what| sysconf(what).ok().flatten().and_then(|value| u64::try_from(value).ok());
        let (ticks, page) = (unit(SysconfVar::CLK_TCK), unit(SysconfVar::PAGE_SIZE));
        ticks.zip(page).and_then(|(ticks, page)| parse(&stat, ticks, page)).unwrap_or_default()
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            resident_bytes: self.resident_bytes.saturating_add(other.resident_bytes),
        }
    }
}

/// Fields 14 and 15 are ticks, field 24 is pages; the second field, a name, may hold anything.
fn parse(stat: &str, ticks: u64, page: u64) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(14 - 3);
    let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
    let (user, system) = (number(0)?, number(0)?);
    let pages = number(24 - 16)?;
    let nanos = user.checked_add(system)?.checked_mul(1_000_000_000)?.checked_div(ticks)?;
    Some(Usage { cpu: Duration::from_nanos(nanos), resident_bytes: pages.checked_mul(page)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_time_and_memory() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 5 0 0 0 250 50 0 0 20 0 1 0 99 4096000 300 1844";
        let usage = parse(stat, 100, 4096).unwrap();
        assert_eq!(usage.cpu, Duration::from_secs(3));
        assert_eq!(usage.resident_bytes, 300 * 4096);
        assert_eq!(parse("", 100, 4096), None);
        assert!(Usage::of(std::process::id()).resident_bytes > 0);
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }
}
