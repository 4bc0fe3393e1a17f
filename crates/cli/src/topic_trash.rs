//! `dohle topic trash` and `dohle topic undelete`: requests that only Dohle knows.

use dohle_client::Target;
use dohle_client::metadata::check;
use dohle_protocol::messages::{ListTrashRequest, UndeleteTopicRequest};
use dohle_types::{Str, TopicId};
use serde_json::json;

use crate::CliError;
use crate::output::Table;
use crate::session::Session;
use crate::topic::{first_error, refused};

pub(crate) fn list(session: &mut Session, json: bool) -> Result<(), CliError> {
    let response = session.call(Target::Controller, ListTrashRequest {}, |response| {
        first_error([response.error_code].into_iter())
    })?;
    refused("the trash", check(response.error_code), response.error_message)?;
    let mut table = Table::new(["topic", "topic id", "partitions", "bytes", "deleted at", "kept until"]);
    for topic in response.topics {
        table.row([
            json!(topic.name.as_str()),
            json!(TopicId(topic.topic_id).to_string()),
            json!(topic.partition_count),
            json!(topic.size_in_bytes),
            json!(topic.deleted_at_ms),
            json!(topic.expires_at_ms),
        ]);
    }
    Ok(table.print(json)?)
}

pub(crate) fn undelete(
    session: &mut Session,
    name: Str,
    id: TopicId,
    new_name: Option<Str>,
) -> Result<(), CliError> {
    let what = format!("topic {name}");
    let request = UndeleteTopicRequest { name, topic_id: id.0, new_name };
    let response = session
        .call(Target::Controller, request, |response| first_error([response.error_code].into_iter()))?;
    refused(&what, check(response.error_code), response.error_message)
}
