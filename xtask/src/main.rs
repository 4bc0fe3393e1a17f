//! Developer commands: `cargo xtask COMMAND`. Each command has a module of its own.

fn main() {}
