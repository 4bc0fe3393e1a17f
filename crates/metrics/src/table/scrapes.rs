//! The metrics themselves.

use crate::row::metrics;

metrics! {
    SCRAPES "dohle_metrics_scrapes_total": Counter, ["status"], "Requests for metrics, by the HTTP status of the answer.";

    SCRAPE_CONNECTIONS_REFUSED "dohle_metrics_connections_refused_total": Counter, [], "Connections for metrics that were closed at once, because others were open.";

    SERIES_LEFT_OUT "dohle_metrics_series_left_out": Gauge, ["metric"], "Series that this page lacks, by metric, for there were more than a page may have (`dohle.metrics.series.max`), or because one of their labels was too long.";
}
