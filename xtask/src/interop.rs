//! Foreign clients against a real broker: `cargo xtask interop`, and what else needs Apache Kafka: `oracle`, `tool`, `pipe`.
//! The client programs and what they show are in `interop/` (see its README).

#[expect(dead_code, reason = "the suite that uses the rest follows")]
mod broker;
#[expect(dead_code, reason = "the suite that uses the rest follows")]
mod install;
mod java;
pub(crate) mod oracle;
#[expect(dead_code, reason = "the suite that uses the rest follows")]
mod process;
