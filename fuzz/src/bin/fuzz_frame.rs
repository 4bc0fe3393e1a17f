//! The stream of a connection, cut into arbitrary pieces: frames and headers come out, or an error that stays.

#![no_main]

use bytes::BytesMut;
use dohle_protocol::{FrameDecoder, Reader, decode_request_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, stream)) = data.split_first() else { return };
    let decoder = FrameDecoder::new(1 << 16);
    let mut buffer = BytesMut::new();
    let mut taken = 0;
    for arrived in stream.chunks(usize::from(piece) + 1) {
        buffer.extend_from_slice(arrived);
        loop {
            let missing = decoder.missing(&buffer);
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => {
                    assert_eq!(missing, 0);
                    taken += 4 + frame.len();
                    assert_eq!(stream.get(taken - frame.len()..taken), Some(&*frame));
                    let mut reader = Reader::new(&frame);
                    if decode_request_header(&mut reader).is_ok() {
                        assert!(reader.remaining() <= frame.len());
                    }
                }
                Ok(None) => {
                    assert_ne!(missing, 0, "who waits must know for what");
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.next(&mut buffer).unwrap_err(), error);
                    return;
                }
            }
        }
    }
    assert_eq!(stream.get(taken..), Some(&*buffer));
});
