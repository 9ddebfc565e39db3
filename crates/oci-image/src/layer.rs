//! A layer's blob becomes an archive in a file without a name: hashed on both sides of the decoder,
//! and no longer than it may be.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::blob_cache::BlobCache;
use crate::download::Layer;
use crate::error::{Error, Result};
use crate::fetch::same_digest;
use crate::hashing::{Hashing, PastLimit};
use crate::limits::Limits;
use crate::manifest::Compression;
use crate::progress::Step;

const BUFFER: usize = 256 * 1024;

/// The archive, and its length, which is `left` at most.
pub(crate) fn unpack(
    layer: Layer,
    cache: &BlobCache,
    limits: &Limits,
    left: u64,
    step: &mut dyn Step,
) -> Result<(File, u64)> {
    let Layer { descriptor, diff_id, blob } = layer;
    let what = format!("The layer {}", descriptor.digest);
    let folder = cache.folder();
    let archive = cache.scratch()?;
    // The blob was checked before; it is again, for the file may have been changed meanwhile.
    let mut blob = Hashing::new(blob, descriptor.size);
    let limit = limits.layer_bytes.min(left);
    let decoder = decoder(
        BufReader::with_capacity(BUFFER, Stepping { inner: &mut blob, step }),
        descriptor.compression,
    );
    let mut plain = Hashing::new(decoder, limit);
    let mut output = BufWriter::with_capacity(BUFFER, &archive);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = plain.read(&mut buffer).map_err(|source| match source.get_ref() {
            Some(inner) if inner.is::<PastLimit>() => {
                let whole =
                    if left < limits.layer_bytes { "What the image's layers hold" } else { &what };
                let limit = if left < limits.layer_bytes { limits.image_bytes } else { limit };
                Error::TooLarge { what: format!("{whole}, uncompressed,"), limit }
            }
            _ => Error::Decompress { layer: descriptor.digest, source },
        })?;
        if count == 0 {
            break;
        }
        output.write_all(&buffer[..count]).map_err(Error::file("write to", folder))?;
    }
    output.flush().map_err(Error::file("write to", folder))?;
    drop(output);
    let length = plain.count();
    let found = plain.digest();
    same_digest(&what, &descriptor.digest, &blob.digest())?;
    same_digest(&format!("{what}, uncompressed,"), &diff_id, &found)?;
    Ok((archive, length))
}

fn decoder<'a>(blob: impl BufRead + 'a, compression: Compression) -> Box<dyn Read + 'a> {
    match compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Compression::Zstd => {
            Box::new(ZstdFrames { input: blob, decoder: FrameDecoder::new(), within: false })
        }
    }
}

/// Tells how much of the blob has been read.
struct Stepping<'a, R> {
    inner: &'a mut Hashing<R>,
    step: &'a mut dyn Step,
}

impl<R: Read> Read for Stepping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.step.at(self.inner.count());
        Ok(count)
    }
}

/// Frames one after the other, and skippable ones between them, until the input ends.
struct ZstdFrames<R> {
    input: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within {
                if self.input.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.begin_frame()?;
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.within = false;
        }
    }
}

impl<R: BufRead> ZstdFrames<R> {
    /// Read the next frame's header, or pass over a frame that holds nothing.
    fn begin_frame(&mut self) -> io::Result<()> {
        let length = match self.decoder.init(&mut self.input) {
            Ok(()) => {
                self.within = true;
                return Ok(());
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => u64::from(length),
            Err(error) => return Err(io::Error::other(error)),
        };
        let passed = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        if passed == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
#[path = "layer/tests.rs"]
mod tests;
