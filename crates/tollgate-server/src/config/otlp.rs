//! Where traces and metrics are sent: two settings of Tollgate, and the variables of the `OpenTelemetry` standard.
//!
//! The settings of Tollgate come first. The variables of the standard have an effect only if a collector is set, and an empty one is
//! as one that is not set, as the standard says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use tollgate_otlp::{OtlpConfig, Sampling};

use super::layers::{Layers, Refused};
use super::values;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const METRICS_EVERY: &str = "OTEL_METRIC_EXPORT_INTERVAL";
const METRICS: &str = "OTEL_METRICS_EXPORTER";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const TRACES: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The variables of the standard that are read.
const VARIABLES: [&str; 12] = [
    ENDPOINT,
    HEADERS,
    PROTOCOL,
    TIMEOUT,
    METRICS_EVERY,
    METRICS,
    ATTRIBUTES,
    DISABLED,
    SERVICE_NAME,
    TRACES,
    SAMPLER,
    SAMPLER_ARG,
];

/// The most pairs of a list.
const MAX_PAIRS: usize = 64;

/// The variables of the standard.
#[derive(Debug, Default)]
pub(super) struct Standard(BTreeMap<&'static str, OsString>);

impl Standard {
    pub(super) fn of(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &'static str| Some((name, environment(name)?));
        Self(VARIABLES.into_iter().filter_map(set).collect())
    }

    /// The value of the variable `name`, or `default` if it is not set. If `parse` refuses a value, the problem is added.
    fn take<T>(
        &self,
        layers: &mut Layers,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, Refused>,
    ) -> T {
        let Some(value) = self.0.get(name) else { return default };
        let parsed = match value.to_str().map(str::trim) {
            Some("") => return default,
            Some(text) => parse(text),
            None => Err(Refused { problem: "is not UTF-8".into(), accepted: "text in UTF-8" }),
        };
        parsed.unwrap_or_else(|Refused { problem, accepted }| {
            layers.refuse(&name, &problem, accepted);
            default
        })
    }
}

/// What is sent where; `None` for nothing.
pub(super) fn take(layers: &mut Layers, standard: &Standard) -> Option<OtlpConfig> {
    let endpoint = layers.take("otlp_endpoint", None, |text| endpoint(text).map(Some));
    let sample = layers.take("otlp_sample", None, |text| values::share(text).map(Some));
    if standard.take(layers, DISABLED, false, disabled) {
        return None;
    }
    let endpoint = match endpoint {
        None if layers.place("otlp_endpoint").is_none() => {
            standard.take(layers, ENDPOINT, None, |text| self::endpoint(text).map(Some))
        }
        endpoint => endpoint,
    };
    let Some(endpoint) = endpoint else {
        let is_given = |key| layers.place(key).is_some();
        let has_endpoint = is_given("otlp_endpoint") || standard.0.contains_key(ENDPOINT);
        if is_given("otlp_sample") && !has_endpoint {
            let accepted = "together with --otlp-endpoint or OTEL_EXPORTER_OTLP_ENDPOINT";
            layers.refuse_key("otlp_sample", "is given without a collector", accepted);
        }
        return None;
    };
    let mut config = OtlpConfig::new(endpoint);
    standard.take(layers, PROTOCOL, (), protocol);
    config.headers = standard.take(layers, HEADERS, Vec::new(), headers);
    config.timeout = standard.take(layers, TIMEOUT, config.timeout, |text| {
        milliseconds(text, 1..=600_000, "an integer from 1 to 600000, in milliseconds")
    });
    let every = standard.take(layers, METRICS_EVERY, OtlpConfig::DEFAULT_METRICS_EVERY, |text| {
        milliseconds(text, 100..=86_400_000, "an integer from 100 to 86400000, in milliseconds")
    });
    config.metrics_every = standard.take(layers, METRICS, true, exporter).then_some(every);
    let sampling = sampling(layers, standard, sample);
    config.traces = standard.take(layers, TRACES, true, exporter).then_some(sampling);
    config.resource = resource(layers, standard);
    Some(config)
}

fn milliseconds(
    text: &str,
    range: RangeInclusive<u64>,
    accepted: &'static str,
) -> Result<Duration, Refused> {
    values::milliseconds(text, range, accepted)
}

/// The address of a collector. Errors show no part of it, because it may contain a password.
fn endpoint(text: &str) -> Result<Uri, Refused> {
    let refused = |problem: &str| Refused {
        problem: problem.to_owned(),
        accepted: "a URL of OTLP over HTTP without user, query and fragment, such as http://127.0.0.1:4318; /v1/traces and \
                   /v1/metrics are added to it",
    };
    let url: Uri = text.parse().map_err(|_| refused("is not a URL"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(refused("does not begin with http:// or https://"));
    }
    let authority = url.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| refused("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(refused("has a user; put secrets into OTEL_EXPORTER_OTLP_HEADERS"));
    }
    // The parser leaves a port that is too large in the authority.
    if authority.port_u16().is_none() && authority.as_str() != authority.host() {
        return Err(refused("has a port that is not 0 to 65535"));
    }
    if url.query().is_some() || text.contains('#') {
        return Err(refused("has a query or a fragment"));
    }
    Ok(url)
}

fn disabled(text: &str) -> Result<bool, Refused> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(not_accepted(text, "`true` or `false`")),
    }
}

