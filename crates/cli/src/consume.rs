//! `dohle consume`: records in, bytes out.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use dohle_client::consumer::IsolationLevel;
use dohle_client::group::GroupConfig;
use dohle_client::{Consumer, ConsumerConfig, ConsumerEvent, Effects, Fetched, StartAt};
use dohle_records::Decompressor;
use dohle_types::{ErrorCode, Now, Offset, PartitionIndex, Str, TopicPartition};

use crate::driver::Driver;
use crate::format::{Format, parse_template};
use crate::input::Place;
use crate::session::{Outage, Session, cluster_config, seed};
use crate::{CliError, Connection, group};

/// Bytes of output gathered before they are written.
const OUTPUT_SIZE: usize = 256 << 10;

/// `dohle consume`
#[derive(Clone, Debug, clap::Args)]
pub struct ConsumeArgs {
    /// The topic to read
    topic: Str,
    /// Where to begin: beginning, end, OFFSET, -N for the last N records of each partition, or a time such as
    /// 2026-11-22T10:00:00Z. With --group, where to begin if the group never did
    #[arg(short = 'o', long, default_value = "beginning", value_name = "PLACE", allow_hyphen_values = true)]
    from: Place,
    /// A partition to read; may be repeated. Without it all
    #[arg(short, long = "partition", value_name = "PARTITION", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Read as a member of this group, and commit what was read
    #[arg(short, long)]
    group: Option<Str>,
    /// End after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    max_messages: Option<u64>,
    /// End when everything there is was read
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// How to show a record: %k key, %v value, %h headers, %o offset, %p partition, %t topic, %T timestamp, \n ...
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "json")]
    format: Option<String>,
    /// One JSON object a line
    #[arg(short, long)]
    json: bool,
    /// Leave out records of transactions that are open or were aborted
    #[arg(long)]
    read_committed: bool,
}

pub(crate) fn run(connection: &Connection, args: &ConsumeArgs) -> Result<(), CliError> {
    let format = match (&args.format, args.json) {
        (Some(template), _) => Format::Template(parse_template(template).map_err(CliError::Usage)?),
        (None, true) => Format::Json,
        (None, false) => Format::Value,
    };
    let driver = Driver::new()?;
    let config = ConsumerConfig {
        cluster: cluster_config(),
        // An offset that is not there is an error, but for a group that has to begin somewhere.
        reset: (args.group.is_some() || !matches!(args.from, Place::Offset(_) | Place::Shift(_)))
            .then(|| start(&args.from)),
        isolation: match args.read_committed {
            true => IsolationLevel::ReadCommitted,
            false => IsolationLevel::ReadUncommitted,
        },
        group: args.group.clone().map(GroupConfig::new),
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(config, connection.endpoints()?, seed());
    let mut run = Run {
        connection,
        args,
        driver,
        consumer,
        format,
        decompressor: Decompressor::default(),
        output: Vec::new(),
        left: args.max_messages,
        reading: None,
        has_begun: false,
        outage: Outage::default(),
        ended: BTreeSet::new(),
    };
    run.read_all()
}

/// One run of the command.
struct Run<'a> {
    connection: &'a Connection,
    args: &'a ConsumeArgs,
    driver: Driver,
    consumer: Consumer,
    format: Format,
    decompressor: Decompressor,
    output: Vec<u8>,
    left: Option<u64>,
    /// The partitions that are read, once that is known.
    reading: Option<BTreeSet<TopicPartition>>,
    /// Whether it was ever known.
    has_begun: bool,
    outage: Outage,
    /// Those of which everything was read.
    ended: BTreeSet<TopicPartition>,
}

