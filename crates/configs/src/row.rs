//! What one row of the table says about one config, and the macro in which the rows are written.

use std::marker::PhantomData;

use crate::valid::Valid;
use crate::value::{Kind, Typed};

/// One config: everything that Dohle knows about a name.
#[derive(Debug)]
pub struct Config {
    /// Kafka's name, such as `log.segment.bytes`.
    pub name: &'static str,
    /// The type its text is parsed to.
    pub kind: Kind,
    /// The default as text; `None` is Kafka's `null`, a value that is not there.
    pub default: Option<&'static str>,
    /// Which values of the type are allowed.
    pub valid: Valid,
    /// How it may be changed while the broker runs.
    pub update: Update,
    /// Whether Dohle acts on it.
    pub effect: Effect,
    /// What it does, in one or two sentences.
    pub text: &'static str,
}

impl Config {
    /// Whether its value is a secret, never shown to anyone.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }
}

/// How a config may be changed while the broker runs (KIP-226).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only at start, by the properties file or an override.
    ReadOnly,
    /// For one broker, by its id.
    PerBroker,
    /// For one broker or as the default of the whole cluster.
    ClusterWide,
    /// For one topic (every topic config).
    PerTopic,
    /// For one group (every group config).
    PerGroup,
}

impl Update {
    /// The word in the docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::PerBroker => "per-broker",
            Self::ClusterWide => "cluster-wide",
            Self::PerTopic => "per-topic",
            Self::PerGroup => "per-group",
        }
    }
}

/// Whether Dohle acts on a config or only knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It does what its text says.
    InForce,
    /// Accepted, checked and reported, but nothing in Dohle reads it, for this reason.
    WithoutEffect(&'static str),
}

/// A config's name together with the Rust type of its value: the only way to read a config from code.
pub struct Key<T> {
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// For the table's macro: the kinds agree because both come from the same row.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, value: PhantomData }
    }

    /// Kafka's name of the config.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The kind of a row's Rust type, for the macro.
pub(crate) const fn kind_of<T: Typed>() -> Kind {
    T::KIND
}

/// Writes a part of the table. A row reads: key, name, type and default; valid values, update mode, effect; text.
/// A row without `= default` has none (Kafka's `null`) and an `Option` type.
macro_rules! configs {
    ($(
        $key:ident $name:literal: $ty:ty $(= $default:literal)?, $valid:expr, $update:expr, $effect:expr,
            $text:literal;
    )*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $text)]
            pub const $key: $crate::row::Key<$ty> = $crate::row::Key::new($name);
        )*

        /// The rows of this part of the table.
        pub(crate) const ROWS: &[$crate::row::Config] = &[$($crate::row::Config {
            name: $name,
            kind: $crate::row::kind_of::<$ty>(),
            default: configs!(@default $($default)?),
            valid: $valid,
            update: $update,
            effect: $effect,
            text: $text,
        },)*];
    };
    (@default) => { None };
    (@default $default:literal) => { Some(concat!($default)) };
}

pub(crate) use configs;
