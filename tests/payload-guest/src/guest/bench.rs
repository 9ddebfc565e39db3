//! The same chain again and again, as fast as the device answers.

use super::device::Device;
use super::queue::{NEXT, Queue, WRITE};
use super::{Problem, sys};

/// How often, and what changes in between.
pub(crate) struct Bench {
    pub(crate) count: u64,
    /// Added to the number at bytes 8 to 15 of the chain each time: the sector of a disk's request.
    pub(crate) step: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Bytes that the device said it wrote.
    pub(crate) written: u64,
    /// Chains whose last byte, where it is a segment of one for the device to write, was not zero.
    pub(crate) failed: u64,
}

impl Bench {
    /// Runs the chains that begin at `heads`; they are released in the end.
    pub(crate) fn run(
        &self,
        device: &mut Device,
        index: usize,
        heads: &[u16],
    ) -> Result<Outcome, Problem> {
        let mut outcome = Outcome { written: 0, failed: 0 };
        let mut begun = 0;
        for head in heads.iter().take(self.count as usize) {
            self.begin(device.queue(index)?, *head, begun);
            begun += 1;
        }
        device.notify(index);
        for _ in 0..self.count {
            let queue = device.queue(index)?;
            let used = queue.wait()?;
            outcome.written += u64::from(used.length);
            outcome.failed += u64::from(failed(queue, used.head));
            if begun < self.count {
                self.begin(queue, used.head, begun);
                begun += 1;
                device.notify(index);
            }
        }
        heads.iter().try_for_each(|head| device.queue(index).map(|queue| queue.release(*head)))?;
        Ok(outcome)
    }

    fn begin(&self, queue: &mut Queue, head: u16, number: u64) {
        if self.step != 0 {
            let (address, ..) = queue.read(head);
            sys::write64(address + 8, number * self.step);
        }
        queue.push(head);
    }
}

fn failed(queue: &Queue, head: u16) -> bool {
    let mut index = head;
    for _ in 0..queue.size {
        let (address, length, flags, next) = queue.read(index);
        if flags & NEXT == 0 {
            return flags & WRITE != 0 && length == 1 && sys::read8(address) != 0;
        }
        index = next;
    }
    false
}
