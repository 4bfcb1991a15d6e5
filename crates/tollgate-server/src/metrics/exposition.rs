//! The two text formats of metrics, and which of them a scraper asks for.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderValue, header};
use parse_net::negotiate::Negotiator;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The older text format of Prometheus, version 0.0.4, which most parsers of `text/plain` read.
    Text,
}

/// What can be asked for, with the format that it names; among equals the first is sent.
const OFFERS: [(&str, Exposition); 4] = [
    ("application/openmetrics-text; version=1.0.0", Exposition::OpenMetrics),
    ("application/openmetrics-text; version=1.0.0; charset=utf-8", Exposition::OpenMetrics),
    ("text/plain; version=0.0.4", Exposition::Text),
    ("text/plain; version=0.0.4; charset=utf-8", Exposition::Text),
];

impl Exposition {
    /// The format that the field `Accept` of `headers` prefers. `OpenMetrics` if there is none, or it accepts neither.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        let fields = headers.get_all(header::ACCEPT);
        let lines: Vec<_> = fields.iter().map(HeaderValue::as_bytes).collect();
        let offers = OFFERS.map(|(offer, _)| offer);
        let chosen = Negotiator::new().media_lines(lines, &offers).index();
        chosen.and_then(|index| OFFERS.get(index)).map_or(Self::OpenMetrics, |(_, format)| *format)
    }

    /// The media type of the format.
    pub(crate) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }

    /// `openmetrics`, an `OpenMetrics` document, in this format.
    pub(crate) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => text(&openmetrics),
        }
    }
}

/// An `OpenMetrics` document as text of Prometheus: the same samples, but a counter and an info have the names of their
/// samples, and there is neither a unit nor an end.
fn text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        let described = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), about) => {
                help = Some((name, about.unwrap_or_default()));
                continue;
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => Some((name, kind)),
            (Some("#"), ..) => continue,
            _ => None,
        };
        let Some((name, kind)) = described else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            "stateset" => ("", "gauge"),
            other => ("", other),
        };
        // Writing to a `String` cannot fail.
        if let Some((_, about)) = help.take().filter(|(helped, _)| *helped == name) {
            _ = writeln!(text, "# HELP {name}{suffix} {about}");
        }
        _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &[&'static str]) -> Exposition {
        let fields = accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| _ = headers.append(name, value));
        Exposition::asked(&headers)
    }

    #[test]
    fn the_format_asked_for_is_chosen() {
        for accept in [
            &[][..],
            &["*/*"],
            &["application/openmetrics-text"],
            &["application/json"],
            &["text/plain;q=0.3, application/openmetrics-text; version=1.0.0"],
            // Prometheus 2.5 and 3.
            &[
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
        ] {
            assert_eq!(asked(accept), Exposition::OpenMetrics, "{accept:?}");
        }
        for accept in [
            &["text/plain"][..],
            &["text/*"],
            &["text/plain; version=0.0.4; charset=utf-8"],
            &["application/openmetrics-text;q=0.1", "text/plain"],
            &[
                "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
        ] {
            assert_eq!(asked(accept), Exposition::Text, "{accept:?}");
        }
    }

    #[test]
    fn text_has_the_same_samples_under_the_names_that_its_parsers_expect() {
        let openmetrics = "\
# HELP checks Checks that were decided.
# TYPE checks counter
checks_total{policy=\"a b\"} 3
# HELP keys Keys.
# TYPE keys gauge
# UNIT keys seconds
keys 7
# TYPE build info
build_info{version=\"1\"} 1
# HELP call_seconds Time.
# TYPE call_seconds histogram
call_seconds_bucket{le=\"+Inf\"} 1
call_seconds_sum 0.5
call_seconds_count 1
# EOF
";
        let expected = "\
# HELP checks_total Checks that were decided.
# TYPE checks_total counter
checks_total{policy=\"a b\"} 3
# HELP keys Keys.
# TYPE keys gauge
keys 7
# TYPE build_info gauge
build_info{version=\"1\"} 1
# HELP call_seconds Time.
# TYPE call_seconds histogram
call_seconds_bucket{le=\"+Inf\"} 1
call_seconds_sum 0.5
call_seconds_count 1
";
        assert_eq!(text(openmetrics), expected);
    }
}
