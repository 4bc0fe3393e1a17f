//! The stream of a connection as frames: a 32-bit length, then as many bytes.

use bytes::{Buf as _, Bytes, BytesMut};

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("the length of a frame is {0}")]
    Negative(i32),
    /// The length is more than is accepted.
    #[error(
        "a frame of {len} bytes is larger than the {max} that socket.request.max.bytes and dohle.memory.max allow"
    )]
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
        // A frame that fills its buffer takes it along, so that it is the only owner of its bytes.
        let frame = if buffer.len() == len { std::mem::take(buffer) } else { buffer.split_to(len) };
        Ok(Some(frame.freeze()))
    }

    /// Bytes that are still to come until [`Self::next`] has something to say: a frame, or an error. Before the
    /// length is there it is what the length lacks.
    #[must_use]
    pub fn missing(&self, buffer: &[u8]) -> usize {
        let Some(head) = buffer.first_chunk() else { return size_of::<i32>() - buffer.len() };
        match usize::try_from(i32::from_be_bytes(*head)) {
            Ok(len) if len <= self.len_max => (head.len() + len).saturating_sub(buffer.len()),
            Ok(_) | Err(_) => 0,
        }
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
    fn what_is_missing_is_told_as_soon_as_the_length_is_there() {
        let missing = |bytes: &[u8]| FrameDecoder::new(1000).missing(bytes);
        assert_eq!([missing(b""), missing(b"\0\0"), missing(b"\0\0\x01\0")], [4, 2, 256]);
        assert_eq!([missing(b"\0\0\0\x02a"), missing(b"\0\0\0\x02ab"), missing(b"\0\0\0\x02abc")], [1, 0, 0]);
        assert_eq!([missing(b"\xff\xff\xff\xff"), missing(b"GET ")], [0, 0]);
    }

    #[test]
    fn a_frame_that_fills_its_buffer_owns_it() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x02ab"[..]);
        let frame = FrameDecoder::new(10).next(&mut buffer).unwrap().unwrap();
        assert!(frame.try_into_mut().is_ok());
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
