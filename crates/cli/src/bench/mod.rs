//! bench
#[derive(Clone, Debug, clap::Subcommand)]
pub enum BenchCommand {}
pub(crate) fn run(_: &crate::Connection, _: BenchCommand) -> Result<(), crate::CliError> {
    Ok(())
}
