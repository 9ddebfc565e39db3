//! What the guest can be told, a line each. Numbers are decimal, or hexadecimal after `0x`.
//!
//! ```text
//! devices                       "device N KIND ADDRESS INTERRUPT FEATURES" of each
//! cmdline | cpus | memory | entry
//! setup D [FEATURES [SIZE]]     begins with a device anew; what was agreed upon, sizes of queues
//! reset D                       leaves it at its beginning
//! config D OFFSET LENGTH        of its configuration
//! run D Q SEGMENT…              submits a chain and waits; "in …" of each segment, length
//! post D Q SEGMENT…             submits a chain
//! take D Q                      waits for a chain; the same, with its head
//! returned D Q                  how many chains could be taken
//! bench D Q COUNT DEPTH STEP SEGMENT…
//! read D OFFSET, write D OFFSET VALUE     of registers
//! rings D Q                     addresses of descriptors, available and used ring
//! desc D Q INDEX ADDRESS LENGTH FLAGS NEXT
//! push D Q HEAD…                makes chains available, notify D Q  tells the device
//! peek ADDRESS LENGTH, poke ADDRESS HEX
//! touch MIB                     dirties memory from the place of chains on
//! say TEXT                      to the serial port
//! pour LENGTH SEED              sends a pattern, drink LENGTH  receives and sums up
//! count                         prints growing numbers to the serial port for ever
//! loop | triple-fault | panic
//! ```
//! Each is answered by lines of which the last begins with `ok` or `error`.

use core::convert::Infallible;
use core::fmt::Write;

use super::bench::Bench;
use super::boot::{self, Boot};
use super::console::Port;
use super::device::{Devices, register};
use super::output::{self, Answer};
use super::queue::Queue;
use super::segments::{self, Memory};
use super::words::{Words, byte};
use super::{DATA, Problem, RINGS, sys};

/// Longest line of the host's.
const LONGEST: usize = 16 * 1024;
/// Chains that a benchmark has under way at most.
const DEPTH: usize = 64;

/// Everything that the guest knows.
pub(crate) struct Machine {
    boot: Boot,
    devices: Devices,
    memory: Memory,
    /// Where the next ring goes.
    rings: u64,
    answer: Answer,
}

impl Machine {
    pub(crate) fn new(boot: Boot) -> Self {
        let devices = Devices::find(&boot);
        Self { boot, devices, memory: Memory::new(), rings: RINGS, answer: Answer::new() }
    }

    /// Does what the host says, for ever.
    pub(crate) fn serve(&mut self) -> Result<Infallible, Problem> {
        let mut port = Port::open(&mut self.devices, &mut self.rings)?;
        let mut line = [0; LONGEST];
        loop {
            let length = self.read_line(&mut port, &mut line)?;
            self.answer.clear();
            let text = core::str::from_utf8(&line[..length]).map_err(|_| "not a text")?;
            let mut words = Words::new(text);
            let done = self.obey(&mut words, &mut port);
            let written = match done {
                Ok(()) => Ok(()),
                Err(problem) => writeln!(self.answer, "error {problem}"),
            };
            written.map_err(|_| "an answer is too long")?;
            port.send(self.devices.get(port.device)?, self.answer.bytes())?;
        }
    }

    fn read_line(&mut self, port: &mut Port, line: &mut [u8]) -> Result<usize, Problem> {
        let mut length = 0;
        loop {
            let device = self.devices.get(port.device)?;
            let Some((address, _)) = port.receive(device, 1) else {
                core::hint::spin_loop();
                continue;
            };
            match sys::read8(address) {
                b'\n' => return Ok(length),
                byte => *line.get_mut(length).ok_or("a line is too long")? = byte,
            }
            length += 1;
        }
    }

