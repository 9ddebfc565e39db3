//! Descriptors that no driver would think of.

use payload_guest::FREE_BEGIN;

/// Flags of a descriptor (virtio 1.2, 2.7.5).
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The same numbers in each run (xorshift, G. Marsaglia 2003).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        let count = values.len() as u64;
        values[usize::try_from(self.next() % count).unwrap()]
    }

    /// A table of 16 descriptors: most lie in memory and many are linked within the table.
    pub(crate) fn table(&mut self, own: u64) -> String {
        let mut table = String::new();
        for _ in 0..16 {
            let inside = FREE_BEGIN + self.next() % (16 << 20);
            let wild = [own, (64 << 20) - 8, 0xd000_0000, 0xfeb0_0000, u64::MAX - 4, self.next()];
            let address = if self.next().is_multiple_of(4) { self.one_of(&wild) } else { inside };
            let any = u32::try_from(self.next() % 70_000).unwrap();
            let length = self.one_of(&[0, 1, 8, 16, 16, 512, 4096, 1 << 20, u32::MAX, any]);
            let flags =
                self.one_of(&[0, NEXT, NEXT, NEXT, WRITE, NEXT | WRITE, INDIRECT, 7, 0xfff8]);
            let next = if self.next().is_multiple_of(16) { self.next() } else { self.next() % 16 };
            let next = u16::try_from(next % 65_536).unwrap();
            table.push_str(&hex_of(address));
            for byte in length.to_le_bytes() {
                table.push_str(&format!("{byte:02x}"));
            }
            for half in [flags, next] {
                table.push_str(&format!("{:04x}", half.swap_bytes()));
            }
        }
        table
    }
}

/// The lowest byte first.
pub(crate) fn hex_of(number: u64) -> String {
    number.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
