//! How many queues devices have, on every engine.

/// Queues of a disk: one for each processor, up to what one service thread keeps busy.
const MAX_DISK_QUEUES: u32 = 4;
/// Request queues of a filesystem: Linux 6.1, our guests' kernel, uses no more.
pub(crate) const FILESYSTEM_QUEUES: u16 = 1;

/// How many queues a disk of a machine with so many processors has.
pub(crate) fn disk_queues(cpus: u32) -> u16 {
    u16::try_from(cpus.clamp(1, MAX_DISK_QUEUES)).expect("the maximum is small")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_queue_for_each_processor_up_to_four() {
        assert_eq!([1, 2, 4, 5, 64].map(disk_queues), [1, 2, 4, 4, 4]);
    }
}
