//! Where a reported value comes from.

/// The source of a value, with its code in DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while it ran.
    DynamicBroker = 2,
    /// Set for all brokers of the cluster while it ran.
    DynamicDefaultBroker = 3,
    /// The broker's properties file, or an override of it.
    StaticBroker = 4,
    /// The default.
    Default = 5,
    /// Set for the group.
    Group = 8,
}

impl ConfigSource {
    /// The source as DescribeConfigs carries it.
    #[must_use]
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// Kafka's name, such as `TOPIC_CONFIG`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "TOPIC_CONFIG",
            Self::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::StaticBroker => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
            Self::Group => "GROUP_CONFIG",
        }
    }
}
