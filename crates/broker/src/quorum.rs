//! What the metadata log says of its quorum: the control records with which leaders begin their epochs (KIP-595), and
//! the voters of a quorum that can change them (KIP-853).
//!
//! This node is a quorum of one. It does not open the log of a larger one: what it appended there the others would
//! not know of, and one of the two histories would be lost.

use bytes::Bytes;
use dohle_protocol::messages::leader_change_message::Voter;
use dohle_protocol::messages::{KRaftVersionRecord, LeaderChangeMessage, VotersRecord};
use dohle_protocol::{DecodeError, Message};
use dohle_records::ControlRecordType;
use dohle_types::BrokerId;

/// The quorum of the metadata log.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Quorum {
    /// Who votes, by the last record that tells.
    voters: Vec<BrokerId>,
    /// What must be told again by a snapshot; absent where voters are a matter of configuration.
    kraft_version: Option<KRaftVersionRecord>,
    voters_record: Option<VotersRecord>,
}

impl Quorum {
    /// Takes in a control record of the log or of a snapshot.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn replay(&mut self, record_type: ControlRecordType, value: &Bytes) -> Result<(), String> {
        let damaged =
            |error: DecodeError| format!("a control record {record_type:?} cannot be read: {error}");
        match record_type {
            ControlRecordType::LeaderChange => {
                let message = LeaderChangeMessage::from_bytes(value, 0).map_err(damaged)?;
                self.voters = message.voters.iter().map(|voter| BrokerId(voter.voter_id)).collect();
            }
            ControlRecordType::KRaftVersion => {
                self.kraft_version = Some(KRaftVersionRecord::from_bytes(value, 0).map_err(damaged)?);
            }
            ControlRecordType::KRaftVoters => {
                let record = VotersRecord::from_bytes(value, 0).map_err(damaged)?;
                self.voters = record.voters.iter().map(|voter| BrokerId(voter.voter_id)).collect();
                self.voters_record = Some(record);
            }
            ControlRecordType::SnapshotHeader
            | ControlRecordType::SnapshotFooter
            | ControlRecordType::Abort
            | ControlRecordType::Commit => {}
            ControlRecordType::Unknown(code) => {
                tracing::warn!(code, "a control record of the metadata log is of an unknown type");
            }
        }
        Ok(())
    }

    /// Whether `node` may lead the log alone.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, node: BrokerId) -> Result<(), String> {
        let others: Vec<String> =
            self.voters.iter().filter(|&&voter| voter != node).map(|voter| voter.0.to_string()).collect();
        if others.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the metadata log belongs to a quorum in which other nodes vote ({}), and a node of Dohle is a quorum of \
             its own: remove them from the quorum with Apache Kafka first",
            others.join(", ")
        ))
    }

    /// The control records that a snapshot has behind its header.
    pub(crate) fn records(&self) -> Vec<(ControlRecordType, Bytes)> {
        let encode =
            |message: Result<Bytes, _>| message.unwrap_or_else(|error| unreachable!("{ENCODES}: {error}"));
        let version = self.kraft_version.iter().map(|version| version.to_bytes(0));
        let voters = self.voters_record.iter().map(|voters| voters.to_bytes(0));
        let version = version.map(|bytes| (ControlRecordType::KRaftVersion, encode(bytes)));
        version.chain(voters.map(|bytes| (ControlRecordType::KRaftVoters, encode(bytes)))).collect()
    }
}

/// Why encoding cannot fail.
const ENCODES: &str = "what was decoded can be encoded again";

/// The value of the control record with which `node` begins to lead the quorum of one.
pub(crate) fn leader_change(node: BrokerId) -> LeaderChangeMessage {
    let this = Voter { voter_id: node.0, ..Voter::default() };
    LeaderChangeMessage {
        leader_id: node.0,
        voters: vec![this.clone()],
        granting_voters: vec![this],
        ..LeaderChangeMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_larger_quorum_is_not_led_alone() {
        let mut quorum = Quorum::default();
        let mut tell = |voters: &[i32]| {
            let voters = voters.iter().map(|&voter_id| Voter { voter_id, ..Voter::default() }).collect();
            let message = LeaderChangeMessage { leader_id: 1, voters, ..LeaderChangeMessage::default() };
            quorum.replay(ControlRecordType::LeaderChange, &message.to_bytes(0).unwrap()).unwrap();
            quorum.check(BrokerId(1))
        };
        assert_eq!(tell(&[1]), Ok(()));
        assert!(tell(&[1, 2, 3]).unwrap_err().contains("other nodes vote (2, 3)"));
        assert_eq!(tell(&[1]), Ok(()));
    }
}
