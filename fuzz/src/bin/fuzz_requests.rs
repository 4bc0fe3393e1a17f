//! Requests of every API and version with arbitrary bodies, and arbitrary frames, to a node that serves.
//!
//! A piece's head names the API, its version, and how long the client waits after it. The node never stops by itself,
//! answers in order, does not wake itself for nothing, and what it wrote it boots from again.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use dohle_broker::handlers::APIS;
use dohle_fuzz::disk::Disk;
use dohle_fuzz::input::{Piece, pieces, repair_checksums};
use dohle_fuzz::seeds;
use dohle_fuzz::world::World;
use dohle_protocol::{ApiKey, Message as _, messages::RequestHeader};
use libfuzzer_sys::fuzz_target;

static PREPARED: LazyLock<Disk> = LazyLock::new(seeds::prepared_disk);
const REQUESTS_MAX: usize = 16;

fuzz_target!(|data: &[u8]| {
    let mut world = World::boot(PREPARED.clone());
    assert!(world.serves());
    for Piece { head: [api, version, wait], mut bytes } in pieces(data).into_iter().take(REQUESTS_MAX) {
        let Some(api) = APIS.get(usize::from(api) % (APIS.len() + 1)) else {
            world.frame(bytes.into());
            continue;
        };
        if api.key == ApiKey::Produce {
            repair_batches(&mut bytes);
        }
        let (first, last) = (*api.versions.start(), *api.versions.end());
        let version = first + i16::from(version) % (last - first + 1);
        let is_flexible = api.key.request_header_version(version) >= RequestHeader::FLEXIBLE_FROM;
        world.request(api.key.code(), version, is_flexible, &bytes);
        world.pass(Duration::from_millis(u64::from(wait) * u64::from(wait)));
    }
    world.close();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.stopped(), None);
    if data.len() % 2 == 0 {
        world.stop();
        assert_eq!(world.stopped(), Some(&None));
    }
    if data.len() % 4 < 2 {
        assert!(World::boot(world.disk).serves());
    }
});

/// Repairs what looks like a batch, wherever it stands.
fn repair_batches(bytes: &mut [u8]) {
    for at in 0..bytes.len().saturating_sub(16) {
        if bytes[at + 16] == 2 && bytes[at..at + 10].iter().all(|byte| *byte == 0) {
            repair_checksums(&mut bytes[at..]);
            return;
        }
    }
}
