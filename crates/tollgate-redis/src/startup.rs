//! Examines the store at the start: problems that only a wrong configuration can cause, and settings that endanger
//! exact limits.

use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;
use tollgate_store::{StartProblem, StoreError, StoreErrorKind, Warning};

use crate::call::{Answered, Invocation, Progress};
use crate::errors::with_remedy;
use crate::examiner::{Examiner, Place, misconfigured, unavailable};
use crate::hello::Hello;
use crate::key::slot;
use crate::link::{Failure, Link};
use crate::rights::{lacks, load_probe, probe, probe_arguments, probe_key};
use crate::script::PROBE;
use crate::store::RedisStore;
use crate::url::{Deployment, Transport, shown};

/// How long a server may take for its first answer; longer if calls may take longer. Including everything else, a
/// server whose Redis is unavailable starts within 2 s (P14).
const FIRST_ANSWER: Duration = Duration::from_millis(1_300);
/// The same over TLS. A server without TLS waits for the rest of a command, and only the connection's timeout ends
/// this; then it is asked without TLS.
const FIRST_ANSWER_TLS: Duration = Duration::from_millis(1_800);
/// How long a server that has answered may take for the rest.
const REST: Duration = Duration::from_secs(10);
/// The time between two attempts to reach a primary of a Cluster, because connections are made at a bounded pace.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// The most keys that are tried to find one in the right place: a primary may own few slots.
const MAX_PROBE_KEYS: u32 = 1_000_000;

