//! The metrics of `/metrics` as metrics of OTLP: the same families under the same names, so there is one set of instruments.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

use crate::attributes::text;

/// The families of `openmetrics`, which count since `start`, at `now` (both in nanoseconds of Unix). Lines that are not understood
/// are left out.
pub(crate) fn converted(openmetrics: &str, start: u64, now: u64) -> Vec<Metric> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            describe(&mut families, described);
        } else if let (Some(sample), Some(family)) = (Sample::parse(line), families.last_mut()) {
            family.samples.push(sample);
        }
    }
    families.into_iter().filter_map(|family| family.metric(start, now)).collect()
}

/// A family of samples.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    unit: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

fn describe<'a>(families: &mut Vec<Family<'a>>, described: &'a str) {
    let mut words = described.splitn(3, ' ');
    let (Some(what), Some(name), about) = (words.next(), words.next(), words.next()) else {
        return;
    };
    if families.last().is_none_or(|family| family.name != name) {
        families.push(Family { name, ..Family::default() });
    }
    let Some(family) = families.last_mut() else { return };
    let about = about.unwrap_or_default();
    match what {
        "HELP" => family.help = about,
        "TYPE" => family.kind = about,
        "UNIT" => family.unit = about,
        _ => {}
    }
}

impl<'a> Sample<'a> {
    /// `name{label="value",…} value`; an exemplar after it is left out.
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let mut labels = Vec::new();
        let mut rest = match rest.strip_prefix('{') {
            None => rest,
            Some(mut rest) => loop {
                if let Some(after) = rest.strip_prefix('}') {
                    break after;
                }
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = unescaped(after)?;
                labels.push((label, value));
                rest = after.strip_prefix(',').unwrap_or(after);
            },
        };
        rest = rest.trim_start();
        let value = rest.split(' ').next().filter(|value| !value.is_empty())?;
        Some(Self { name, labels, value })
    }

    fn attributes(&self, without: &str) -> Vec<KeyValue> {
        let labels = self.labels.iter().filter(|(label, _)| *label != without);
        labels.map(|(label, value)| text(*label, value)).collect()
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| &**value)
    }

    fn count(&self) -> Option<u64> {
        self.value.parse().ok()
    }
}

/// The text until the closing quote, and what follows.
fn unescaped(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &quoted[at + 1..])),
            (_, '\\') => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            (_, char) => value.push(char),
        }
    }
}

