//! All metrics of Dohle in one declarative table, and what follows from it: the text of a scrape, in Prometheus' format
//! and in that of OpenMetrics, and the page of the docs.
//!
//! What it is not: it holds no values. Whoever counts has plain fields for it, and writes them to a [`Page`] when
//! somebody asks; there is no registry that is locked or searched on the way of a request, and none for the whole process.
//!
//! Inputs: values, in the order of the page. Effects: none.
//!
//! Invariants:
//! 1. A metric is one row of the [`table`]; nothing else repeats its name, kind, labels or text.
//! 2. A page has each metric once, all its series together, with as many labels as its row says.
//! 3. A page is bounded: in the series of a metric, in the length of a label and in bytes. What was left out is told in
//!    the page itself.
//!
//! Start reading at [`row::Metric`] and `table/requests.rs`, then [`Page`].

mod docs;
mod histogram;
mod page;
pub mod row;
pub mod table;

pub use docs::docs_page;
pub use histogram::Histogram;
pub use page::{Family, Format, LABEL_BYTES_MAX, Limits, Number, Page};
