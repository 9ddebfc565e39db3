//! The step `check-root`: a root that was not shut down cleanly is checked before it is mounted.
//!
//! By e2fsck, which lies beside init in the initramfs: nothing of the disk is trusted for it. It
//! replays the journal, checks everything (`-f`), and repairs what can be repaired without a loss
//! (`-p`); what else it finds ends the boot, and the disk stays as it is.

use std::process::{Command, Stdio};

use super::ext4::Superblock;
use super::settings::Root;
use super::step::{Failure, While};
use crate::console;

/// Where scripts/build-init puts it.
pub(super) const E2FSCK: &str = "/e2fsck";

/// Exit statuses with these bits only are successes: something was repaired (e2fsck(8)).
const REPAIRED: i32 = 1 | 2;

/// What e2fsck says of a filesystem that has nothing but its journal to replay: counters and files
/// that were open without a name are no damage.
const ORDINARY: [&str; 4] =
    ["recovering journal", "Setting free", "Clearing orphaned inode", " files ("];

/// Most bytes of a warning.
const WARNING_BYTES: usize = 900;

/// Checks the root if that is called for; a warning if it had to be repaired.
pub(super) fn run(root: &Root) -> Result<Option<String>, Failure> {
    let device = &root.device;
    let superblock = Superblock::read(device)?;
    if superblock.is_clean() {
        return Ok(None);
    }
    let output = Command::new(E2FSCK)
        .args(["-f", "-p", device])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .during(|| format!("Starting {E2FSCK}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    said.lines().for_each(|line| console::say(format_args!("e2fsck: {line}")));
    match output.status.code() {
        Some(status) if status & !REPAIRED == 0 => Ok(repairs(device, &said)),
        status => Err(Failure::new(format!(
            "{device} is damaged, and e2fsck does not repair it without being told how \
             (status {}): {}",
            status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
            short(&said.lines().map(str::trim).collect::<Vec<_>>().join("; "))
        ))),
    }
}

fn repairs(device: &str, said: &str) -> Option<String> {
    let is_repair =
        |line: &&str| !line.is_empty() && !ORDINARY.iter().any(|known| line.contains(known));
    let lines: Vec<&str> = said.lines().map(str::trim).filter(is_repair).collect();
    let text = format!("e2fsck has repaired {device}: {}", lines.join("; "));
    (!lines.is_empty()).then(|| short(&text).to_owned())
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(WARNING_BYTES)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_was_replayed_is_no_repair() {
        let said = "/dev/vda: recovering journal\n/dev/vda: Clearing orphaned inode 18 (uid=0, \
                    gid=0, mode=0100644, size=0)\n/dev/vda: Setting free blocks count to 9 (was 8)\n\
                    /dev/vda: 341/65536 files (0.6% non-contiguous), 9876/65536 blocks\n";
        assert_eq!(repairs("/dev/vda", said), None);
    }

    #[test]
    fn what_was_repaired_is_told_and_cut() {
        let said = "/dev/vda: recovering journal\n/dev/vda: Inode 12, i_blocks is 8, should be 0.  \
                    FIXED.\n";
        let told = repairs("/dev/vda", said).unwrap();
        assert_eq!(
            told,
            "e2fsck has repaired /dev/vda: /dev/vda: Inode 12, i_blocks is 8, should be 0.  FIXED."
        );
        assert!(repairs("/dev/vda", &"ü".repeat(2000)).unwrap().len() <= WARNING_BYTES);
    }
}
