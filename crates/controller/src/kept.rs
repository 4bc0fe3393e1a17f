//! What the metadata log says and this version does not act upon, kept so that a snapshot does not lose it: a data
//! directory that Apache Kafka wrote goes back to Apache Kafka with all that its owner has set.
//!
//! Differs from Kafka: client quotas, SCRAM credentials, delegation tokens and access control entries of such a
//! directory are kept and not enforced, which a node tells when it starts.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::{
    AccessControlEntryRecord, ClientQuotaRecord, DelegationTokenRecord, RegisterControllerRecord,
    RemoveUserScramCredentialRecord, UserScramCredentialRecord,
};
use dohle_types::Str;
use uuid::Uuid;

use crate::record::MetadataRecord;

/// Whom a quota is for: pairs of a type and a name, of which none means the default.
type QuotaEntity = Vec<(Str, Option<Str>)>;

/// Records that are only kept, by what makes each replace another.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Kept {
    controllers: BTreeMap<i32, RegisterControllerRecord>,
    quotas: BTreeMap<(QuotaEntity, Str), ClientQuotaRecord>,
    acls: BTreeMap<Uuid, AccessControlEntryRecord>,
    scram_credentials: BTreeMap<(Str, i8), UserScramCredentialRecord>,
    delegation_tokens: BTreeMap<Str, DelegationTokenRecord>,
}

impl Kept {
    pub(crate) fn replay_controller(&mut self, record: &RegisterControllerRecord) {
        self.controllers.insert(record.controller_id, record.clone());
    }

    pub(crate) fn replay_quota(&mut self, record: &ClientQuotaRecord) {
        let key = (entity(record), record.key.clone());
        if record.remove {
            self.quotas.remove(&key);
        } else {
            self.quotas.insert(key, record.clone());
        }
    }

    pub(crate) fn replay_acl(&mut self, record: &AccessControlEntryRecord) {
        self.acls.insert(record.id, record.clone());
    }

    pub(crate) fn replay_remove_acl(&mut self, id: Uuid) {
        self.acls.remove(&id);
    }

    pub(crate) fn replay_scram_credential(&mut self, record: &UserScramCredentialRecord) {
        // Copies: slices would keep the buffer alive that the log was read into.
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let UserScramCredentialRecord { salt, stored_key, server_key, .. } = record;
        let (salt, stored_key, server_key) = (copy(salt), copy(stored_key), copy(server_key));
        let record = UserScramCredentialRecord { salt, stored_key, server_key, ..record.clone() };
        self.scram_credentials.insert((record.name.clone(), record.mechanism), record);
    }

    pub(crate) fn replay_remove_scram_credential(&mut self, record: &RemoveUserScramCredentialRecord) {
        self.scram_credentials.remove(&(record.name.clone(), record.mechanism));
    }

    pub(crate) fn replay_delegation_token(&mut self, record: &DelegationTokenRecord) {
        self.delegation_tokens.insert(record.token_id.clone(), record.clone());
    }

    pub(crate) fn replay_remove_delegation_token(&mut self, token_id: &Str) {
        self.delegation_tokens.remove(token_id);
    }

    /// The controllers that have registered.
    pub(crate) fn controllers(&self) -> impl Iterator<Item = MetadataRecord> {
        self.controllers.values().cloned().map(MetadataRecord::from)
    }

    /// The quotas of clients.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = MetadataRecord> {
        self.quotas.values().cloned().map(MetadataRecord::from)
    }

    /// What says who may do what, and how users prove who they are.
    pub(crate) fn security(&self) -> impl Iterator<Item = MetadataRecord> {
        let acls = self.acls.values().cloned().map(MetadataRecord::from);
        let credentials = self.scram_credentials.values().cloned().map(MetadataRecord::from);
        acls.chain(credentials).chain(self.delegation_tokens.values().cloned().map(MetadataRecord::from))
    }

    /// How many access control entries there are.
    #[must_use]
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// What clients would expect to be enforced and is not: what it is called, and how many of it there are.
    pub fn unenforced(&self) -> impl Iterator<Item = (&'static str, usize)> {
        [
            ("client quotas", self.quotas.len()),
            ("access control entries", self.acls.len()),
            ("SCRAM credentials", self.scram_credentials.len()),
            ("delegation tokens", self.delegation_tokens.len()),
        ]
        .into_iter()
        .filter(|&(_, count)| count > 0)
    }
}

fn entity(record: &ClientQuotaRecord) -> QuotaEntity {
    let mut entity: QuotaEntity =
        record.entity.iter().map(|part| (part.entity_type.clone(), part.entity_name.clone())).collect();
    entity.sort();
    entity
}