impl Run<'_> {
    fn read_all(&mut self) -> Result<(), CliError> {
        if self.args.group.is_some() {
            self.consumer.subscribe(self.driver.now(), BTreeSet::from([self.args.topic.clone()]));
        }
        let read = self.read();
        let written = read.and_then(|()| Ok(self.write_output()?));
        // Whatever ended it, the group should not wait for this member.
        let left = self.leave(written.is_ok());
        written.and(left)
    }

    fn read(&mut self) -> Result<(), CliError> {
        loop {
            if self.reading.is_none() && self.args.group.is_none() {
                self.assign()?;
            }
            while let Some(event) = self.consumer.next_event() {
                self.on_event(event)?;
                if self.left == Some(0) {
                    return Ok(());
                }
            }
            // What was given is shown before it is committed.
            self.write_output()?;
            let all_ended = self.reading.as_ref().is_some_and(|reading| reading.is_subset(&self.ended));
            if self.args.exit_at_end && all_ended {
                return Ok(());
            }
            if self.driver.is_interrupted() {
                return Ok(());
            }
            match self.consumer.unreachable() {
                Some(unreachable) if !self.has_begun => return Err(unreachable.clone().into()),
                unreachable => self.outage.note(unreachable),
            }
            self.driver.turn(std::slice::from_mut(&mut self.consumer), None)?;
        }
    }

    /// Begins to read the partitions that the arguments name, once it is known which there are.
    fn assign(&mut self) -> Result<(), CliError> {
        let now = self.driver.now();
        let count = match self.consumer.partition_count(now, &self.args.topic) {
            None => return Ok(()),
            Some(Err(error)) if error.is_retriable() && error != ErrorCode::UnknownTopicOrPartition => {
                return Ok(());
            }
            Some(Err(error)) => {
                let what = format!("topic {}", self.args.topic);
                return Err(CliError::Refused { what, error, message: None });
            }
            Some(Ok(count)) => i32::try_from(count).unwrap_or(i32::MAX),
        };
        let wanted =
            if self.args.partitions.is_empty() { (0..count).collect() } else { self.args.partitions.clone() };
        let partitions: Vec<TopicPartition> = wanted
            .into_iter()
            .map(|index| TopicPartition::new(self.args.topic.clone(), PartitionIndex(index)))
            .collect();
        let starts = if let Place::Shift(by) = self.args.from {
            self.relative(&partitions, by)?
        } else {
            partitions.iter().map(|partition| (partition.clone(), start(&self.args.from))).collect()
        };
        self.consumer.assign(now, starts);
        self.reading = Some(partitions.into_iter().collect());
        self.has_begun = true;
        Ok(())
    }

    /// So many records from the end of each partition.
    fn relative(
        &self,
        partitions: &[TopicPartition],
        by: i64,
    ) -> Result<Vec<(TopicPartition, StartAt)>, CliError> {
        let session = &mut Session::new(self.connection)?;
        let (first, end) = group::log_bounds(session, &self.args.topic, partitions)?;
        let starts = partitions.iter().map(|partition| {
            let first = first.get(partition).copied().unwrap_or(Offset::ZERO);
            let end = end.get(partition).copied().unwrap_or(Offset::ZERO);
            (partition.clone(), StartAt::Offset(end.plus(by).clamp(first, end.max(first))))
        });
        Ok(starts.collect())
    }

    fn on_event(&mut self, event: ConsumerEvent) -> Result<(), CliError> {
        match event {
            ConsumerEvent::Records(fetched) => self.show(&fetched)?,
            ConsumerEvent::End { partition, .. } => {
                self.ended.insert(partition);
            }
            ConsumerEvent::Assigned(partitions) => {
                self.reading = Some(partitions.into_iter().collect());
                self.has_begun = true;
                self.ended.clear();
            }
            ConsumerEvent::Revoked(_) => self.reading = None,
            // A commit that failed is made up for by the next one, or repeats what was read.
            ConsumerEvent::Committed(_) => {}
            ConsumerEvent::PartitionFailed { partition, error } => {
                return Err(CliError::Partition { partition, error });
            }
            ConsumerEvent::GroupFailed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn show(&mut self, fetched: &Fetched) -> Result<(), CliError> {
        let partition = fetched.partition();
        let unreadable = |reason: dohle_records::BatchError| CliError::Partition {
            partition: partition.clone(),
            error: dohle_client::consumer::ConsumerError::Unreadable {
                offset: fetched.batch().header().base_offset,
                reason: reason.to_string(),
            },
        };
        for record in fetched.records(&mut self.decompressor).map_err(unreadable)? {
            let record = record.map_err(unreadable)?;
            self.format.write(&mut self.output, partition, &record);
            if self.output.len() >= OUTPUT_SIZE {
                self.write_output()?;
            }
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    self.consumer.unconsume(partition, record.offset.plus(1));
                    break;
                }
            }
        }
        Ok(())
    }

    fn write_output(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(&self.output)?;
        self.output.clear();
        out.flush()
    }

    /// Leaves the group, after a commit if all that was read was shown.
    fn leave(&mut self, commit: bool) -> Result<(), CliError> {
        if self.args.group.is_none() {
            return Ok(());
        }
        let now = self.driver.now();
        let mut effects = Effects::new();
        if commit {
            self.consumer.commit(now, &mut effects);
        }
        self.consumer.close(now, &mut effects);
        self.driver.carry_out(0, effects);
        let deadline = now.after(LEAVE_PATIENCE);
        while !self.consumer.is_closed() && self.now().instant < deadline {
            self.driver.turn(std::slice::from_mut(&mut self.consumer), Some(LEAVE_PATIENCE))?;
        }
        Ok(())
    }

    fn now(&self) -> Now {
        self.driver.now()
    }
}

/// How long to wait for the coordinator to say goodbye.
const LEAVE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

const fn start(place: &Place) -> StartAt {
    match place {
        Place::Beginning => StartAt::Earliest,
        Place::End | Place::Shift(_) => StartAt::Latest,
        Place::Offset(offset) => StartAt::Offset(*offset),
        Place::Timestamp(timestamp) => StartAt::Timestamp(*timestamp),
    }
}
