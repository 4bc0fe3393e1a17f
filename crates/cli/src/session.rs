//! Calls of the admin client, one after the other, each waited for.

use dohle_client::{Admin, ClusterConfig, Endpoint, Metadata, Target, Unreachable};
use dohle_protocol::Request;
use dohle_protocol::messages::metadata_request::MetadataRequestTopic;
use dohle_protocol::messages::{MetadataRequest, MetadataResponse};
use dohle_types::{ErrorCode, Now, Rng, Str};
use std::time::Duration;

use crate::driver::Driver;
use crate::output::say;
use crate::{CliError, Connection};

/// How long a call may take, with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// An admin client and its sockets.
pub(crate) struct Session {
    driver: Driver,
    admin: Admin,
}

impl Session {
    pub(crate) fn new(connection: &Connection) -> Result<Self, CliError> {
        let driver = Driver::new()?;
        let admin = Admin::new(cluster_config(), CALL_TIMEOUT, connection.endpoints()?, seed());
        Ok(Self { driver, admin })
    }

    /// The time.
    pub(crate) fn now(&self) -> Now {
        self.driver.now()
    }

    /// The response to a request. `error` names the error in a response for which it is tried again.
    pub(crate) fn call<R: Request + 'static>(
        &mut self,
        target: Target,
        request: R,
        error: fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, CliError> {
        let call = self.admin.call(self.driver.now(), target, request, error);
        loop {
            if let Some(result) = self.admin.take::<R>(call) {
                return result.map_err(|failure| CliError::Failed { what: R::KEY.name().into(), failure });
            }
            if let Some(unreachable) = self.admin.unreachable() {
                return Err(unreachable.clone().into());
            }
            if self.driver.is_interrupted() {
                return Err(CliError::Interrupted(String::new()));
            }
            self.driver.turn(std::slice::from_mut(&mut self.admin), None)?;
        }
    }

    /// Waits for so long, or until the user wants it to end; whether to go on.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<bool, CliError> {
        let until = self.driver.now().after(patience);
        loop {
            let left = until.saturating_sub(self.driver.now().instant);
            if left.is_zero() || self.driver.is_interrupted() {
                return Ok(!self.driver.is_interrupted());
            }
            self.driver.turn(std::slice::from_mut(&mut self.admin), Some(left))?;
        }
    }

    /// The metadata of these topics, or of all.
    pub(crate) fn metadata(&mut self, topics: Option<&[Str]>) -> Result<Metadata, CliError> {
        let topics = topics.map(|names| {
            let topic = |name: &Str| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
            names.iter().map(topic).collect()
        });
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let response: MetadataResponse = self.call(Target::Any, request, |_| ErrorCode::None)?;
        Ok(response.into())
    }
}

/// Says once for each time that no broker can be reached that the command waits for one.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    said: bool,
}

impl Outage {
    pub(crate) fn note(&mut self, unreachable: Option<&Unreachable>) {
        match unreachable {
            Some(unreachable) if !self.said => {
                say(format_args!("dohle: {unreachable}: waiting for it to come back; Ctrl-C gives up"));
                self.said = true;
            }
            Some(_) => {}
            None => self.said = false,
        }
    }
}

impl Connection {
    /// The endpoints to begin at.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, CliError> {
        let endpoints = Endpoint::parse_list(&self.bootstrap_server)?;
        if endpoints.is_empty() {
            return Err(CliError::Usage("--bootstrap-server names no server".into()));
        }
        Ok(endpoints)
    }
}

/// What every client of the command line is told.
pub(crate) fn cluster_config() -> ClusterConfig {
    ClusterConfig {
        client_id: "dohle-cli".into(),
        allow_auto_create_topics: false,
        ..ClusterConfig::default()
    }
}

/// Randomness that differs from call to call.
pub(crate) fn seed() -> Rng {
    let time =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let nanos = time.as_nanos().to_le_bytes();
    let low = nanos.first_chunk().copied().unwrap_or_default();
    Rng::from_seed(u64::from_le_bytes(low) ^ u64::from(std::process::id()) << 32)
}
