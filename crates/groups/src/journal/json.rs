//! Entries as JSON, one object each, as they are stored and as tools read them. `docs/groups.md` describes the fields.

use dohle_types::{Offset, Str, Timestamp};
use serde_json::{Map, Value, json};

use super::cause::{Cause, CauseKind, Who};
use super::entry::{Entry, Event, Moves, Outcome, Poison, Protocol, Rebalanced, Storm};

/// Why a record is not read as an entry.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Something else than the journal wrote it.
    #[error("it is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It lacks a field, or a newer version wrote it.
    #[error("this version does not understand its field {0:?}")]
    Field(&'static str),
}

impl Entry {
    /// The entry as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = match &self.event {
            Event::Rebalance(rebalanced) => rebalanced.to_json(),
            Event::Membership { generation, cause } => json!({
                "event": "membership",
                "generation": generation,
                "cause": cause.to_json(),
            }),
            Event::Storm(storm) => json!({
                "event": "storm",
                "rebalances": storm.rebalances,
                "within_ms": storm.within_ms,
                "cause": storm.kind.name(),
                "of_cause": storm.of_kind,
                "member": storm.member.as_ref().map(Who::to_json),
                "of_member": storm.of_member,
                "advice": storm.kind.advice(),
            }),
            Event::Poison(poison) => json!({
                "event": "poison",
                "topic": poison.topic.as_str(),
                "partition": poison.partition,
                "offset": poison.offset.0,
                "deliveries": poison.deliveries,
                "dead_letter_topic": poison.dead_letter_topic.as_deref(),
            }),
            Event::Dropped { entries } => json!({ "event": "dropped", "entries": entries }),
        };
        if let Some(fields) = object.as_object_mut() {
            fields.insert("group".to_owned(), json!(self.group_id.as_str()));
            fields.insert("at".to_owned(), json!(self.at.0));
        }
        object
    }

    /// The entry that a JSON object tells.
    ///
    /// # Errors
    /// It is none, or one of a newer version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, JournalError> {
        let value: Value = serde_json::from_slice(bytes)?;
        let fields = Fields(value.as_object().ok_or(JournalError::Field("event"))?);
        let event = match fields.text("event")? {
            "rebalance" => Event::Rebalance(Rebalanced::from_json(&fields)?),
            "membership" => Event::Membership {
                generation: fields.number("generation")?,
                cause: Cause::from_json(&fields.object("cause")?)?,
            },
            "storm" => Event::Storm(Storm {
                rebalances: fields.number("rebalances")?,
                within_ms: fields.number("within_ms")?,
                kind: kind(fields.text("cause")?)?,
                of_kind: fields.number("of_cause")?,
                member: fields.optional("member").map(Who::from_json).transpose()?,
                of_member: fields.number("of_member")?,
            }),
            "poison" => Event::Poison(Poison {
                topic: Str::from(fields.text("topic")?),
                partition: fields.number("partition")?,
                offset: Offset(fields.number("offset")?),
                deliveries: fields.number("deliveries")?,
                dead_letter_topic: fields.optional_text("dead_letter_topic")?,
            }),
            "dropped" => Event::Dropped { entries: fields.number("entries")? },
            _ => return Err(JournalError::Field("event")),
        };
        Ok(Self { group_id: Str::from(fields.text("group")?), at: Timestamp(fields.number("at")?), event })
    }
}

impl Protocol {
    /// The fields that tell how long its phases took.
    const fn phase_fields(self) -> [&'static str; 2] {
        match self {
            Self::Classic => ["join_ms", "sync_ms"],
            Self::Consumer => ["assign_ms", "reconcile_ms"],
        }
    }
}

impl Rebalanced {
    fn to_json(&self) -> Value {
        let [first, second] = self.protocol.phase_fields();
        let second_ms = self.first_phase_ms.map(|first_ms| self.duration_ms.saturating_sub(first_ms));
        json!({
            "event": "rebalance",
            "protocol": self.protocol.name(),
            "from": self.from,
            "to": self.to,
            "causes": self.causes.iter().map(Cause::to_json).collect::<Vec<_>>(),
            "more_causes": self.more_causes,
            "outcome": self.outcome.name(),
            "started": self.started.0,
            "duration_ms": self.duration_ms,
            first: self.first_phase_ms,
            second: second_ms,
            "members": self.members,
            "partitions": self.moves.map(|moves| json!({
                "total": moves.total,
                "moved": moves.moved,
                "without_owner": moves.without_owner,
                "longest_without_owner_ms": moves.longest_without_owner_ms,
            })),
        })
    }

