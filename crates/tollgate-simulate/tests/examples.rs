//! The policy sets in `examples/policies` decide as the documents say that they are from.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use tollgate_catalog::policy_file;
use tollgate_core::{Amount, Check, Cost, PolicySet, Subject, Timestamp, Unit};
use tollgate_simulate::Replay;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

fn example(name: &str) -> PolicySet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies").join(name);
    policy_file::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks of one set of policies in virtual time.
struct Session<'p> {
    replay: Replay<'p>,
    now: Timestamp,
    decisions: usize,
}

impl<'p> Session<'p> {
    fn new(policies: &'p PolicySet) -> Self {
        Self { replay: Replay::new(policies), now: Timestamp::from_ms(1), decisions: 0 }
    }

    fn wait(&mut self, seconds: u64) {
        let passed = u64::try_from(Duration::from_secs(seconds).as_nanos()).unwrap();
        self.now = Timestamp::from_ns(self.now.as_ns() + passed);
    }

    /// The policy that denies a check of `attributes` at `cost`; empty if it is allowed.
    fn check(&mut self, attributes: &str, cost: &[(&str, u64)]) -> String {
        let mut subject = Subject::empty();
        for (name, value) in attributes.split_whitespace().map(|one| one.split_once('=').unwrap()) {
            subject.set_named(name, value);
        }
        let mut amounts = Cost::one_request();
        for (unit, amount) in cost {
            amounts.set(Unit::parse(unit).unwrap(), Amount::new(*amount).unwrap());
        }
        self.replay.advance_to(self.now);
        let check = Check::of(subject).at_cost(amounts);
        let (_, decision) = self.replay.decide(&check);
        self.decisions += 1;
        if decision.allowed() {
            return String::new();
        }
        decision.headline().unwrap().limit.policy_id().as_str().to_owned()
    }

    /// Asserts that `count` checks are allowed, and that the next one is denied by `policy`.
    fn admits(&mut self, count: u64, attributes: &str, cost: &[(&str, u64)], policy: &str) {
        for number in 0..count {
            assert_eq!(self.check(attributes, cost), "", "{attributes}, number {number}");
        }
        assert_eq!(self.check(attributes, cost), policy, "{attributes}, after {count}");
    }

    fn allows(&mut self, attributes: &str, cost: &[(&str, u64)]) {
        assert_eq!(self.check(attributes, cost), "", "{attributes}");
    }
}

#[test]
fn envoys_example() {
    let policies = example("envoy-ratelimit.yaml");
    let mut session = Session::new(&policies);
    // 5 marketing messages a day to a number; another number and another kind of message have their own.
    let marketing = "domain=messaging message_type=marketing to_number=1";
    session.admits(5, marketing, &[], "messaging/marketing");
    session.allows("domain=messaging message_type=marketing to_number=2", &[]);
    session.allows("domain=messaging message_type=news to_number=1", &[]);
    session.admits(100, "domain=messaging to_number=1", &[], "messaging/number");
    session.wait(DAY);
    session.admits(5, marketing, &[], "messaging/marketing");
    // Addresses.
    session.admits(10, "domain=edge ip=198.51.100.1", &[], "edge/address");
    session.admits(20, "domain=edge ip=192.0.2.10", &[], "edge/known-address");
    session.admits(0, "domain=edge ip=192.0.2.66", &[], "edge/banned-address");
    session.wait(1);
    session.admits(10, "domain=edge ip=198.51.100.1", &[], "edge/address");
    // Shadow mode never denies.
    session.admits(1, "domain=shadow foo=f baz=b", &[], "shadow/foo-baz");
    for _ in 0..10 {
        session.allows("domain=shadow foo=f baz=shady", &[]);
    }
    // Another domain has no limits.
    session.allows("domain=other ip=192.0.2.66", &[]);
    assert!(session.decisions >= 10);
}

#[test]
fn litellms_keys_and_teams() {
    let policies = example("litellm.yaml");
    let mut session = Session::new(&policies);
    // The key's requests, whichever the model; then its limit for one model.
    session.admits(60, "apiKey=mobile model=small", &[], "key/mobile/rpm");
    session.wait(MINUTE);
    session.admits(5, "apiKey=mobile model=gpt-4o", &[], "key/mobile/gpt-4o/rpm");
    session.allows("apiKey=mobile model=small", &[]);
    // Tokens of the key.
    session.wait(MINUTE);
    session.allows("apiKey=mobile model=small", &[("tokens", 9_000)]);
    session.admits(1, "apiKey=mobile model=small", &[("tokens", 1_000)], "key/mobile/tpm");
    session.admits(0, "apiKey=lost model=small", &[], "key/lost/blocked");
    session.allows("apiKey=other model=small", &[]);
    // A member of the team, then the team.
    session.wait(MINUTE);
    session.admits(20, "tenant=research user=bob model=small", &[], "team/research/member-rpm");
    for user in ["c", "d", "e", "f"] {
        for _ in 0..20 {
            session.allows(&format!("tenant=research user={user} model=small"), &[]);
        }
    }
    session.admits(0, "tenant=research user=g model=small", &[], "team/research/rpm");
    session.allows("tenant=sales user=g model=small", &[]);
    session.wait(MINUTE);
    session.admits(
        1,
        "tenant=research user=bob model=small",
        &[("tokens", 50_000)],
        "team/research/tpm",
    );
    // A user, and the deployments of a model.
    session.admits(1, "user=ann model=small", &[("tokens", 4_000)], "user/ann/tpm");
    session.wait(MINUTE);
    session.admits(30, "user=zoe model=gpt-4o", &[], "model/gpt-4o/rpm");
    assert!(session.decisions >= 10);
}

