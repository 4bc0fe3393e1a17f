//! `dohle api-versions`: which requests a broker serves.

use dohle_client::Target;
use dohle_client::metadata::check;
use dohle_protocol::ApiKey;
use dohle_protocol::messages::ApiVersionsRequest;
use dohle_types::ErrorCode;
use serde_json::json;

use crate::output::Table;
use crate::session::Session;
use crate::topic::refused;
use crate::{CliError, Connection};

/// `dohle api-versions`
#[derive(Clone, Debug, clap::Args)]
pub struct ApiVersionsArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(connection: &Connection, args: &ApiVersionsArgs) -> Result<(), CliError> {
    let request = ApiVersionsRequest {
        client_software_name: "dohle".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
    };
    let response = Session::new(connection)?.call(Target::Any, request, |_| ErrorCode::None)?;
    refused("ApiVersions", check(response.error_code), None)?;
    let mut apis = response.api_keys;
    apis.sort_by_key(|api| api.api_key);
    let mut table = Table::new(["key", "name", "oldest", "latest"]);
    for api in apis {
        let name = ApiKey::from_code(api.api_key).map(ApiKey::name);
        table.row([json!(api.api_key), json!(name), json!(api.min_version), json!(api.max_version)]);
    }
    Ok(table.print(args.json)?)
}
