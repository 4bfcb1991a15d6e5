//! The limits under load, and the checks that meet them. Every subject requests more than its limit.

use std::time::Duration;

/// A policy of the soak; each counts per subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    /// A short log, cost 1, per API key.
    Key,
    /// A log of entries with a weight, per tenant.
    Tokens,
    /// A counter, per service.
    Counter,
    /// A long log, of one model.
    Model,
}

impl Limit {
    pub(crate) const ALL: [Self; 4] = [Self::Key, Self::Tokens, Self::Counter, Self::Model];

    /// The same as in `policies`.
    pub(crate) const fn amount(self) -> u64 {
        match self {
            Self::Key => 20,
            Self::Tokens => 2_000,
            Self::Counter => 300,
            Self::Model => 1_500,
        }
    }

    pub(crate) const fn window(self) -> Duration {
        match self {
            Self::Key => Duration::from_secs(10),
            _ => LONGEST_WINDOW,
        }
    }

    /// The most that any interval of a window's length may hold (P1).
    pub(crate) const fn most_in_a_window(self) -> u64 {
        match self {
            Self::Counter => 2 * self.amount() - 1,
            _ => self.amount(),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Key => "per-key log",
            Self::Tokens => "weighted log",
            Self::Counter => "counter",
            Self::Model => "long log",
        }
    }

    const fn id(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tokens => "tokens",
            Self::Counter => "counter",
            Self::Model => "model",
        }
    }

    /// The fields of the policy besides its id, its limit and its window.
    const fn conditions(self) -> &'static str {
        match self {
            Self::Key => "per: [apiKey]",
            Self::Tokens => "per: [tenant], unit: tokens",
            Self::Counter => "per: [service], algorithm: sliding_window_counter",
            Self::Model => "per: [model], match: {model: big}",
        }
    }
}

pub(crate) const LONGEST_WINDOW: Duration = Duration::from_secs(30);

/// The document with all policies.
pub(crate) fn policies() -> String {
    let policy = |limit: Limit| {
        format!(
            "  - {{id: {}, {}, limit: {}, windowSeconds: {}}}\n",
            limit.id(),
            limit.conditions(),
            limit.amount(),
            limit.window().as_secs()
        )
    };
    format!("policies:\n{}", Limit::ALL.map(policy).concat())
}

/// A charge of one check: the limit, the subject and the amount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    pub(crate) limit: Limit,
    pub(crate) subject: u8,
    pub(crate) cost: u32,
}

/// A check, and its charges if it is admitted.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) body: String,
    pub(crate) charges: Vec<Charge>,
}

const KEYS: u64 = 8;
const TENANTS: u64 = 4;
const SERVICES: u64 = 3;
const MOST_TOKENS: u64 = 40;
/// One check of this many has a request id, for which Redis keeps a separate key.
const WITH_ID: u64 = 10;

/// Draws checks: the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Draw {
    state: u64,
    name: u64,
    drawn: u64,
}

impl Draw {
    pub(crate) fn new(client: u64) -> Self {
        Self {
            state: client.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            name: client,
            drawn: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*: good enough to mix subjects.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub(crate) fn check(&mut self) -> Check {
        let mut charges = Vec::with_capacity(2);
        let mut charge = |limit, subject: u64, cost: u64| {
            charges.push(Charge {
                limit,
                subject: u8::try_from(subject).unwrap_or_default(),
                cost: u32::try_from(cost).unwrap_or_default(),
            });
        };
        let (key, tenant) = (self.below(KEYS), self.below(TENANTS));
        let (service, tokens) = (self.below(SERVICES), 1 + self.below(MOST_TOKENS));
        let (mut model, mut members) = ("small", Vec::new());
        let kind = self.below(5);
        if kind == 0 || kind == 4 {
            members.push(format!(r#","apiKey":"key-{key}""#));
            charge(Limit::Key, key, 1);
        }
        if kind == 1 || kind == 4 {
            members.push(format!(
                r#","tenantId":"t-{tenant}","cost":{{"requests":1,"tokens":{tokens}}}"#
            ));
            charge(Limit::Tokens, tenant, tokens);
        }
        if kind == 2 {
            members.push(format!(r#","service":"s-{service}""#));
            charge(Limit::Counter, service, 1);
        }
        if kind == 3 {
            model = "big";
            charge(Limit::Model, 0, 1);
        }
        self.drawn += 1;
        if self.drawn.is_multiple_of(WITH_ID) {
            members.push(format!(r#","requestId":"r-{}-{}""#, self.name, self.drawn));
        }
        let members = members.concat();
        let body = format!(r#"{{"userId":"u","modelId":"{model}"{members}}}"#);
        Check { body, charges }
    }
}