fn protocol(text: &str) -> Result<(), Refused> {
    if text == "http/protobuf" {
        return Ok(());
    }
    Err(not_accepted(
        text,
        "`http/protobuf`, which collectors have at port 4318; gRPC and JSON are not spoken",
    ))
}

fn exporter(text: &str) -> Result<bool, Refused> {
    match text {
        "otlp" => Ok(true),
        "none" => Ok(false),
        _ => Err(not_accepted(text, "`otlp` or `none`")),
    }
}

fn not_accepted(text: &str, accepted: &'static str) -> Refused {
    Refused { problem: format!("{text:?} is not accepted"), accepted }
}

/// Tollgate's setting `sample` replaces the sampler of the standard.
fn sampling(layers: &mut Layers, standard: &Standard, sample: Option<u32>) -> Sampling {
    const ALL: u32 = 1_000_000;
    let default = Sampling::default();
    let arg = standard.take(layers, SAMPLER_ARG, None, |text| values::share(text).map(Some));
    let part = || arg.unwrap_or(ALL);
    let sampler = standard.take(layers, SAMPLER, None, |text| {
        let (name, follows_parent) = match text.strip_prefix("parentbased_") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let millionths = match name {
            "always_on" => ALL,
            "always_off" => 0,
            "traceidratio" => part(),
            _ => {
                let accepted = "`always_on`, `always_off` or `traceidratio`, each also with `parentbased_` before it";
                return Err(not_accepted(text, accepted));
            }
        };
        Ok(Some(Sampling { millionths, follows_parent }))
    });
    match (sample, sampler) {
        (Some(millionths), _) => Sampling { millionths, ..default },
        (None, Some(sampler)) => sampler,
        (None, None) => default,
    }
}

fn resource(layers: &mut Layers, standard: &Standard) -> Vec<(String, String)> {
    const NAME: &str = "service.name";
    let mut resource = standard.take(layers, ATTRIBUTES, Vec::new(), |text| {
        pairs(text).ok_or_else(|| Refused {
            problem: "is not a list of attributes".to_owned(),
            accepted: "at most 64 pairs KEY=VALUE with commas between; in values, a comma is %2C",
        })
    });
    let name = standard.take(layers, SERVICE_NAME, None, |text| Ok(Some(text.to_owned())));
    let given = resource.iter().find(|(key, _)| key == NAME).map(|(_, value)| value.clone());
    let name = name.or(given).unwrap_or_else(|| OtlpConfig::DEFAULT_SERVICE_NAME.to_owned());
    resource.retain(|(key, _)| key != NAME);
    resource.insert(0, (NAME.to_owned(), name));
    resource
}

