//! The command line.

use std::path::PathBuf;

/// The usage message.
pub const USAGE: &str =
    "usage: tollgate-bench keyed|memory|leases|snapshots|policies|http|grpc|redis|memcached|split|http-redis|http-catalog|telemetry|outage|gateway|gateway-peers|all [--rounds N] [--seconds N] [--json FILE] [--before PROGRAM] [--peers DIR]
  --rounds N    interleaved rounds, 5 or more for figures to be quoted (default 7)
  --seconds N   how long an outage lasts, 60 for figures to be quoted (default 60)
  --json FILE   also write every sample to FILE
  --before PROGRAM  also measure this `tollgate`, which was built before telemetry (telemetry only)
  --peers DIR   where `scripts/setup gateway-peers` has installed the peers (gateway-peers only, which `all` leaves out; default:
                the folder that this program was built in)";

const MAX_ROUNDS: u32 = 1_000;
const MAX_SECONDS: u32 = 3_600;

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Benchmark {
    /// [`crate::keyed`].
    Keyed,
    /// [`crate::memory`].
    Memory,
    /// [`crate::leases`].
    Leases,
    /// [`crate::snapshots`].
    Snapshots,
    /// [`crate::policies`].
    Policies,
    /// [`crate::http`].
    Http,
    /// [`crate::grpc`].
    Grpc,
    /// [`crate::redis`].
    Redis,
    /// [`crate::memcached`].
    Memcached,
    /// [`crate::split`].
    Split,
    /// [`crate::http::over_redis`].
    HttpRedis,
    /// [`crate::http::over_catalog`].
    HttpCatalog,
    /// [`crate::http::telemetry`].
    Telemetry,
    /// [`crate::http::outage`].
    Outage,
    /// [`crate::gateway`].
    Gateway,
    /// [`crate::gateway::peers`].
    GatewayPeers,
}

impl Benchmark {
    const ALL: [(&'static str, Self); 16] = [
        ("keyed", Self::Keyed),
        ("memory", Self::Memory),
        ("leases", Self::Leases),
        ("snapshots", Self::Snapshots),
        ("policies", Self::Policies),
        ("http", Self::Http),
        ("grpc", Self::Grpc),
        ("redis", Self::Redis),
        ("memcached", Self::Memcached),
        ("split", Self::Split),
        ("http-redis", Self::HttpRedis),
        ("http-catalog", Self::HttpCatalog),
        ("telemetry", Self::Telemetry),
        ("outage", Self::Outage),
        ("gateway", Self::Gateway),
        ("gateway-peers", Self::GatewayPeers),
    ];
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// `None`: all.
    benchmark: Option<Benchmark>,
    /// Interleaved rounds.
    pub rounds: u32,
    /// How long an outage lasts.
    pub seconds: u32,
    /// The file for all samples.
    pub json: Option<PathBuf>,
    /// A `tollgate` that was built before telemetry.
    pub before: Option<PathBuf>,
    /// The folder of the peers.
    pub peers: Option<PathBuf>,
}

impl Options {
    /// Whether `benchmark` was requested. Peers need an installation of their own, so they must be named.
    pub fn runs(&self, benchmark: Benchmark) -> bool {
        self.benchmark.map_or(benchmark != Benchmark::GatewayPeers, |only| only == benchmark)
    }

    /// Parses the arguments after the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let name = arguments.next().ok_or("no benchmark is named")?;
        let benchmark = match Benchmark::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, benchmark)) => Some(*benchmark),
            None if name == "all" => None,
            None => return Err(format!("there is no benchmark {name:?}")),
        };
        let mut options =
            Self { benchmark, rounds: 7, seconds: 60, json: None, before: None, peers: None };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} takes a value"));
            match flag.as_str() {
                "--rounds" => options.rounds = parse_count(&flag, &value()?, MAX_ROUNDS)?,
                "--seconds" => options.seconds = parse_count(&flag, &value()?, MAX_SECONDS)?,
                "--before" => options.before = Some(value()?.into()),
                "--peers" if benchmark == Some(Benchmark::GatewayPeers) => {
                    options.peers = Some(folder(&flag, &value()?)?);
                }
                "--peers" => return Err("--peers is for gateway-peers only".to_owned()),
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(format!("there is no flag {flag:?}")),
            }
        }
        Ok(options)
    }
}

fn folder(flag: &str, text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err(format!("{flag} {text}: is not a folder")) }
}

fn parse_count(flag: &str, text: &str, most: u32) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| format!("{flag} {text}: accepted are 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_read() {
        let options = parse("keyed --rounds 9 --json out.json").unwrap();
        assert!(options.runs(Benchmark::Keyed));
        assert_eq!((options.rounds, options.json), (9, Some("out.json".into())));
        assert_eq!(parse("outage --seconds 5").unwrap().seconds, 5);
        let all = parse("all").unwrap();
        assert_eq!((all.rounds, all.seconds), (7, 60));
        assert!(all.runs(Benchmark::Gateway) && !all.runs(Benchmark::GatewayPeers));
        let peers = parse("gateway-peers --peers /").unwrap();
        assert!(peers.runs(Benchmark::GatewayPeers) && !peers.runs(Benchmark::Gateway));
        assert_eq!(peers.peers, Some("/".into()));
    }

    #[test]
    fn a_wrong_command_line_is_named() {
        for (line, problem) in [
            ("", "no benchmark is named"),
            ("fast", "there is no benchmark \"fast\""),
            ("all --rounds 0", "--rounds 0: accepted are 1 to 1000"),
            ("outage --seconds 3601", "--seconds 3601: accepted are 1 to 3600"),
            ("all --rounds", "--rounds takes a value"),
            ("gateway --peers /", "--peers is for gateway-peers only"),
            ("gateway-peers --peers /no/folder", "--peers /no/folder: is not a folder"),
            ("all --turbo", "there is no flag \"--turbo\""),
        ] {
            assert_eq!(parse(line), Err(problem.to_owned()), "{line:?}");
        }
    }
}
