//! The addresses of a broker: `listeners` and `advertised.listeners`, with the protocol of each name.

use std::collections::BTreeMap;
use std::fmt;

use crate::broker::{
    ADVERTISED_LISTENERS, CONTROLLER_LISTENER_NAMES, DOHLE_METRICS_LISTENERS, LISTENER_SECURITY_PROTOCOL_MAP,
    LISTENERS,
};
use crate::broker_config::{BrokerConfig, StartError};

/// How the bytes of a connection are protected, and who is at its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// The protocol of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];
        all.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Kafka's name, such as `SASL_SSL`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Kafka's number, by which a broker's registration names it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }
}

/// A named address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The name, in upper case.
    pub name: String,
    /// What the name stands for.
    pub security_protocol: SecurityProtocol,
    /// The host; `None` means all interfaces.
    pub host: Option<String>,
    /// The port; 0 lets the operating system choose.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or_default();
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{open}{host}{close}:{}", self.name, self.port)
    }
}

impl BrokerConfig {
    /// Where the broker listens for clients: `listeners` without those of the controller.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        self.without_controllers(parse(self, &self.value(LISTENERS)))
    }

    /// The addresses told to clients, where any are set.
    ///
    /// Differs from Kafka: where none are set, clients are told the address that they have used themselves,
    /// and not the host's name; the same holds for one without a host.
    #[must_use]
    pub fn advertised_listeners(&self) -> Vec<Listener> {
        self.without_controllers(parse(self, &self.value(ADVERTISED_LISTENERS).unwrap_or_default()))
    }

    /// Where metrics are served: hosts, `None` for all interfaces, and ports.
    #[must_use]
    pub fn metrics_listeners(&self) -> Vec<(Option<String>, u16)> {
        self.value(DOHLE_METRICS_LISTENERS).iter().filter_map(|text| parse_address(text)).collect()
    }

    fn without_controllers(&self, listeners: Result<Vec<Listener>, String>) -> Vec<Listener> {
        let controllers = self.value(CONTROLLER_LISTENER_NAMES);
        let mut listeners = listeners.unwrap_or_default();
        listeners
            .retain(|listener| !controllers.iter().any(|name| name.eq_ignore_ascii_case(&listener.name)));
        listeners
    }
}

/// Checks the addresses of a properties file.
pub(crate) fn check(config: &BrokerConfig, errors: &mut Vec<StartError>) {
    let listeners = parse(config, &config.value(LISTENERS));
    let advertised = parse(config, &config.value(ADVERTISED_LISTENERS).unwrap_or_default());
    let reasons = match (listeners, advertised) {
        (Ok(listeners), Ok(advertised)) => {
            let mut reasons = check_listeners(&listeners, &config.listeners());
            reasons.extend(check_advertised(&advertised, &listeners));
            reasons
        }
        (Err(reason), _) => vec![format!("invalid `listeners`: {reason}")],
        (_, Err(reason)) => vec![format!("invalid `advertised.listeners`: {reason}")],
    };
    errors.extend(reasons.into_iter().map(StartError::Conflict));
    for text in config.value(DOHLE_METRICS_LISTENERS).iter().filter(|text| parse_address(text).is_none()) {
        let reason = "is not of the form host:port, for example 127.0.0.1:9464";
        errors.push(StartError::Conflict(format!("invalid `dohle.metrics.listeners`: `{text}` {reason}")));
    }
}

fn check_listeners(all: &[Listener], of_clients: &[Listener]) -> Vec<String> {
    let mut reasons = Vec::new();
    if of_clients.is_empty() {
        let reason = "`listeners` must name at least one address for clients, for example PLAINTEXT://:9092";
        reasons.push(reason.to_owned());
    }
    // Else a port that its owner believes to be protected would be open to everyone.
    for listener in of_clients.iter().filter(|one| one.security_protocol != SecurityProtocol::Plaintext) {
        let protocol = listener.security_protocol.name();
        reasons.push(format!(
            "`listeners`: {listener} asks for {protocol}; this version of Dohle serves only PLAINTEXT"
        ));
    }
    for (index, listener) in all.iter().enumerate() {
        let same = |other: &&Listener| other.port == listener.port && other.host == listener.host;
        if let Some(other) = all.iter().take(index).find(same).filter(|other| other.port != 0) {
            reasons.push(format!("`listeners`: {other} and {listener} have the same port"));
        }
    }
    reasons
}

fn check_advertised(advertised: &[Listener], listeners: &[Listener]) -> Vec<String> {
    let mut reasons = Vec::new();
    for listener in advertised {
        if listener.host.as_deref() == Some("0.0.0.0") {
            reasons.push(format!(
                "`advertised.listeners`: no client can connect to {listener}; name a host that clients can reach"
            ));
        }
        if !listeners.iter().any(|other| other.name == listener.name) {
            let name = &listener.name;
            reasons.push(format!("`advertised.listeners` names {name}, which `listeners` does not"));
        }
    }
    reasons
}

fn parse(config: &BrokerConfig, texts: &[String]) -> Result<Vec<Listener>, String> {
    let protocols = security_protocols(config)?;
    let mut listeners: Vec<Listener> = Vec::new();
    for text in texts {
        let listener = parse_listener(text, &protocols)?;
        if listeners.iter().any(|other| other.name == listener.name) {
            return Err(format!("{} is there twice; each listener has a name of its own", listener.name));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The protocol of each listener name.
fn security_protocols(config: &BrokerConfig) -> Result<BTreeMap<String, SecurityProtocol>, String> {
    let text = config.value(LISTENER_SECURITY_PROTOCOL_MAP);
    let mut protocols = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, protocol) = pair.split_once(':').ok_or_else(|| {
            format!("`listener.security.protocol.map`: `{pair}` is not of the form NAME:PROTOCOL")
        })?;
        let protocol = SecurityProtocol::from_name(protocol.trim()).ok_or_else(|| {
            format!(
                "`listener.security.protocol.map`: unknown protocol `{protocol}`; \
                 known are PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
            )
        })?;
        protocols.insert(name.trim().to_uppercase(), protocol);
    }
    // Where the map is not set, the controller's listeners are taken to be plain.
    if config.set_text(LISTENER_SECURITY_PROTOCOL_MAP.name()).is_none() {
        for name in config.value(CONTROLLER_LISTENER_NAMES) {
            protocols.entry(name.to_uppercase()).or_insert(SecurityProtocol::Plaintext);
        }
    }
    Ok(protocols)
}

fn parse_listener(text: &str, protocols: &BTreeMap<String, SecurityProtocol>) -> Result<Listener, String> {
    let wrong =
        || format!("`{text}` is not of the form NAME://host:port, for example PLAINTEXT://localhost:9092");
    let (name, address) = text.split_once("://").ok_or_else(wrong)?;
    let (host, port) = parse_address(address).ok_or_else(wrong)?;
    let name = name.to_uppercase();
    let security_protocol = *protocols
        .get(&name)
        .ok_or_else(|| format!("`listener.security.protocol.map` does not say what {name} stands for"))?;
    Ok(Listener { name, security_protocol, host, port })
}

/// `host:port`; no host means all interfaces.
fn parse_address(text: &str) -> Option<(Option<String>, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(((!host.is_empty()).then(|| host.to_owned()), port.parse().ok()?))
}
