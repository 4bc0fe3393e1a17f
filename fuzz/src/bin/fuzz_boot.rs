//! A data directory with arbitrary files: the node serves or says why not, and never falls over. What it serves from
//! it can be stopped and booted from again.
//!
//! A piece replaces or removes a file of a good data directory; its head says which.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use dohle_fuzz::disk::Disk;
use dohle_fuzz::input::{pieces, repair_checksums};
use dohle_fuzz::seeds;
use dohle_fuzz::world::World;
use libfuzzer_sys::fuzz_target;

static PREPARED: LazyLock<Disk> = LazyLock::new(seeds::prepared_disk);

fuzz_target!(|data: &[u8]| {
    let mut disk = PREPARED.clone();
    let paths: Vec<_> = disk.files.keys().cloned().collect();
    for mut piece in pieces(data).into_iter().take(8) {
        let [file, flags, _] = piece.head;
        let Some(path) = paths.get(usize::from(file) % paths.len()) else { return };
        if path.ends_with(".log") && flags & 1 == 0 {
            repair_checksums(&mut piece.bytes);
        }
        if flags & 2 == 0 {
            disk.files.insert(path.clone(), piece.bytes);
        } else {
            disk.files.remove(path);
        }
    }
    let mut world = World::boot(disk);
    if !world.serves() {
        assert!(matches!(world.stopped(), Some(Some(_))), "it neither serves nor says why not");
        return;
    }
    for request in seeds::requests() {
        if let Some(last) = request.last() {
            world.request(last.key, last.version, last.header_is_flexible, &last.body);
        }
    }
    world.close();
    world.pass(Duration::from_secs(60));
    world.stop();
    assert_eq!(world.stopped(), Some(&None));
    assert!(World::boot(world.disk).serves());
});