    fn obey(&mut self, words: &mut Words<'_>, port: &mut Port) -> Result<(), Problem> {
        match words.next().ok_or("an empty line")? {
            "devices" => self.tell_devices(),
            "cmdline" => {
                let (address, length) = self.boot.command_line();
                self.hexadecimal(address, length)
            }
            "cpus" => self.tell(boot::processors()),
            "memory" => self.tell(self.boot.memory),
            "entry" => self.tell(self.boot.protocol),
            "touch" => self.touch(words.number()?),
            "peek" => {
                let (address, length) = (words.number()?, words.number()?);
                self.hexadecimal(address, length)
            }
            "poke" => self.poke(words),
            "say" => self.say(words),
            "pour" => {
                let (length, seed) = (words.number()?, words.number()?);
                port.pour(self.devices.get(port.device)?, length, seed)?;
                self.tell(length)
            }
            "drink" => self.drink(port, words.number()?),
            "count" => count(),
            "loop" => sys::spin(),
            "triple-fault" => sys::reset(),
            "panic" => panic!("told to"),
            command => self.drive(command, words),
        }
    }

    /// Commands that begin with the number of a device.
    fn drive(&mut self, command: &str, words: &mut Words<'_>) -> Result<(), Problem> {
        let number = words.number()? as usize;
        match command {
            "setup" => self.set_up(number, words),
            "reset" => {
                self.devices.get(number)?.reset()?;
                self.forget_memory()?;
                self.tell(0)
            }
            "config" => {
                let (offset, length) = (words.number()?, words.number()?);
                let device = self.devices.get(number)?;
                let address = device.address + register::CONFIGURATION + offset;
                self.hexadecimal(address, length)
            }
            "read" => {
                let value = self.devices.get(number)?.read(words.number()?);
                self.tell(value.into())
            }
            "write" => {
                let (offset, value) = (words.number()?, words.number()?);
                self.devices.get(number)?.write(offset, value as u32);
                self.tell(0)
            }
            _ => {
                let queue = words.number()? as usize;
                self.drive_queue(command, (number, queue), words)
            }
        }
    }

    /// Commands that begin with the numbers of a device and a queue.
    fn drive_queue(
        &mut self,
        command: &str,
        (number, index): (usize, usize),
        words: &mut Words<'_>,
    ) -> Result<(), Problem> {
        let device = self.devices.get(number)?;
        let queue = device.queue(index)?;
        match command {
            "run" | "post" => {
                let head = segments::build(words, queue, &mut self.memory)?;
                queue.push(head);
                device.notify(index);
                if command == "run" {
                    self.take(number, index, false)
                } else {
                    self.tell(head.into())
                }
            }
            "take" => self.take(number, index, true),
            "returned" => {
                let returned = queue.returned();
                self.tell(returned.into())
            }
            "bench" => self.bench((number, index), words),
            "rings" => {
                let Queue { size, descriptors, available, used, .. } = *queue;
                self.line(format_args!("ok {size} {descriptors:#x} {available:#x} {used:#x}"))
            }
            "desc" => {
                let (index, address) = (words.number()? as u16, words.number()?);
                let (length, flags) = (words.number()? as u32, words.number()? as u16);
                queue.write(index, address, length, flags, words.number()? as u16);
                self.tell(0)
            }
            "push" => {
                while let Ok(head) = words.number() {
                    queue.push(head as u16);
                }
                self.tell(0)
            }
            "notify" => {
                device.notify(index);
                self.tell(0)
            }
            _ => Err("there is no such command"),
        }
    }

    fn set_up(&mut self, number: usize, words: &mut Words<'_>) -> Result<(), Problem> {
        let (mask, size) = (words.number_or(u64::MAX)?, words.number_or(Queue::MAX_SIZE.into())?);
        let device = self.devices.get(number)?;
        let agreed = device.set_up(mask, size as u16, &mut self.rings)?;
        let mut told = write!(self.answer, "ok {agreed:#x}");
        for queue in &device.queues[..device.queue_count] {
            told = told.and_then(|()| write!(self.answer, " {}", queue.size));
        }
        told.and_then(|()| self.answer.write_str("\n")).map_err(|_| "the answer is too long")?;
        self.forget_memory()
    }

    /// Frees the memory of chains when none is under way.
    fn forget_memory(&mut self) -> Result<(), Problem> {
        const CONSOLE: u32 = 3;
        for number in 0..self.devices.count {
            let device = self.devices.get(number)?;
            let queues = &device.queues[..device.queue_count];
            if device.kind != CONSOLE && !queues.iter().all(Queue::is_idle) {
                return Ok(());
            }
        }
        self.memory.clear();
        Ok(())
    }

