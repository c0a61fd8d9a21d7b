//! Unpacks a stream by what it is, not by what it is called: gzip, zstd, bzip2, xz or plain.
//!
//! Memory is bounded whatever a stream asks for: windows and dictionaries above [`MEMORY_LIMIT`] are refused. How
//! much comes out is the caller's to bound.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// Largest window or dictionary that a stream may ask for.
pub const MEMORY_LIMIT: u32 = 256 << 20;
const BUFFER: usize = 128 << 10;

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Not packed in a way we know.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// The .xz format.
    Xz,
}

/// Number of first bytes that [`detect`] wants.
pub const HEAD: usize = 6;

/// Packing by the first bytes.
pub fn detect(head: &[u8]) -> Detected {
    match head {
        [0x1f, 0x8b, 8, ..] => Detected::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Detected::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Detected::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Detected::Xz,
        _ => Detected::Plain,
    }
}

/// Detects the packing and gives the unpacked bytes; concatenated members are read as one stream.
pub fn decompressor<'a>(
    reader: impl BufRead + Send + 'a,
) -> Result<(Detected, Box<dyn Read + Send + 'a>)> {
    decompressor_within(reader, MEMORY_LIMIT)
}

/// The same with windows and dictionaries of at most `memory` bytes, a power of two.
pub fn decompressor_within<'a>(
    mut reader: impl BufRead + Send + 'a,
    memory: u32,
) -> Result<(Detected, Box<dyn Read + Send + 'a>)> {
    let mut head = Vec::with_capacity(HEAD);
    reader
        .by_ref()
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .or_error(ErrorKind::Integrity, || "cannot read a stream".to_owned())?;
    let detected = detect(&head);
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(reader));
    let unpacked: Box<dyn Read + Send + 'a> = match detected {
        Detected::Plain => Box::new(whole),
        Detected::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Detected::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Detected::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, memory >> 10)),
        Detected::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)
                .or_error(ErrorKind::Environment, || "cannot start zstd".to_owned())?;
            decoder
                .window_log_max(memory.ilog2())
                .or_error(ErrorKind::Environment, || "cannot start zstd".to_owned())?;
            Box::new(decoder)
        }
    };
    Ok((detected, Box::new(Named { detected, inner: unpacked })))
}

/// Says in errors what was being unpacked.
struct Named<'a> {
    detected: Detected,
    inner: Box<dyn Read + Send + 'a>,
}

impl Read for Named<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|error| {
            // Ours came from below the decompressor and says more than we could; an interrupted call is tried again.
            let is_ours =
                error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>);
            if is_ours || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let name = match self.detected {
                Detected::Plain => return error,
                Detected::Gzip => "gzip",
                Detected::Zstd => "zstd",
                Detected::Bzip2 => "bzip2",
                Detected::Xz => "xz",
            };
            let message = match error.kind() {
                io::ErrorKind::UnexpectedEof => format!("the {name} stream is cut short"),
                _ => format!("the {name} stream is damaged"),
            };
            Error::integrity(message).cause(error).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(detected: Detected, text: &[u8]) -> Vec<u8> {
        match detected {
            Detected::Plain => text.to_vec(),
            Detected::Gzip => {
                let mut out =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                out.write_all(text).unwrap();
                out.finish().unwrap()
            }
            Detected::Zstd => zstd::encode_all(text, 3).unwrap(),
            Detected::Bzip2 => {
                let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
                out.write_all(text).unwrap();
                out.finish().unwrap()
            }
            Detected::Xz => unhex(XZ.iter().find(|(plain, _)| plain.as_bytes() == text).unwrap().1),
        }
    }

    /// What `xz -0 --check=crc32` makes of these texts: we have no encoder.
    const XZ: [(&str, &str); 3] = [
        (
            "hello ",
            "fd377a585a0000016922de36020021010c0000008f98419c01000568656c6c6f20000000f6f981ed00011a06c5eac8799042990d010000000001595a",
        ),
        (
            "world",
            "fd377a585a0000016922de36020021010c0000008f98419c010004776f726c64000000004311773a00011905bce8eccb9042990d010000000001595a",
        ),
        (
            SEVENS,
            "fd377a585a0000016922de36020021010c0000008f98419ce01387001e5d0003effbbffea3b15ee5f83fb2aa2655f868704170150f8dfd1e35c9c1d6000000007b9b7d4f0001368827000000b95c05ad3e300d8b020000000001595a",
        ),
    ];
    const SEVENS: &str = match std::str::from_utf8(&[7; 5000]) {
        Ok(text) => text,
        Err(_) => "",
    };

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    const ALL: [Detected; 5] =
        [Detected::Plain, Detected::Gzip, Detected::Zstd, Detected::Bzip2, Detected::Xz];

    fn unpack(bytes: Vec<u8>) -> io::Result<(Detected, Vec<u8>)> {
        let (detected, mut reader) = decompressor(Cursor::new(bytes))?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((detected, out))
    }

    #[test]
    fn every_packing_is_detected_and_members_are_joined() {
        for kind in ALL {
            let mut twice = packed(kind, b"hello ");
            twice.extend(packed(kind, b"world"));
            assert_eq!(unpack(twice).unwrap(), (kind, b"hello world".to_vec()), "{kind:?}");
        }
        assert_eq!(unpack(Vec::new()).unwrap(), (Detected::Plain, Vec::new()));
    }

    #[test]
    fn cut_streams_are_errors() {
        for kind in &ALL[1..] {
            let mut bytes = packed(*kind, SEVENS.as_bytes());
            bytes.truncate(bytes.len() - 3);
            let error = unpack(bytes).unwrap_err().to_string();
            assert!(error.contains("stream is "), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_greedy_window_is_refused() {
        // A zstd frame header that asks for a window of 2 GiB (RFC 8878 §3.1.1.1.2).
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0];
        assert!(unpack(frame.to_vec()).is_err());
    }
}