/// Errors show no part of them, because they contain secrets.
fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Refused> {
    let refused = || Refused {
        problem: "is not a list of header fields".to_owned(),
        accepted: "at most 64 pairs NAME=VALUE with commas between, such as authorization=Bearer%20TOKEN",
    };
    let pairs = pairs(text).ok_or_else(refused)?;
    let field = |(name, value): (String, String)| {
        let name: HeaderName = name.parse().ok()?;
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    pairs.into_iter().map(|pair| field(pair).ok_or_else(refused)).collect()
}

/// `KEY=VALUE,…` with values in percent encoding (W3C Baggage).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let (key, value) = (key.trim(), percent_decode_str(value.trim()).decode_utf8().ok()?);
        (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
    };
    let pairs: Option<Vec<_>> = parts.map(pair).collect();
    pairs.filter(|pairs| pairs.len() <= MAX_PAIRS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(settings: &[(&str, &str)]) -> Result<Option<OtlpConfig>, String> {
        let environment = |name: &str| {
            let found = settings.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let keys = ["otlp_endpoint", "otlp_sample"];
        let mut layers = Layers::new(&keys, [], environment, None);
        let config = take(&mut layers, &Standard::of(environment));
        layers.finish(config).map_err(|error| error.to_string())
    }

    const COLLECTOR: (&str, &str) = (ENDPOINT, "http://127.0.0.1:4318");

    #[test]
    fn nothing_is_sent_unless_a_collector_is_set() {
        for settings in [
            &[][..],
            &[(ENDPOINT, "")],
            &[(SAMPLER, "always_on"), (HEADERS, "a=b")],
            &[COLLECTOR, (DISABLED, "true")],
            &[("TOLLGATE_OTLP_ENDPOINT", "http://c"), (DISABLED, "TRUE")],
        ] {
            assert_eq!(load(settings), Ok(None), "{settings:?}");
        }
    }

    #[test]
    fn the_variables_of_the_standard_are_read() {
        let config = load(&[
            COLLECTOR,
            (PROTOCOL, "http/protobuf"),
            (HEADERS, "authorization=Bearer%20canary, x-tenant = a "),
            (TIMEOUT, "250"),
            (METRICS_EVERY, "5000"),
            (ATTRIBUTES, "deployment.environment.name=prod,service.name=other,a=b%2Cc"),
            (SERVICE_NAME, "gate"),
        ]);
        let config = config.unwrap().unwrap();
        assert_eq!(config.endpoint, "http://127.0.0.1:4318/");
        assert_eq!(config.headers[0].1, "Bearer canary");
        assert_eq!(config.headers[1].1, "a");
        assert!(!format!("{config:?}").contains("canary"), "{config:?}");
        assert_eq!(config.timeout, Duration::from_millis(250));
        assert_eq!(config.metrics_every, Some(Duration::from_secs(5)));
        assert_eq!(config.traces, Some(Sampling::default()));
        let resource: Vec<_> = config.resource.iter().map(|(k, v)| (&**k, &**v)).collect();
        let expected =
            [("service.name", "gate"), ("deployment.environment.name", "prod"), ("a", "b,c")];
        assert_eq!(resource, expected);
    }

    #[test]
    fn the_settings_of_tollgate_come_first() {
        let config = load(&[
            COLLECTOR,
            ("TOLLGATE_OTLP_ENDPOINT", "https://c.example/otlp"),
            ("TOLLGATE_OTLP_SAMPLE", "0.25"),
            (SAMPLER, "always_off"),
        ]);
        let config = config.unwrap().unwrap();
        assert_eq!(config.endpoint, "https://c.example/otlp");
        let sampling = Sampling { millionths: 250_000, follows_parent: true };
        assert_eq!(config.traces, Some(sampling));
    }

    #[test]
    fn every_sampler_of_the_standard_is_known() {
        for (sampler, arg, millionths, follows_parent) in [
            ("always_on", "", 1_000_000, false),
            ("always_off", "", 0, false),
            ("traceidratio", "", 1_000_000, false),
            ("traceidratio", "0.1", 100_000, false),
            ("parentbased_always_on", "0.5", 1_000_000, true),
            ("parentbased_always_off", "", 0, true),
            ("parentbased_traceidratio", "0.000001", 1, true),
        ] {
            let config = load(&[COLLECTOR, (SAMPLER, sampler), (SAMPLER_ARG, arg)]);
            let sampling = Sampling { millionths, follows_parent };
            assert_eq!(config.unwrap().unwrap().traces, Some(sampling), "{sampler} {arg}");
        }
    }

    #[test]
    fn a_signal_can_be_left_out() {
        let config = load(&[COLLECTOR, (TRACES, "none")]).unwrap().unwrap();
        assert!(config.traces.is_none() && config.metrics_every.is_some());
        let config = load(&[COLLECTOR, (METRICS, "none")]).unwrap().unwrap();
        assert!(config.traces.is_some() && config.metrics_every.is_none());
    }

    #[test]
    fn an_error_names_the_setting_the_problem_and_what_is_accepted() {
        for (name, value, problem) in [
            ("TOLLGATE_OTLP_ENDPOINT", "http://a b", "is not a URL"),
            ("TOLLGATE_OTLP_ENDPOINT", "127.0.0.1:4318", "does not begin with http"),
            ("TOLLGATE_OTLP_ENDPOINT", "grpc://c:4317", "does not begin with http"),
            ("TOLLGATE_OTLP_ENDPOINT", "http://c:65536", "has a port that is not 0 to 65535"),
            ("TOLLGATE_OTLP_ENDPOINT", "http://c:", "has a port that is not 0 to 65535"),
            ("TOLLGATE_OTLP_ENDPOINT", "http://[::1]:99999/a", "has a port that is not 0 to 65535"),
            ("TOLLGATE_OTLP_ENDPOINT", "http://canary:canary@c", "has a user"),
            ("TOLLGATE_OTLP_ENDPOINT", "http://c/?a=canary", "has a query"),
            ("TOLLGATE_OTLP_SAMPLE", "1.5", "is not accepted"),
            (PROTOCOL, "grpc", "is not accepted"),
            (HEADERS, "canary", "is not a list of header fields"),
            (HEADERS, "a b=canary", "is not a list of header fields"),
            (TIMEOUT, "0", "is not accepted"),
            (METRICS_EVERY, "1", "is not accepted"),
            (ATTRIBUTES, "a", "is not a list of attributes"),
            (SAMPLER, "jaeger_remote", "is not accepted"),
            (SAMPLER_ARG, "ten", "is not accepted"),
            (TRACES, "zipkin", "is not accepted"),
            (DISABLED, "yes", "is not accepted"),
        ] {
            let error = load(&[COLLECTOR, (name, value)]).unwrap_err();
            let is_whole = error.starts_with(&format!("{name}: "))
                && error.contains(problem)
                && error.contains("; accepted: ")
                && !error.contains("canary");
            assert!(is_whole, "{name}={value}: {error}");
        }
        let error = load(&[("TOLLGATE_OTLP_SAMPLE", "0.5")]).unwrap_err();
        assert!(error.contains("without a collector"), "{error}");
    }
}
