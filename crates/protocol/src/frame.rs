//! The stream of a connection as frames: a 32-bit length, then as many bytes.

use bytes::{Buf as _, Bytes, BytesMut};

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("the length of a frame is {0}")]
    Negative(i32),
    /// The length is more than is accepted.
    #[error("a frame of {len} bytes is larger than the {max} that socket.request.max.bytes allows")]
    TooLarge {
        /// The length that the frame announces.
        len: usize,
        /// The largest that is accepted.
        max: usize,
    },
}

/// Takes frames off the front of what a connection has received.
///
/// It never makes room for what has only been announced: the buffer grows with what arrives. Once it has returned
/// an error it returns it again, for where the next frame begins is not known.
#[derive(Clone, Copy, Debug)]
pub struct FrameDecoder {
    len_max: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames of more than `len_max` bytes, their length field not counted.
    #[must_use]
    pub const fn new(len_max: usize) -> Self {
        Self { len_max }
    }

    /// The next frame without its length, as a part of the buffer; `None` until all of it has arrived.
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = buffer.first_chunk() else { return Ok(None) };
        let declared = i32::from_be_bytes(*head);
        let len = usize::try_from(declared).map_err(|_| FrameError::Negative(declared))?;
        if len > self.len_max {
            return Err(FrameError::TooLarge { len, max: self.len_max });
        }
        if buffer.len() - head.len() < len {
            return Ok(None);
        }
        buffer.advance(size_of::<i32>());
        Ok(Some(buffer.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_arrive() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01z\0\0\0\x02q";
        for piece in 1..=stream.len() {
            let (mut buffer, decoder, mut frames) = (BytesMut::new(), FrameDecoder::new(3), Vec::new());
            for bytes in stream.chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Some(frame) = decoder.next(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"", b"z"]);
            assert_eq!(&buffer[..], b"\0\0\0\x02q", "what is not complete stays");
        }
    }

    #[test]
    fn absurd_lengths_are_refused_when_the_length_is_there() {
        let next = |bytes: &[u8]| FrameDecoder::new(3).next(&mut BytesMut::from(bytes));
        assert_eq!(next(b"\x7f\xff\xff"), Ok(None));
        assert_eq!(next(b"\0\0\0\x04"), Err(FrameError::TooLarge { len: 4, max: 3 }));
        assert_eq!(next(b"\xff\xff\xff\xff"), Err(FrameError::Negative(-1)));
        assert_eq!(next(b"GET "), Err(FrameError::TooLarge { len: 0x4745_5420, max: 3 }));
    }
}
