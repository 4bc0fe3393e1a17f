//! The comparison as a table: medians of both sides, and the median and range of the ratios of neighbours.

use std::fmt::Write as _;

use super::loads::LOADS;
use super::pass::Measured;

/// A line for each figure that both sides have, as Markdown.
pub(crate) fn compare(name: &str, kafka: &[Measured], other: &[Measured]) -> String {
    let mut text =
        format!("| load | figure | Apache Kafka | {name} | ratio | range |\n|---|---|---|---|---|---|\n");
    let broker = [("start", "start to first acknowledged record, ms"), ("idle", "memory idle, MB")]
        .map(|(measure, title)| ("broker", measure, title, "the broker"));
    let loads = LOADS.iter().flat_map(|load| {
        load.figures.iter().map(|figure| (load.name, figure.title, figure.title, load.title))
    });
    let loaded = [("broker", "loaded", "memory at the most, MB", "the broker")];
    for (load, measure, title, described) in broker.into_iter().chain(loads).chain(loaded) {
        let values = |side: &[Measured]| -> Vec<f64> {
            side.iter().filter_map(|pass| pass.get(&(load, measure)).copied()).collect()
        };
        let (kafka, other) = (values(kafka), values(other));
        // Passes alternate, so that those of the same number were neighbours.
        let ratios: Vec<f64> =
            kafka.iter().zip(&other).filter(|(kafka, _)| **kafka > 0.0).map(|(a, b)| b / a).collect();
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), shown);
        if other.is_empty() {
            continue;
        }
        let range = match (smallest(&ratios), largest(&ratios)) {
            (Some(low), Some(high)) => format!("{} to {}", shown(low), shown(high)),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {described} | {title} | {} | {} | {} | {range} |",
            cell(median(&kafka)),
            cell(median(&other)),
            cell(median(&ratios)),
        );
    }
    text
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied()?;
    let lower = if sorted.len().is_multiple_of(2) { sorted.get(middle - 1).copied()? } else { upper };
    Some(f64::midpoint(lower, upper))
}

fn smallest(values: &[f64]) -> Option<f64> {
    values.iter().copied().min_by(f64::total_cmp)
}

fn largest(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

/// Three digits that count: more than is repeated.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_compared_and_the_range_is_told() {
        let pass = |value: f64| Measured::from([(("single", "p99, ms"), value)]);
        let text =
            compare("Dohle", &[pass(2.0), pass(4.0), pass(400.0)], &[pass(1.0), pass(1.0), pass(200.0)]);
        let line = text.lines().find(|line| line.contains("p99")).unwrap_or_default();
        assert!(line.ends_with("| p99, ms | 4.00 | 1.00 | 0.50 | 0.25 to 0.50 |"), "{line}");
        assert_eq!(text.lines().count(), 3, "what was not measured has no line");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