impl Family<'_> {
    fn metric(&self, start: u64, now: u64) -> Option<Metric> {
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: self.numbers("_total", start, now),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            "gauge" | "unknown" => Data::Gauge(Gauge { data_points: self.numbers("", 0, now) }),
            "info" => Data::Gauge(Gauge { data_points: self.numbers("_info", 0, now) }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.distributions(start, now),
                aggregation_temporality: temporality,
            }),
            _ => return None,
        };
        let unit = match self.unit {
            "seconds" => "s",
            "bytes" => "By",
            other => other,
        };
        Some(Metric {
            name: self.name.to_owned(),
            description: self.help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        })
    }

    /// The samples whose names end so.
    fn numbers(&self, suffix: &str, start: u64, now: u64) -> Vec<NumberDataPoint> {
        let samples = self.samples.iter().filter(|sample| {
            sample.name.strip_prefix(self.name).is_some_and(|ending| ending == suffix)
        });
        let point = |sample: &Sample<'_>| {
            let value = match sample.value.parse::<i64>() {
                Ok(integer) => Value::AsInt(integer),
                Err(_) => Value::AsDouble(sample.value.parse().ok()?),
            };
            Some(NumberDataPoint {
                attributes: sample.attributes(""),
                start_time_unix_nano: start,
                time_unix_nano: now,
                value: Some(value),
                ..NumberDataPoint::default()
            })
        };
        samples.filter_map(point).collect()
    }

    /// The histograms, one for each set of labels. Their buckets are counted one by one, in the text each with those below it.
    fn distributions(&self, start: u64, now: u64) -> Vec<HistogramDataPoint> {
        let mut points: Vec<HistogramDataPoint> = Vec::new();
        let mut below = 0;
        for sample in &self.samples {
            let attributes = sample.attributes("le");
            if points.last().is_none_or(|point| point.attributes != attributes) {
                below = 0;
                points.push(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: start,
                    time_unix_nano: now,
                    ..HistogramDataPoint::default()
                });
            }
            let Some(point) = points.last_mut() else { continue };
            match sample.name.strip_prefix(self.name) {
                Some("_bucket") => {
                    let count = sample.count().unwrap_or(below);
                    point.bucket_counts.push(count.saturating_sub(below));
                    below = count;
                    let bound = sample.label("le").and_then(|bound| bound.parse::<f64>().ok());
                    point.explicit_bounds.extend(bound.filter(|bound| bound.is_finite()));
                }
                Some("_count") => point.count = sample.count().unwrap_or(0),
                Some("_sum") => point.sum = sample.value.parse().ok(),
                _ => {}
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# HELP checks Checks that were decided.
# TYPE checks counter
checks_total{policy=\"a \\\"b\\\" \\\\\",outcome=\"allowed\"} 3
checks_total{policy=\"}\",outcome=\"denied\"} 4
# HELP keys Keys.
# TYPE keys gauge
keys 7
# TYPE build info
build_info{version=\"1\"} 1
# HELP call_seconds Time.
# TYPE call_seconds histogram
# UNIT call_seconds seconds
call_seconds_sum{call=\"check\"} 0.5
call_seconds_count{call=\"check\"} 5
call_seconds_bucket{le=\"0.1\",call=\"check\"} 2
call_seconds_bucket{le=\"1.0\",call=\"check\"} 4
call_seconds_bucket{le=\"+Inf\",call=\"check\"} 5
call_seconds_sum{call=\"peek\"} 0.0
call_seconds_count{call=\"peek\"} 0
call_seconds_bucket{le=\"0.1\",call=\"peek\"} 0
call_seconds_bucket{le=\"+Inf\",call=\"peek\"} 0
# EOF
";

    #[test]
    fn every_family_is_a_metric_with_its_samples() {
        let metrics = converted(TEXT, 1, 2);
        let names: Vec<_> = metrics.iter().map(|metric| &*metric.name).collect();
        assert_eq!(names, ["checks", "keys", "build", "call_seconds"]);
        let Some(Data::Sum(checks)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
        assert!(checks.is_monotonic && checks.data_points.len() == 2);
        assert_eq!(checks.data_points[0].value, Some(Value::AsInt(3)));
        assert_eq!(checks.data_points[0].attributes[0], text("policy", "a \"b\" \\"));
        assert_eq!(checks.data_points[1].attributes[0], text("policy", "}"));
        assert_eq!(checks.data_points[0].start_time_unix_nano, 1);
        let Some(Data::Gauge(keys)) = &metrics[1].data else { panic!("{:?}", metrics[1]) };
        assert_eq!(keys.data_points[0].value, Some(Value::AsInt(7)));
        let Some(Data::Histogram(calls)) = &metrics[3].data else { panic!("{:?}", metrics[3]) };
        assert_eq!(metrics[3].unit, "s");
        let [check, peek] = &calls.data_points[..] else { panic!("{calls:?}") };
        assert_eq!(check.bucket_counts, [2, 2, 1]);
        assert_eq!(check.explicit_bounds, [0.1, 1.0]);
        assert_eq!((check.count, check.sum), (5, Some(0.5)));
        assert_eq!(check.attributes, [text("call", "check")]);
        assert_eq!((peek.count, &peek.bucket_counts[..]), (0, &[0, 0][..]));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z_]{1,3}|[ #{}=\",\\\\\n.0-9é]){0,60}") {
            _ = converted(&text, 0, 0);
        }

        #[test]
        fn a_label_is_read_as_it_was(value in "[ -~\n]{0,20}") {
            let written = value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
            let line = format!("x{{a=\"{written}\",b=\"1\"}} 1");
            let sample = Sample::parse(&line).unwrap();
            prop_assert_eq!(sample.label("a"), Some(&*value));
            prop_assert_eq!(sample.label("b"), Some("1"));
        }
    }
}