/// Tier, model, name in ids, requests a minute, requests a day, tokens a minute.
type Row = (&'static str, &'static str, &'static str, u64, Option<u64>, u64);

/// RPM, RPD and TPM of each tier: the documents' rows.
#[test]
fn openais_usage_tiers() {
    let policies = example("openai-tiers.yaml");
    let rows: [Row; 10] = [
        ("free", "gpt-3.5-turbo", "gpt-3.5", 3, Some(200), 40_000),
        ("tier-1", "gpt-4o", "gpt-4o", 500, None, 30_000),
        ("tier-1", "gpt-4o-mini", "gpt-4o-mini", 500, Some(10_000), 200_000),
        ("tier-1", "gpt-3.5-turbo-0125", "gpt-3.5", 3_500, Some(10_000), 200_000),
        ("tier-2", "gpt-4o", "gpt-4o", 5_000, None, 450_000),
        ("tier-2", "gpt-4o-mini", "gpt-4o-mini", 5_000, None, 2_000_000),
        ("tier-2", "gpt-3.5-turbo", "gpt-3.5", 3_500, None, 2_000_000),
        ("tier-3", "gpt-4o", "gpt-4o", 5_000, None, 800_000),
        ("tier-3", "gpt-4o-mini", "gpt-4o-mini", 5_000, None, 4_000_000),
        ("tier-3", "gpt-3.5-turbo", "gpt-3.5", 3_500, None, 4_000_000),
    ];
    for (tier, model, name, rpm, rpd, tpm) in rows {
        let mut session = Session::new(&policies);
        let check = format!("tenant=acme tier={tier} model={model}");
        // Many small requests meet RPM, and few large ones TPM.
        session.admits(rpm, &check, &[("tokens", 1)], &format!("{tier}/{name}/rpm"));
        session.allows(&format!("tenant=other tier={tier} model={model}"), &[("tokens", 1)]);
        session.wait(MINUTE);
        session.admits(1, &check, &[("tokens", tpm)], &format!("{tier}/{name}/tpm"));
        let mut used = rpm + 1;
        if let Some(rpd) = rpd {
            while used < rpd {
                session.wait(MINUTE);
                let now = rpm.min(rpd - used);
                for _ in 0..now {
                    session.allows(&check, &[]);
                }
                used += now;
            }
            session.wait(MINUTE);
            assert_eq!(session.check(&check, &[]), format!("{tier}/{name}/rpd"));
            session.wait(DAY);
            session.allows(&check, &[]);
        }
        // A model that is not for the tier.
        assert_eq!(
            session.check(&format!("tenant=acme tier={tier} model=gpt-9"), &[]),
            "not-in-tier"
        );
    }
}

#[test]
fn githubs_rest_api() {
    let policies = example("github-rest.yaml");
    let mut session = Session::new(&policies);
    let get = [("points", 1)];
    // Primary limits, spread so that no secondary one is met.
    let mut primary = |count: u64, attributes: &str, policy: &str| {
        for number in 0..count {
            if number > 0 && number % 400 == 0 {
                session.wait(MINUTE);
            }
            assert_eq!(session.check(attributes, &get), "", "{attributes}, number {number}");
        }
        assert_eq!(session.check(attributes, &get), policy, "{attributes}, after {count}");
        session.wait(HOUR);
        session.allows(attributes, &get);
    };
    primary(60, "ip=203.0.113.1", "anonymous");
    primary(60, "ip=203.0.113.2", "anonymous");
    primary(5_000, "user=octocat ip=203.0.113.1 credential=token", "user");
    primary(15_000, "user=mona credential=token plan=enterprise-cloud", "user-enterprise");
    primary(5_000, "installation=7 credential=installation", "installation");
    primary(
        15_000,
        "installation=8 credential=installation plan=enterprise-cloud",
        "installation-enterprise",
    );
    primary(1_000, "repository=acme/site credential=actions", "actions");
    primary(
        15_000,
        "repository=acme/app credential=actions plan=enterprise-cloud",
        "actions-enterprise",
    );
    // Secondary limits: 900 points a minute, of which a request that changes something takes 5.
    session.wait(HOUR);
    session.admits(180, "user=writer credential=token", &[("points", 5)], "points");
    session.wait(MINUTE);
    session.admits(900, "user=writer credential=token", &get, "points");
    session.wait(HOUR);
    // Content: 80 a minute, 500 an hour.
    let content = [("points", 5), ("content", 1)];
    for _ in 0..6 {
        session.admits(80, "user=author credential=token", &content, "content-minute");
        session.wait(MINUTE);
    }
    session.admits(20, "user=author credential=token", &content, "content-hour");
    assert!(session.decisions >= 10);
}
