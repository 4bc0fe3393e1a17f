//! Writes the seeds of all targets: `seeds DIRECTORY` makes `DIRECTORY/TARGET/NAME` of each.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("usage: seeds DIRECTORY"))?;
    for (target, name, data) in dohle_fuzz::seeds::all() {
        let folder = Path::new(&directory).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), data)?;
    }
    Ok(())
}