    fn from_json(fields: &Fields<'_>) -> Result<Self, JournalError> {
        let protocol = match fields.text("protocol")? {
            "classic" => Protocol::Classic,
            "consumer" => Protocol::Consumer,
            _ => return Err(JournalError::Field("protocol")),
        };
        let outcome = match fields.text("outcome")? {
            "completed" => Outcome::Completed,
            "superseded" => Outcome::Superseded,
            "emptied" => Outcome::Emptied,
            _ => return Err(JournalError::Field("outcome")),
        };
        let causes = fields.0.get("causes").and_then(Value::as_array).ok_or(JournalError::Field("causes"))?;
        let moves = match fields.optional("partitions") {
            None => None,
            Some(value) => {
                let moves = Fields(value.as_object().ok_or(JournalError::Field("partitions"))?);
                Some(Moves {
                    total: moves.number("total")?,
                    moved: moves.number("moved")?,
                    without_owner: moves.number("without_owner")?,
                    longest_without_owner_ms: moves.optional_number("longest_without_owner_ms")?,
                })
            }
        };
        Ok(Self {
            protocol,
            from: fields.number("from")?,
            to: fields.number("to")?,
            causes: causes
                .iter()
                .map(|cause| {
                    Cause::from_json(&Fields(cause.as_object().ok_or(JournalError::Field("causes"))?))
                })
                .collect::<Result<_, _>>()?,
            more_causes: fields.number("more_causes")?,
            outcome,
            started: Timestamp(fields.number("started")?),
            duration_ms: fields.number("duration_ms")?,
            first_phase_ms: fields.optional_number(protocol.phase_fields()[0])?,
            members: fields.number("members")?,
            moves,
        })
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "members": self.members.iter().map(Who::to_json).collect::<Vec<_>>(),
            "more_members": self.more_members,
            "reason": self.reason.as_deref(),
        })
    }

    fn from_json(fields: &Fields<'_>) -> Result<Self, JournalError> {
        let members =
            fields.0.get("members").and_then(Value::as_array).ok_or(JournalError::Field("members"))?;
        Ok(Self {
            kind: kind(fields.text("kind")?)?,
            members: members.iter().map(Who::from_json).collect::<Result<_, _>>()?,
            more_members: fields.number("more_members")?,
            reason: fields.optional_text("reason")?,
        })
    }
}

impl Who {
    fn to_json(&self) -> Value {
        json!({
            "member_id": self.member_id.as_str(),
            "instance_id": self.instance_id.as_deref(),
            "client_id": self.client_id.as_str(),
            "host": self.client_host.as_str(),
        })
    }

    fn from_json(value: &Value) -> Result<Self, JournalError> {
        let fields = Fields(value.as_object().ok_or(JournalError::Field("members"))?);
        Ok(Self {
            member_id: Str::from(fields.text("member_id")?),
            instance_id: fields.optional_text("instance_id")?,
            client_id: Str::from(fields.text("client_id")?),
            client_host: Str::from(fields.text("host")?),
        })
    }
}

fn kind(name: &str) -> Result<CauseKind, JournalError> {
    CauseKind::from_name(name).ok_or(JournalError::Field("kind"))
}

/// The fields of an object.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn optional(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &'static str) -> Result<&'a str, JournalError> {
        self.0.get(name).and_then(Value::as_str).ok_or(JournalError::Field(name))
    }

    fn optional_text(&self, name: &'static str) -> Result<Option<Str>, JournalError> {
        let text = self.optional(name).map(|value| value.as_str().ok_or(JournalError::Field(name)));
        Ok(text.transpose()?.map(Str::from))
    }

    fn number<T: TryFrom<i64>>(&self, name: &'static str) -> Result<T, JournalError> {
        let number = self.0.get(name).and_then(Value::as_i64).ok_or(JournalError::Field(name))?;
        T::try_from(number).map_err(|_| JournalError::Field(name))
    }

    fn optional_number<T: TryFrom<i64>>(&self, name: &'static str) -> Result<Option<T>, JournalError> {
        self.optional(name).map(|_| self.number(name)).transpose()
    }

    fn object(&self, name: &'static str) -> Result<Self, JournalError> {
        self.0.get(name).and_then(Value::as_object).map(Self).ok_or(JournalError::Field(name))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_record_that_was_set_aside_is_told_with_where_it_is_now() {
        let mut poison = Poison {
            topic: "orders".into(),
            partition: 3,
            offset: Offset(4711),
            deliveries: 5,
            dead_letter_topic: Some("dlq.orders".into()),
        };
        let mut told = String::new();
        for dead_letter_topic in [Some("dlq.orders".into()), None] {
            poison.dead_letter_topic = dead_letter_topic;
            let event = Event::Poison(poison.clone());
            let entry = Entry { group_id: "billing".into(), at: Timestamp(1_800_000_000_000), event };
            let json = entry.to_json().to_string();
            assert_eq!(Entry::from_json(json.as_bytes()).unwrap(), entry);
            told += &format!("{json}\n{}\n", entry.event);
            poison.deliveries = 1;
        }
        expect![[r#"
            {"at":1800000000000,"dead_letter_topic":"dlq.orders","deliveries":5,"event":"poison","group":"billing","offset":4711,"partition":3,"topic":"orders"}
            POISON: orders-3 offset 4711 is set aside after 5 deliveries, copied to dlq.orders
            {"at":1800000000000,"dead_letter_topic":null,"deliveries":1,"event":"poison","group":"billing","offset":4711,"partition":3,"topic":"orders"}
            POISON: orders-3 offset 4711 is set aside after 1 delivery, copied nowhere: the group has no errors.deadletterqueue.topic.name
        "#]].assert_eq(&told);
    }

    #[test]
    fn what_a_newer_version_tells_is_left_out_by_name() {
        let newer = br#"{"event":"miracle","group":"billing","at":0}"#;
        let error = Entry::from_json(newer).unwrap_err().to_string();
        assert_eq!(error, r#"this version does not understand its field "event""#);
    }
}
