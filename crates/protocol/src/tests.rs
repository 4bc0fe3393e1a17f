//! Properties that every message has in every version.

mod codec;
mod oracle;

use bytes::Bytes;
use dohle_types::Rng;

use crate::generated::for_each_message;
use crate::messages::*;
use crate::sample::{Sample, Sampler};
use crate::{DecodeError, EncodeError, Message, Reader};

/// Runs a check on random values of the message in each of its versions.
fn sample_each_version<M: Message + Sample>(samples: u64, check: impl Fn(M, i16)) {
    for version in M::VERSIONS {
        for seed in 0..samples {
            let mut sampler = Sampler { rng: Rng::from_seed(seed), version };
            check(sampler.draw(), version);
        }
    }
}

#[test]
fn every_message_comes_back_in_every_version() {
    fn check<M: Message + Sample + PartialEq + std::fmt::Debug>(sent: M, version: i16) {
        let bytes = sent.to_bytes(version).unwrap();
        let read = M::from_bytes(&bytes, version).unwrap_or_else(|e| panic!("{} {version}: {e}", M::NAME));
        assert_eq!(read, sent, "{} {version}", M::NAME);
    }
    macro_rules! per_message {
        ($name:ident) => {
            sample_each_version(20, check::<$name>);
        };
    }
    for_each_message!(per_message);
}

#[test]
fn defaults_come_back() {
    fn check<M: Message + PartialEq + std::fmt::Debug>() {
        for version in M::VERSIONS {
            let bytes = M::default().to_bytes(version).unwrap();
            assert_eq!(M::from_bytes(&bytes, version).unwrap(), M::default(), "{} {version}", M::NAME);
        }
    }
    macro_rules! per_message {
        ($name:ident) => {
            check::<$name>();
        };
    }
    for_each_message!(per_message);
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    fn check<M: Message>(sent: M, version: i16) {
        let bytes = sent.to_bytes(version).unwrap();
        for len in 0..bytes.len() {
            assert!(M::from_bytes(&bytes.slice(..len), version).is_err(), "{} {version} {len}", M::NAME);
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(
            M::from_bytes(&longer.into(), version).err(),
            Some(DecodeError::TrailingBytes(1)),
            "{} {version}",
            M::NAME
        );
    }
    macro_rules! per_message {
        ($name:ident) => {
            sample_each_version(2, check::<$name>);
        };
    }
    for_each_message!(per_message);
}

#[test]
fn damaged_and_random_bytes_are_survived() {
    fn check<M: Message>(sent: M, version: i16) {
        let bytes = sent.to_bytes(version).unwrap();
        let mut rng = Rng::from_seed(bytes.len() as u64);
        for _ in 0..50 {
            let mut damaged = bytes.to_vec();
            for _ in 0..=rng.below(3) {
                let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
                if let Some(byte) = damaged.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, rng.next_u64().to_be_bytes()[0]]
                        [usize::try_from(rng.below(6)).unwrap()];
                }
            }
            let _ = M::from_bytes(&damaged.into(), version);
            let random: Vec<u8> = (0..rng.below(64)).map(|_| rng.next_u64().to_be_bytes()[0]).collect();
            let _ = M::from_bytes(&random.into(), version);
        }
    }
    macro_rules! per_message {
        ($name:ident) => {
            sample_each_version(2, check::<$name>);
        };
    }
    for_each_message!(per_message);
}

#[test]
fn a_version_that_does_not_exist_is_refused_both_ways() {
    fn check<M: Message>() {
        for version in [M::VERSIONS.start() - 1, M::VERSIONS.end() + 1, i16::MIN, i16::MAX] {
            let error = DecodeError::UnsupportedVersion { message: M::NAME, version };
            assert_eq!(M::from_bytes(&Bytes::new(), version).err(), Some(error));
            let error = EncodeError::UnsupportedVersion { message: M::NAME, version };
            assert_eq!(M::default().to_bytes(version), Err(error));
        }
    }
    macro_rules! per_message {
        ($name:ident) => {
            check::<$name>();
        };
    }
    for_each_message!(per_message);
}

#[test]
fn a_frame_of_announced_elements_is_refused_before_they_are_allocated() {
    // OffsetFetch 8: a group id and 2^31 - 2 groups in a message of seven bytes.
    let bytes = Bytes::from_static(b"\xff\xff\xff\xff\x07\0\0");
    assert_eq!(OffsetFetchRequest::from_bytes(&bytes, 8), Err(DecodeError::UnexpectedEnd));

    // Two million one-byte topics, all of them there: more than a message may have.
    let count = 2_000_000_u32;
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.resize(4 + 2 * count as usize, 0);
    let bytes = Bytes::from(bytes);
    assert_eq!(MetadataRequest::from_bytes(&bytes, 0), Err(DecodeError::TooManyElements));
    let mut r = Reader::with_element_budget(&bytes, 3_000_000);
    assert_eq!(MetadataRequest::decode(&mut r, 0).unwrap().topics.unwrap().len(), 2_000_000);
}
