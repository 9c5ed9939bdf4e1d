//! What `benches/compare` makes of its measurements.

#[path = "../benches/compare/arguments.rs"]
mod arguments;
#[path = "../benches/compare/figure.rs"]
mod figure;
#[path = "../benches/compare/goals.rs"]
mod goals;
#[path = "../benches/compare/statistics.rs"]
mod statistics;
#[path = "../benches/compare/table.rs"]
mod table;

use arguments::{Arguments, Care};
use figure::{Against, Figure, rounded};
use goals::{GOALS, Goal};
use statistics::{Spread, quantile};
use table::table;

fn figure(workload: &'static str, subject: &'static str, value: f64) -> Figure {
    Figure {
        workload,
        subject,
        value: Spread::of(&[value]),
        unit: "us",
        against: None,
    }
}

fn against(figure: Figure, subject: &'static str, ratio: f64) -> Figure {
    let ratio = Spread::of(&[ratio]);
    Figure {
        against: Some(Against { subject, ratio }),
        ..figure
    }
}

fn parse(arguments: &[&str]) -> Result<Arguments, String> {
    Arguments::parse(arguments.iter().map(|argument| argument.to_string()))
}

#[test]
fn the_figure_in_the_middle_counts_and_half_of_them_lie_around_it() {
    let spread = |median, low, high| Spread { median, low, high };
    assert_eq!(
        Spread::of(&[5.0, 1.0, 3.0, 2.0, 4.0]),
        spread(3.0, 2.0, 4.0)
    );
    assert_eq!(Spread::of(&[4.0, 2.0]), spread(3.0, 2.5, 3.5));
    assert_eq!(Spread::of(&[7.0]), spread(7.0, 7.0, 7.0));
}

#[test]
fn a_quantile_between_two_figures_is_in_proportion() {
    let figures: Vec<_> = (0..=1_000).map(f64::from).collect();
    assert_eq!(quantile(&figures, 0.999), 999.0);
    assert_eq!(quantile(&[1.0, 2.0], 0.25), 1.25);
}

#[test]
fn a_round_that_is_slow_for_both_is_in_no_ratio() {
    let (ours, theirs) = ([1.0, 20.0, 1.0], [2.0, 40.0, 2.0]);
    assert_eq!(Spread::of_ratios(&ours, &theirs), Spread::of(&[0.5]));
}

#[test]
fn a_figure_has_four_digits() {
    let figures = [0.123_456, 4.705_3, 98.765, 12_345.6, 2_666_600.0, 0.0];
    let expected = [0.1235, 4.705, 98.77, 12_350.0, 2_667_000.0, 0.0];
    assert_eq!(figures.map(rounded), expected);
}

#[test]
fn a_line_has_the_figure_and_what_it_is_compared_with() {
    let ours = figure("lone_pinned", "procpool", 6.7);
    assert_eq!(
        against(ours, "pipe", 1.42).json(),
        r#"{"workload":"lone_pinned","subject":"procpool","value":6.7,"unit":"us","ratio_to":"pipe","ratio":1.42,"spread":[1.42,1.42]}"#
    );
    let line = figure("lone_pinned", "pipe", 4.7).json();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["value"], 4.7);
    assert!(line["ratio_to"].is_null() && line["ratio"].is_null() && line["spread"].is_null());
}

#[test]
fn the_table_says_which_goals_are_reached() {
    let ours = || figure("lone_pinned", "procpool", 6.7);
    let table = table(&[
        against(ours(), "pipe", 1.42),
        against(ours(), "spawn_blocking", 1.1),
        against(ours(), "rayon", 9.0),
        figure("lone_pinned", "pipe", 4.7),
    ]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("workload "), "{table}");
    assert!(lines[1].ends_with("<= 1.5 reached"), "{table}");
    assert!(lines[2].ends_with("<= 1 MISSED"), "{table}");
    assert!(lines[3].ends_with("9 .. 9"), "{table}");
    assert!(lines[4].ends_with("us"), "{table}");
    assert_eq!(lines[5], "1 of 2 goals reached");
}

#[test]
fn a_goal_is_a_bound_for_the_ratio_or_for_the_figure_where_there_is_none() {
    let rate = |ratio| against(figure("map_auto", "procpool", 7.0), "map_best_fixed", ratio);
    let goal = Goal::of(&rate(1.0)).unwrap();
    assert_eq!(goal, Goal::AtLeast(0.9));
    assert!(goal.is_reached_by(&rate(0.9)) && !goal.is_reached_by(&rate(0.89)));

    let wakeups = |count| figure("idle_wakeups", "procpool", count);
    let goal = Goal::of(&wakeups(0.0)).unwrap();
    assert!(goal.is_reached_by(&wakeups(0.0)) && !goal.is_reached_by(&wakeups(1.0)));
    assert_eq!(Goal::of(&figure("lone_pinned", "pipe", 1.0)), None);
}

#[test]
fn no_goal_is_there_twice() {
    for (index, (workload, to, _)) in GOALS.iter().enumerate() {
        let same = |goal: &&(&str, Option<&str>, Goal)| (goal.0, goal.1) == (*workload, *to);
        assert_eq!(GOALS[..index].iter().find(same), None);
    }
}

#[test]
fn the_command_line_says_how_thoroughly_to_measure_and_what() {
    let full = parse(&["--bench"]).unwrap();
    assert_eq!((full.care, full.list), (Care::Full, false));
    assert!(full.select("anything"));
    let some = parse(&["--quick", "lone", "map_auto", "--bench"]).unwrap();
    assert_eq!(some.care, Care::Quick);
    assert!(some.select("lone_pinned") && some.select("map_auto") && !some.select("work10us"));
    assert!(parse(&["--list", "--bench"]).unwrap().list);
    assert!(parse(&["--quikc", "--bench"]).is_err());
}

#[test]
fn what_is_meant_for_tests_is_no_error_and_measures_nothing_in_earnest() {
    assert_eq!(parse(&[]).unwrap().care, Care::Trial);
    let passed_on = parse(&["--nocapture", "--skip", "a_test"]).unwrap();
    assert_eq!(passed_on.care, Care::Trial);
    assert!(!passed_on.select("lone_pinned"));
}
