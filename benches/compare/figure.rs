//! A figure, as a line of JSON.

use serde::Serialize;

use crate::statistics::Spread;

/// What a subject measured in a workload, and perhaps how that compares with another subject.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) workload: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) value: Spread,
    pub(crate) unit: &'static str,
    pub(crate) against: Option<Against>,
}

/// The other, and the ratios of the rounds to it.
#[derive(Clone, Debug)]
pub(crate) struct Against {
    pub(crate) subject: &'static str,
    pub(crate) ratio: Spread,
}

/// What is printed: medians, and the ratios between which half of the rounds lie.
#[derive(Serialize)]
struct Line {
    workload: &'static str,
    subject: &'static str,
    value: f64,
    unit: &'static str,
    ratio_to: Option<&'static str>,
    ratio: Option<f64>,
    spread: Option<[f64; 2]>,
}

impl Figure {
    pub(crate) fn json(&self) -> String {
        let ratio = self.against.as_ref().map(|against| against.ratio);
        let line = Line {
            workload: self.workload,
            subject: self.subject,
            value: rounded(self.value.median),
            unit: self.unit,
            ratio_to: self.against.as_ref().map(|against| against.subject),
            ratio: ratio.map(|ratio| rounded(ratio.median)),
            spread: ratio.map(|ratio| [rounded(ratio.low), rounded(ratio.high)]),
        };
        serde_json::to_string(&line).expect("it has nothing but strings and numbers")
    }
}

/// To four digits: there are no more in it.
pub(crate) fn rounded(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return figure;
    }
    let scale = 10_f64.powf(3.0 - figure.abs().log10().floor());
    // Where the scale is a fraction, dividing by it would leave digits of its own.
    if scale < 1.0 {
        let step = scale.recip().round();
        (figure / step).round() * step
    } else {
        (figure * scale).round() / scale
    }
}
