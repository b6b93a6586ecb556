//! Medians, ratios, and the table of them in Markdown.
//! What must not live here: measuring.

use super::measure::Figures;
use super::patterns::{Metric, Pattern, Target};

pub(crate) struct Report {
    runs: usize,
    seconds: f64,
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    cells: [String; 6],
    is_met: bool,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[odd / 2]),
        even => Some((values[even / 2 - 1] + values[even / 2]) / 2.0),
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

impl Report {
    pub(crate) fn new(runs: usize, seconds: f64) -> Self {
        Self { runs, seconds, rows: Vec::new(), notes: Vec::new() }
    }

    /// `figures`: for each contender its runs.
    pub(crate) fn add(&mut self, pattern: &Pattern, figures: &[Vec<Figures>]) {
        for (metric, target) in &pattern.checks {
            let row = row(pattern, *metric, *target, figures);
            eprintln!("{}: {}", pattern.name, row.cells[1..].join(" | "));
            self.rows.push(row);
        }
        for (contender, runs) in pattern.contenders.iter().zip(figures) {
            let sum = |of: fn(&Figures) -> u64| runs.iter().map(of).sum::<u64>();
            let rate = median(runs.iter().filter_map(|one| one.deliveries_per_second).collect());
            let p50 = median(runs.iter().filter_map(|one| one.p50_us).collect());
            let p99 = median(runs.iter().filter_map(|one| one.p99_us).collect());
            let losses =
                [sum(|one| one.lost), sum(|one| one.duplicates), sum(|one| one.out_of_order)];
            let errors = sum(|one| one.errors);
            self.notes.push(format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {errors} |",
                pattern.name,
                contender.name(),
                shown(rate),
                shown(p50),
                shown(p99),
                losses[0],
                losses[1],
                losses[2],
            ));
            // Nothing is asked of the other side.
            let is_ours = contender.name() != "mosquitto";
            if is_ours && losses.iter().sum::<u64>() + errors > 0 {
                self.rows.push(Row {
                    cells: [
                        pattern.name.to_owned(),
                        "lost, doubled, out of order, errors".to_owned(),
                        format!("{losses:?} {errors}"),
                        String::new(),
                        String::new(),
                        format!("none ({})", contender.name()),
                    ],
                    is_met: false,
                });
            }
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.is_met)
    }

    pub(crate) fn print(&self) {
        println!(
            "\nMedians of {} runs of {} s; 64-byte payloads where nothing else is said, 3.1.1.\n",
            self.runs, self.seconds
        );
        println!("| pattern | figure | wasmqtt | compared with | ratio | target | |");
        println!("|---|---|---|---|---|---|---|");
        for row in &self.rows {
            let verdict = if row.is_met { "" } else { "**missed**" };
            println!("| {} | {verdict} |", row.cells.join(" | "));
        }
        println!(
            "\n| pattern | broker | deliveries/s | p50 us | p99 us | lost | doubled | out of order | errors |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for note in &self.notes {
            println!("{note}");
        }
    }
}

fn row(pattern: &Pattern, metric: Metric, target: Target, figures: &[Vec<Figures>]) -> Row {
    let of = |index: usize| {
        let runs: Option<&Vec<Figures>> = figures.get(index);
        median(runs.into_iter().flatten().filter_map(|one| metric.of(one)).collect())
    };
    let (ours, other) = (of(0), of(1));
    let ratio = ours.zip(other).map(|(ours, other)| ours / other.max(1e-9));
    let (wanted, is_met) = match target {
        Target::TimesLess(times) => {
            (format!("{times} times less"), ratio.is_some_and(|ratio| ratio * times <= 1.0))
        }
        Target::TimesAtMost(times) => {
            (format!("at most {times} times"), ratio.is_some_and(|ratio| ratio <= times))
        }
        Target::AtMost(most) => {
            // Without strace there is nothing to judge.
            let unknown = metric == Metric::Syscalls && ours.is_none();
            (format!("at most {most}"), unknown || ours.is_some_and(|ours| ours <= most))
        }
        Target::Report => (String::new(), true),
        Target::ReportPerMessage => {
            let more = ours.zip(other).map(|(ours, other)| ours - other);
            (format!("{} us a message", shown(more)), true)
        }
    };
    let ratio = match ratio {
        Some(ratio) if ratio < 1.0 => format!("{:.1} times less", 1.0 / ratio),
        Some(ratio) => format!("{ratio:.2} times"),
        None => String::new(),
    };
    let compared = pattern
        .contenders
        .get(1)
        .map(|contender| format!("{} ({})", shown(other), contender.name()));
    let name = pattern
        .contenders
        .first()
        .map_or_else(String::new, |contender| format!("{} ({})", shown(ours), contender.name()));
    Row {
        cells: [
            pattern.name.to_owned(),
            metric.name().to_owned(),
            name,
            compared.unwrap_or_default(),
            ratio,
            wanted,
        ],
        is_met,
    }
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    assert_eq!(median(vec![4.0, 1.0, 3.0]), Some(3.0));
    assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
    assert_eq!(median(vec![]), None);
}
