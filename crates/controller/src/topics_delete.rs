//! DeleteTopics (key 20, versions 1-6): by name, and from version 6 on also by topic id (KIP-516).

use std::collections::BTreeSet;

use dohle_configs::{BrokerConfig, broker as keys};
use dohle_ledger::Outcome;
use dohle_protocol::messages::delete_topics_request::DeleteTopicState;
use dohle_protocol::messages::delete_topics_response::DeletableTopicResult;
use dohle_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, RemoveTopicRecord};
use dohle_types::{ErrorCode, Str, TopicId};

use crate::image::TopicImage;
use crate::ledger::{Controller, distinct, error_message};
use crate::record::MetadataRecord;

/// Why a topic is not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// The broker does not allow it; `old` clients know no own code for this.
    #[error("Topic deletion is disabled; set delete.topic.enable=true and restart the broker")]
    Disabled {
        /// Whether the client speaks a version below 3.
        old: bool,
    },
    /// The request names the topic twice.
    #[error("Duplicate topic name or id: name each topic once")]
    Duplicate,
    /// Neither name nor id.
    #[error("Neither topic name nor id were specified.")]
    NeitherNameNorId,
    /// Both name and id.
    #[error("You may not specify both topic name and topic id.")]
    NameAndId,
    /// There is no topic of this name.
    #[error("The topic '{0}' does not exist.")]
    UnknownName(Str),
    /// There is no topic of this id.
    #[error("There is no topic with id {0}.")]
    UnknownId(TopicId),
}

impl DeleteTopicError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Disabled { old: false } => ErrorCode::TopicDeletionDisabled,
            Self::Disabled { old: true } | Self::Duplicate | Self::NeitherNameNorId | Self::NameAndId => {
                ErrorCode::InvalidRequest
            }
            Self::UnknownName(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownId(_) => ErrorCode::UnknownTopicId,
        }
    }
}

impl Controller {
    /// Deletes topics. `version` is the request's.
    #[must_use]
    pub fn handle_delete_topics(
        &self,
        config: &BrokerConfig,
        version: i16,
        request: &DeleteTopicsRequest,
    ) -> Outcome<MetadataRecord, DeleteTopicsResponse> {
        let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), TopicId::ZERO));
        let by_state = request
            .topics
            .iter()
            .map(|DeleteTopicState { name, topic_id }| (name.clone(), TopicId(*topic_id)));
        let asked: Vec<(Option<Str>, TopicId)> = by_name.chain(by_state).collect();
        let mut deleted = BTreeSet::new();
        let mut responses = Vec::new();
        for (asked, is_duplicate) in distinct(&asked, |asked| asked) {
            let (name, id) = asked.clone();
            let found = if !config.value(keys::DELETE_TOPIC_ENABLE) {
                Err(DeleteTopicError::Disabled { old: version < 3 })
            } else {
                self.deletable(name.as_ref(), id, is_duplicate)
            };
            // A topic can be named once by its name and once by its id.
            let found = found.and_then(|topic| {
                if deleted.insert(topic.id) { Ok(topic) } else { Err(DeleteTopicError::Duplicate) }
            });
            responses.push(match found {
                Ok(topic) => DeletableTopicResult {
                    name: Some(topic.name.clone()),
                    topic_id: topic.id.0,
                    ..Default::default()
                },
                Err(error) => DeletableTopicResult {
                    name,
                    topic_id: id.0,
                    error_code: error.error_code().code(),
                    error_message: error_message(&error),
                },
            });
        }
        let records = deleted.into_iter().map(|id| RemoveTopicRecord { topic_id: id.0 }.into()).collect();
        Outcome { records, reply: DeleteTopicsResponse { responses, ..Default::default() } }
    }

    fn deletable(
        &self,
        name: Option<&Str>,
        id: TopicId,
        is_duplicate: bool,
    ) -> Result<&TopicImage, DeleteTopicError> {
        let found = match name {
            None if id.is_zero() => return Err(DeleteTopicError::NeitherNameNorId),
            Some(_) if !id.is_zero() => return Err(DeleteTopicError::NameAndId),
            _ if is_duplicate => return Err(DeleteTopicError::Duplicate),
            Some(name) => self.image.topic(name).ok_or_else(|| DeleteTopicError::UnknownName(name.clone())),
            None => self.image.topic_by_id(id).ok_or(DeleteTopicError::UnknownId(id)),
        };
        found.map(|topic| &**topic)
    }
}
