//! The host's side of the control port.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::chain::Chain;

/// A guest that does what it is told, one command after the other. It has no deadlines of its own:
/// the guest waits for devices for a bounded time, but it may be hung by what it is told.
#[derive(Debug)]
pub struct Guest {
    control: BufReader<UnixStream>,
}

/// A device that the guest has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFound {
    /// What commands call it.
    pub number: usize,
    /// Type of the device (virtio 1.2, 5).
    pub kind: u32,
    /// Guest-physical address of its registers.
    pub address: u64,
    /// Its interrupt.
    pub interrupt: u32,
    /// The features that it offers.
    pub features: u64,
}

/// One segment that a device was to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Bytes of the segment, however many the device wrote.
    pub length: usize,
    /// [`crate::checksum`] of all of it.
    pub sum: u64,
    /// Its first bytes, 256 at most.
    pub bytes: Vec<u8>,
}

/// A chain that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The segments that the device was to write.
    pub inputs: Vec<Input>,
    /// How many bytes the device says it wrote.
    pub length: u32,
}

impl Guest {
    /// A guest behind the host's end of its control port.
    pub fn new(control: UnixStream) -> Self {
        Self { control: BufReader::new(control) }
    }

    /// Says a line that may have no answer.
    ///
    /// # Errors
    /// The port is closed.
    pub async fn say(&mut self, line: &str) -> io::Result<()> {
        self.control.write_all(format!("{line}\n").as_bytes()).await
    }

    /// Says a line, and waits for the lines of the answer. The last is what stands after "ok".
    ///
    /// # Errors
    /// What the guest says is wrong, or the end of the port.
    pub async fn ask(&mut self, line: &str) -> io::Result<Vec<String>> {
        self.say(line).await?;
        self.answer()
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("{line}: {error}")))
    }

    /// The answer to something that was said.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn answer(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.control.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if let Some(problem) = line.strip_prefix("error ") {
                return Err(io::Error::other(problem.to_owned()));
            }
            if let Some(last) = line.strip_prefix("ok") {
                lines.push(last.trim_start().to_owned());
                return Ok(lines);
            }
            lines.push(line.to_owned());
        }
    }

    /// Says a line whose answer begins with numbers.
    ///
    /// # Errors
    /// As for [`Guest::ask`], or the answer is something else.
    pub async fn numbers(&mut self, line: &str) -> io::Result<Vec<u64>> {
        let answer = self.ask(line).await?;
        answer.iter().next_back().into_iter().flat_map(|last| last.split(' ')).map(number).collect()
    }

    /// Says a line whose answer is bytes.
    ///
    /// # Errors
    /// As for [`Guest::ask`], or the answer is something else.
    pub async fn bytes(&mut self, line: &str) -> io::Result<Vec<u8>> {
        self.ask(line).await?.last().map_or_else(|| Ok(Vec::new()), |last| bytes(last))
    }

    /// The devices there are, in the order of the command line.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn devices(&mut self) -> io::Result<Vec<DeviceFound>> {
        let answer = self.ask("devices").await?;
        let lines = answer.iter().filter_map(|line| line.strip_prefix("device "));
        lines.map(device).collect()
    }

    /// The devices of a type.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn devices_of(&mut self, kind: u32) -> io::Result<Vec<DeviceFound>> {
        let mut devices = self.devices().await?;
        devices.retain(|device| device.kind == kind);
        Ok(devices)
    }

    /// Begins anew with a device, of whose features those in the mask are taken; which those are.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn set_up(&mut self, device: usize, mask: u64) -> io::Result<u64> {
        let numbers = self.numbers(&format!("setup {device} {mask:#x}")).await?;
        numbers.first().copied().ok_or_else(nonsense)
    }

    /// Submits a chain, and waits until it is back. Nothing else is under way on the queue.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn run(&mut self, device: usize, queue: usize, chain: &Chain) -> io::Result<Taken> {
        taken(&self.ask(&format!("run {device} {queue}{}", chain.words())).await?).map(|it| it.0)
    }

    /// Submits a chain; its number on the queue.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn post(&mut self, device: usize, queue: usize, chain: &Chain) -> io::Result<u16> {
        let head = self.numbers(&format!("post {device} {queue}{}", chain.words())).await?;
        head.first().and_then(|head| u16::try_from(*head).ok()).ok_or_else(nonsense)
    }

    /// Waits for the next chain that comes back, and its number.
    ///
    /// # Errors
    /// As for [`Guest::ask`].
    pub async fn take(&mut self, device: usize, queue: usize) -> io::Result<(Taken, u16)> {
        taken(&self.ask(&format!("take {device} {queue}")).await?)
    }

    /// Receives bytes that are not an answer.
    ///
    /// # Errors
    /// The port is closed.
    pub async fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.control.read_exact(bytes).await.map(drop)
    }

    /// Sends bytes that are not a command.
    ///
    /// # Errors
    /// The port is closed.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.control.write_all(bytes).await
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the guest answers nonsense")
}

fn number(word: &str) -> io::Result<u64> {
    let number = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    number.map_err(|_| nonsense())
}

fn bytes(digits: &str) -> io::Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(std::str::from_utf8);
    pairs.map(|pair| u8::from_str_radix(pair.unwrap_or(""), 16).map_err(|_| nonsense())).collect()
}

fn device(line: &str) -> io::Result<DeviceFound> {
    let numbers: Vec<u64> = line.split(' ').map(number).collect::<io::Result<_>>()?;
    let [device, kind, address, interrupt, features] = numbers[..] else { return Err(nonsense()) };
    Ok(DeviceFound {
        number: usize::try_from(device).map_err(|_| nonsense())?,
        kind: u32::try_from(kind).map_err(|_| nonsense())?,
        address,
        interrupt: u32::try_from(interrupt).map_err(|_| nonsense())?,
        features,
    })
}

fn taken(answer: &[String]) -> io::Result<(Taken, u16)> {
    let (last, inputs) = answer.split_last().ok_or_else(nonsense)?;
    let mut numbers = last.split(' ').map(number);
    let length = numbers.next().ok_or_else(nonsense)??;
    let head = numbers.next().unwrap_or(Ok(0))?;
    let inputs = inputs.iter().map(|line| input(line)).collect::<io::Result<_>>()?;
    let length = u32::try_from(length).map_err(|_| nonsense())?;
    Ok((Taken { inputs, length }, u16::try_from(head).map_err(|_| nonsense())?))
}

fn input(line: &str) -> io::Result<Input> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["in", length, sum, rest @ ..] = words.as_slice() else { return Err(nonsense()) };
    let length = usize::try_from(number(length)?).map_err(|_| nonsense())?;
    Ok(Input { length, sum: number(sum)?, bytes: bytes(rest.first().unwrap_or(&""))? })
}
