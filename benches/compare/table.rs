//! All figures of a run at a glance, with the goals.

use crate::figure::{Figure, rounded};
use crate::goals::Goal;

const HEAD: [&str; 8] = [
    "workload",
    "subject",
    "value",
    "unit",
    "ratio to",
    "ratio",
    "half of them",
    "goal",
];

/// One line a figure; the words of a column begin below each other.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(figures.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        table += cells.join("  ").trim_end();
        table += "\n";
    }
    let goals: Vec<_> = figures.iter().filter_map(verdict).collect();
    let reached = goals.iter().filter(|(_, reached)| *reached).count();
    table += &format!("{reached} of {} goals reached\n", goals.len());
    table
}

fn row(figure: &Figure) -> [String; HEAD.len()] {
    let against = figure.against.as_ref();
    let number = |number: f64| rounded(number).to_string();
    let goal = verdict(figure).map(|(goal, reached)| {
        let verdict = if reached { "reached" } else { "MISSED" };
        format!("{goal} {verdict}")
    });
    [
        figure.workload.to_owned(),
        figure.subject.to_owned(),
        number(figure.value.median),
        figure.unit.to_owned(),
        against.map_or("", |against| against.subject).to_owned(),
        against.map_or(String::new(), |against| number(against.ratio.median)),
        against.map_or(String::new(), |against| {
            format!(
                "{} .. {}",
                number(against.ratio.low),
                number(against.ratio.high)
            )
        }),
        goal.unwrap_or_default(),
    ]
}

fn verdict(figure: &Figure) -> Option<(Goal, bool)> {
    let goal = Goal::of(figure)?;
    Some((goal, goal.is_reached_by(figure)))
}