    fn take(&mut self, number: usize, index: usize, with_head: bool) -> Result<(), Problem> {
        let queue = self.devices.get(number)?.queue(index)?;
        let used = queue.wait()?;
        segments::tell(queue, used.head, &mut self.answer)?;
        queue.release(used.head);
        self.forget_memory()?;
        match with_head {
            true => self.line(format_args!("ok {} {}", used.length, used.head)),
            false => self.tell(used.length.into()),
        }
    }

    fn bench(
        &mut self,
        (number, index): (usize, usize),
        words: &mut Words<'_>,
    ) -> Result<(), Problem> {
        let (count, depth) = (words.number()?, words.number()? as usize);
        let bench = Bench { count, step: words.number()? };
        let device = self.devices.get(number)?;
        let mut heads = [0; DEPTH];
        let heads = heads.get_mut(..depth).ok_or("that is too deep")?;
        for head in heads.iter_mut() {
            *head = segments::build(&mut words.clone(), device.queue(index)?, &mut self.memory)?;
        }
        let begun = sys::ticks();
        let outcome = bench.run(device, index, heads)?;
        let ticks = sys::ticks().wrapping_sub(begun);
        self.forget_memory()?;
        self.line(format_args!("ok {} {} {ticks}", outcome.written, outcome.failed))
    }

    fn tell_devices(&mut self) -> Result<(), Problem> {
        for number in 0..self.devices.count {
            let device = *self.devices.get(number)?;
            let (kind, address, interrupt) = (device.kind, device.address, device.interrupt);
            let features = device.features();
            self.line(format_args!(
                "device {number} {kind} {address:#x} {interrupt} {features:#x}"
            ))?;
        }
        self.tell(self.devices.count as u64)
    }

    fn touch(&mut self, mebibytes: u64) -> Result<(), Problem> {
        const PAGE: usize = 4096;
        let end = DATA + (mebibytes << 20);
        if end > self.boot.memory {
            return Err("there is less memory than that");
        }
        for page in (DATA..end).step_by(PAGE) {
            sys::write64(page, page);
        }
        self.tell(end)
    }

    fn poke(&mut self, words: &mut Words<'_>) -> Result<(), Problem> {
        let address = words.number()?;
        let digits = words.next().ok_or("the bytes are missing")?.as_bytes();
        for (index, digits) in digits.chunks(2).enumerate() {
            sys::write8(address + index as u64, byte(digits)?);
        }
        self.tell(0)
    }

    fn say(&mut self, words: &mut Words<'_>) -> Result<(), Problem> {
        while let Some(word) = words.next() {
            output::serial(word);
            output::serial(" ");
        }
        output::serial("\n");
        self.tell(0)
    }

    /// Pieces are summed up on their own, so that the sum depends on the bytes alone.
    fn drink(&mut self, port: &mut Port, length: u64) -> Result<(), Problem> {
        let mut left = length;
        let mut sum = 0u64;
        while left > 0 {
            let device = self.devices.get(port.device)?;
            let Some((address, count)) = port.receive(device, left) else {
                core::hint::spin_loop();
                continue;
            };
            for index in 0..count {
                sum = sum.rotate_left(5).wrapping_add(sys::read8(address + index).into());
            }
            left -= count;
        }
        self.line(format_args!("ok {sum:#x}"))
    }

    fn hexadecimal(&mut self, address: u64, length: u64) -> Result<(), Problem> {
        let told = self
            .answer
            .write_str("ok ")
            .and_then(|()| self.answer.hexadecimal(address, length))
            .and_then(|()| self.answer.write_str("\n"));
        told.map_err(|_| "the answer is too long")
    }

    fn tell(&mut self, number: u64) -> Result<(), Problem> {
        self.line(format_args!("ok {number}"))
    }

    fn line(&mut self, line: core::fmt::Arguments<'_>) -> Result<(), Problem> {
        writeln!(self.answer, "{line}").map_err(|_| "the answer is too long")
    }
}

/// Prints growing numbers for ever.
fn count() -> ! {
    for number in 0u64.. {
        let _ = writeln!(output::Serial, "{number}");
    }
    sys::spin()
}
