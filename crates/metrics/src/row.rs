//! What one row of the table says about one metric, and the macro in which the rows are written.

/// One metric: everything that Dohle knows about a name.
#[derive(Debug)]
pub struct Metric {
    /// Its name, such as `dohle_requests_total`.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// By what its series differ.
    pub labels: &'static [&'static str],
    /// What it tells, in one or two sentences.
    pub help: &'static str,
}

/// A metric together with how its value follows from something, for those who write several metrics of the same things.
pub type Row<F> = (&'static Metric, F);

/// What the values of a metric are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, until the process is started again.
    Counter,
    /// How many fell into which of several ranges.
    Histogram,
}

impl Kind {
    /// Its word in a page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// In what it is measured; `None` where it counts something.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let family = self.family();
        ["seconds", "bytes"].into_iter().find(|unit| family.rsplit('_').next() == Some(unit))
    }

    /// Its name in OpenMetrics' format, in which the samples of counters have an ending that the family has not.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

/// Writes a part of the table. A row reads: key, name, kind and labels; text.
macro_rules! metrics {
    ($($key:ident $name:literal: $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $key: &$crate::row::Metric = &$crate::row::Metric {
                name: $name,
                kind: $crate::row::Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// The rows of this part of the table.
        pub(crate) const ROWS: &[&$crate::row::Metric] = &[$($key),*];
    };
}

pub(crate) use metrics;