/// How long one answer may take here. This is not the deadline of a check, because no check waits for it: if the
/// machine is too busy for that deadline, Redis must not be reported as unreachable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisStore {
    /// Examines one server of the URL and one primary: whether they are of the kind that the URL says, accept this
    /// node's login and grant the rights that it needs. Ends within about two seconds if nobody answers, and leaves
    /// nothing behind.
    pub async fn check_start(&self) -> Result<(), StartProblem> {
        self.look().await.map(|_| ())
    }

    /// Examines every primary in the same way, and checks for settings that endanger exact limits.
    ///
    /// The latter needs the right to `INFO`; without it, there is a warning that it could not be checked.
    pub async fn examine(&self) -> Result<Vec<Warning>, StartProblem> {
        let hello = self.look().await?;
        let mut warnings = Vec::new();
        if hello.is_too_old() {
            let problem = format!("this is Redis {}; accepted: 7.0 or later", hello.version);
            warnings.push(Warning::new(problem));
        }
        for (slot, link) in self.topology.primaries_with_slots().await? {
            self.rights(&link, slot).await?;
            warnings.extend(self.eviction(&link).await?);
        }
        Ok(warnings)
    }

    async fn look(&self) -> Result<Hello, StartProblem> {
        let speaks_tls = matches!(self.examiner.url.transport, Transport::Tls(_));
        let first = if speaks_tls { FIRST_ANSWER_TLS } else { FIRST_ANSWER };
        let until = Instant::now() + first.max(self.deadline);
        let hello = self.look_at_seeds(until).await?;
        let rest = async {
            let primaries = self.topology.primaries_with_slots().await?;
            let (slot, primary) =
                primaries.first().ok_or_else(|| unavailable("Redis has no primary".to_owned()))?;
            if matches!(self.examiner.url.deployment, Deployment::Sentinel { .. }) {
                self.greet(primary, &self.examiner.data_node(primary), until).await?;
            }
            self.rights(primary, *slot).await?;
            self.hearing(primary).await
        };
        in_time(rest, Instant::now() + REST, "Redis").await?;
        Ok(hello)
    }

    /// The first server of the URL without a problem; otherwise the problem of one of them.
    async fn look_at_seeds(&self, until: Instant) -> Result<Hello, StartProblem> {
        let seeds = self.topology.seeds();
        let mut problem: Option<StartProblem> = None;
        for (index, link) in seeds.iter().enumerate() {
            // Each server gets its part of the remaining time.
            let now = Instant::now();
            let left = u32::try_from(seeds.len() - index).unwrap_or(u32::MAX);
            let until = now + until.saturating_duration_since(now) / left;
            match self.look_at_seed(link, until).await {
                Ok(hello) => return Ok(hello),
                Err(found @ StartProblem::Misconfigured(_)) => problem = Some(found),
                Err(found) => problem = problem.or(Some(found)),
            }
        }
        Err(problem.unwrap_or_else(|| unavailable("the URL of Redis has no host".to_owned())))
    }

    async fn look_at_seed(&self, link: &Arc<Link>, until: Instant) -> Result<Hello, StartProblem> {
        let place = self.examiner.seed(link);
        let hello = self.greet(link, &place, until).await?;
        let rest = async {
            match &self.examiner.url.deployment {
                Deployment::Single if hello.is_replica => Err(unavailable(format!(
                    "{place} is a replica, which takes no writes; name the primary, or its Sentinels"
                ))),
                Deployment::Single => Ok(()),
                Deployment::Sentinel { master } => self.master_is_known(link, &place, master).await,
                Deployment::Cluster => {
                    let mut slots = redis::cmd("CLUSTER");
                    slots.arg("SLOTS");
                    self.examiner.ask::<Value>(link, &place, "cluster|slots", &slots).await?;
                    self.asking(link, &place).await
                }
            }
        };
        in_time(rest, Instant::now() + REST, &place.to_string()).await?;
        Ok(hello)
    }

    async fn greet(
        &self,
        link: &Arc<Link>,
        place: &Place<'_>,
        until: Instant,
    ) -> Result<Hello, StartProblem> {
        in_time(self.examiner.greet(link, place), until, &place.to_string()).await
    }

    async fn master_is_known(
        &self,
        link: &Arc<Link>,
        place: &Place<'_>,
        master: &str,
    ) -> Result<(), StartProblem> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(master);
        let name = "sentinel|get-master-addr-by-name";
        let known: Option<Vec<String>> = self.examiner.ask(link, place, name, &command).await?;
        if known.is_some() {
            return Ok(());
        }
        let mut command = redis::cmd("SENTINEL");
        command.arg("masters");
        // Without the right to ask, list no masters.
        let masters: Vec<Value> = link.query(&command).await.unwrap_or_default();
        let names: Vec<_> = masters.iter().filter_map(name_of_master).collect();
        let remedy = if names.is_empty() {
            "name one that it monitors after the hosts: /MASTER".to_owned()
        } else {
            format!("it knows: {}", names.join(", "))
        };
        Err(misconfigured(format!("{place} monitors no master called {master:?}"), remedy))
    }

    /// `ASKING` applies to the next command, so a command that does nothing follows it.
    async fn asking(&self, link: &Arc<Link>, place: &Place<'_>) -> Result<(), StartProblem> {
        let asking = [redis::cmd("ASKING")];
        match link.query_after(&asking, &redis::cmd("PING")).await {
            Ok(()) => Ok(()),
            Err(Failure::NotSent(error)) => Err(error.into()),
            Err(Failure::Redis(error)) => {
                let name = if error.to_string().contains("'ping'") { "ping" } else { "asking" };
                Err(self.examiner.refused(place, name, &error))
            }
        }
    }

    /// Tries everything that the scripts do, on an unused key in `slot`.
    async fn rights(&self, link: &Arc<Link>, slot: u16) -> Result<(), StartProblem> {
        let place = self.examiner.data_node(link);
        let key = self.probe_key(slot);
        let mut missing = Vec::new();
        // Always load it, because a known script would not show whether the user may load the others.
        let load = load_probe();
        let until = Instant::now() + REST;
        loop {
            match link.query_within::<Value>(ANSWER_TIMEOUT, &load).await {
                Ok(_) => break,
                Err(Failure::Redis(error)) => {
                    missing.push(self.examiner.lack(&place, "script|load", &error)?);
                    break;
                }
                Err(Failure::NotSent(error)) if Instant::now() >= until => return Err(error.into()),
                // In a Cluster with many primaries, connections wait for their turn.
                Err(Failure::NotSent(_)) => tokio::time::sleep(RETRY_EVERY).await,
            }
        }
        let probe = probe(&key, &self.channel());
        match link.query_within::<Vec<String>>(ANSWER_TIMEOUT, &probe).await {
            Ok(answer) => {
                let (lacks, unknown) = lacks(&answer);
                if !unknown.is_empty() {
                    return Err(Examiner::unknown_commands(&place, &unknown));
                }
                missing.extend(lacks);
            }
            Err(Failure::NotSent(error)) => return Err(error.into()),
            // Loading it has failed.
            Err(Failure::Redis(error)) if is_no_script(&error) && !missing.is_empty() => {}
            Err(Failure::Redis(error)) => {
                missing.push(self.examiner.lack(&place, "evalsha", &error)?);
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(self.examiner.lacking(&place, &missing)) }
    }

    /// Tries every command of the scripts on `key`, which only probes use, on the server that owns its slot. Fails if the
    /// user may not run one of them, or the server does not know it.
    pub(crate) async fn try_commands(&self, key: &str) -> Result<(), StoreError> {
        let arguments = probe_arguments(key, &self.channel());
        let keys = [key];
        let invocation = Invocation {
            script: Some(&PROBE),
            slot: slot(key),
            keys: &keys,
            operation: None,
            arguments: &arguments,
            deadline: None,
        };
        let progress = Progress::default();
        let tracked = [&progress];
        let call = self.invoke::<Vec<String>>(&invocation, &tracked);
        let Answered { answer, link, .. } = self.in_time(&progress, false, call).await?;
        let place = self.examiner.data_node(&link);
        let (lacks, unknown) = lacks(&answer);
        let (kind, problem) = if !unknown.is_empty() {
            (StoreErrorKind::Unsupported, Examiner::unknown_commands(&place, &unknown))
        } else if !lacks.is_empty() {
            (StoreErrorKind::Forbidden, self.examiner.lacking(&place, &lacks))
        } else {
            return Ok(());
        };
        Err(with_remedy(StoreError::new(kind, problem.to_string()).within(link.domain)))
    }

    /// An unused key, in `slot` if it matters.
    fn probe_key(&self, wanted: u16) -> String {
        let prefix = &self.keys.prefix;
        let mut keys = (0..MAX_PROBE_KEYS).map(|number| probe_key(prefix, number));
        let fits = |key: &String| !self.topology.is_cluster() || slot(key) == wanted;
        keys.find(fits).unwrap_or_else(|| probe_key(prefix, 0))
    }

    /// Checks the right to receive announcements of other nodes.
    async fn hearing(&self, link: &Arc<Link>) -> Result<(), StartProblem> {
        let place = self.examiner.data_node(link);
        match self.examiner.subscribe(&place, &self.channel()).await {
            // If anything else is wrong, the subscription reports it.
            Err(error) if error.code().is_some() => {
                Err(self.examiner.refused(&place, "subscribe", &error))
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the server would evict limits in force.
    async fn eviction(&self, link: &Arc<Link>) -> Result<Option<Warning>, StartProblem> {
        let place = format!("Redis at {}", shown(&link.address));
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let text: String = match link.query_within(ANSWER_TIMEOUT, &info).await {
            Ok(text) => text,
            Err(Failure::NotSent(error)) => return Err(error.into()),
            Err(Failure::Redis(error)) => {
                let problem = format!("{place} does not say whether it evicts keys: {error}");
                return Ok(Some(Warning::new(problem)));
            }
        };
        let policy = field(&text, "maxmemory_policy").unwrap_or("noeviction");
        if policy == "noeviction" {
            return Ok(None);
        }
        let when = match field(&text, "maxmemory") {
            Some("0") => "once maxmemory is set and reached",
            _ => "when its maxmemory is reached",
        };
        Ok(Some(Warning::new(format!(
            "{place} has maxmemory-policy {policy}: {when}, it evicts the usage of limits in force; accepted: noeviction"
        ))))
    }
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// A field of an answer of `INFO`.
pub(crate) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(known, _)| *known == name).map(|(_, value)| value.trim())
}

fn name_of_master(master: &Value) -> Option<String> {
    let fields: Vec<String> = redis::from_redis_value_ref(master).ok()?;
    fields.chunks_exact(2).find(|field| field[0] == "name").map(|field| field[1].clone())
}

/// `look`, with a timeout.
async fn in_time<T>(
    look: impl Future<Output = Result<T, StartProblem>>,
    until: Instant,
    place: &str,
) -> Result<T, StartProblem> {
    match tokio::time::timeout_at(until, look).await {
        Ok(found) => found,
        Err(_) => Err(unavailable(format!("{place} did not answer in time"))),
    }
}
