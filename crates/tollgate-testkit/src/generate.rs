//! Random policies, checks and sequences of times. Everything is drawn from a few attributes, values and amounts, so
//! that policies overlap, keys collide and limits are reached often.

use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tollgate_core::{
    Accepted, Amount, Attribute, Check, Condition, Cost, Counting, Ipv6Prefix, Mode, OnExpire,
    OverLimit, Pattern, Per, Policy, PolicyId, PriorityClass, Reach, ReserveRule, ReserveRules,
    Share, Shares, Split, Subject, Timestamp, TokenKind, Unit, Visibility, Weight, Weights, Window,
    Zone,
};

use crate::Way;

/// A check that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedCheck {
    /// The attributes of its subject.
    pub attributes: Vec<(Attribute, String)>,
    /// Its cost.
    pub cost: Cost,
    /// Its priority class.
    pub priority: PriorityClass,
}

impl OwnedCheck {
    /// The check.
    pub fn as_check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        for (attribute, value) in &self.attributes {
            subject.set(attribute, value);
        }
        Check::of(subject).at_cost(self.cost.clone()).with_priority(self.priority)
    }
}

/// Ids whose order is not that of the policies, so that ties are broken by the id and not by the position.
const POLICY_IDS: [&str; 8] = ["m", "c", "x", "a", "q", "b", "z", "k"];

/// The values of every attribute but the address.
const VALUES: [&str; 2] = ["a", "b"];
/// The last three are in one network of 48 bits, the first two of them in one of 64.
const ADDRESSES: [&str; 5] =
    ["10.0.0.1", "10.0.1.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
/// What conditions compare with: more than one of them may match one value, more or less precisely.
const PATTERNS: [&str; 7] = ["a", "b", "c", "B", "a*", "A*", "*"];
const ADDRESS_PATTERNS: [&str; 5] = ["10.0.0.1", "10.0.0.0/24", "10.0.0.0/23", "0.0.0.0/0", "::/0"];

fn attributes() -> Vec<Attribute> {
    let region = Attribute::Custom("region".into());
    let built_in =
        [Attribute::User, Attribute::Model, Attribute::Tenant, Attribute::Tier, Attribute::Ip];
    built_in.into_iter().chain([region]).collect()
}

fn pers() -> Vec<Per> {
    let scopes = ["GLOBAL", "USER", "USER_MODEL", "TENANT", "MODEL", "IP"];
    scopes.iter().map(|scope| Per::from_scope(scope).unwrap()).collect()
}

/// Small amounts, or ones near 2^53 − 1 (R9), by an index of 0 to 7.
fn amount(index: u8, large: bool) -> Amount {
    let max = Amount::MAX.get();
    let largest = [0, 1, 2, max / 2, max / 2 + 1, max / 3, max - 1, max];
    let value = if large { largest[usize::from(index)] } else { u64::from(index) };
    Amount::new(value).unwrap()
}

/// A policy before its amounts and window are chosen.
#[derive(Clone, Debug)]
struct Shape {
    per: Per,
    ipv6_bits: u8,
    conditions: Vec<Condition>,
    ignore_case: bool,
    unit: Unit,
    weights: Weights,
    limit: Option<u8>,
    reach: Reach,
    shares: Shares,
    split: Option<Split>,
    stretch: Stretch,
    way: Way,
    zone: &'static str,
    mode: Mode,
    over_limit: OverLimit,
    on_expire: OnExpire,
    reserve: ReserveRules,
    visibility: Visibility,
    enabled: bool,
    /// One bit for each of the policies after it: whether it names it in `overrides`.
    overrides: u8,
}

/// The zones of calendars: one without changes, two that set their clocks by an hour and half an hour, one that is ahead of
/// UTC by three quarters of an hour and more.
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"];

/// The same way of counting; a calendar by the clocks of `zone`.
pub fn in_zone(zone: &str, counting: Counting) -> Counting {
    match counting {
        Counting::Calendar { calendar, .. } => {
            Counting::Calendar { calendar, zone: Zone::named(zone).unwrap() }
        }
        other => other,
    }
}

/// How a policy's window differs from those of the others.
#[derive(Clone, Copy, Debug)]
enum Stretch {
    Same,
    Half,
    Double,
    OneNsMore,
}

impl Shape {
    fn build(self, id: &str, base_ns: u64, large: bool) -> Policy {
        let window_ns = match self.stretch {
            Stretch::Same => base_ns,
            Stretch::Half => base_ns / 2,
            Stretch::Double => base_ns * 2,
            Stretch::OneNsMore => base_ns + 1,
        };
        let length = Duration::from_nanos(window_ns).clamp(Window::MIN, Window::MAX);
        let window = Window::new(length).unwrap();
        let counting = match (self.way, self.limit) {
            _ if self.unit == Unit::Concurrency => Counting::Concurrency,
            (Way::Bucket, Some(index @ 1..)) => {
                Counting::Bucket { window, refill: refill(index, large) }
            }
            (way, _) => in_zone(self.zone, way.over(window, Some(Amount::ZERO))),
        };
        Policy {
            id: PolicyId::new(id).unwrap(),
            ipv6_prefix: if self.per.attributes().contains(&Attribute::Ip) {
                Ipv6Prefix::new(self.ipv6_bits).unwrap()
            } else {
                Ipv6Prefix::default()
            },
            per: self.per,
            conditions: self.conditions,
            ignore_case: self.ignore_case,
            // Nothing else has kinds, and an exemption counts nothing.
            weights: match (&self.unit, self.limit) {
                (Unit::Tokens, Some(_)) => self.weights,
                _ => Weights::default(),
            },
            unit: self.unit,
            limit: self.limit.map(|index| bounded(counting, amount(index, large))),
            // A policy without a limit has no shares.
            shares: self.limit.map_or_else(Shares::default, |_| self.shares),
            split: self.split.filter(|split| {
                let limit = self.limit.map(|index| bounded(counting, amount(index, large)));
                can_be_split(*split, counting, limit) && self.over_limit == OverLimit::Deny
            }),
            counting,
            reach: match self.limit {
                Some(1..) => Reach::OwnWindow,
                Some(0) if self.reach == Reach::EveryLimit => Reach::EveryWindow,
                _ => self.reach,
            },
            // Chosen when all ids are known.
            overrides: Vec::new(),
            mode: self.mode,
            over_limit: match (counting, self.limit) {
                // Neither does an exemption record anything.
                (Counting::Concurrency, _) | (_, None) => OverLimit::Deny,
                _ => self.over_limit,
            },
            on_expire: match (counting, self.limit) {
                // Slots are free anyway, and an exemption holds nothing.
                (Counting::Concurrency, _) | (_, None) => OnExpire::Keep,
                _ => self.on_expire,
            },
            // An exemption reserves nothing.
            reserve: if self.limit.is_none() { ReserveRules::new() } else { self.reserve },
            visibility: self.visibility,
            on_store_error: None,
            enabled: self.enabled,
        }
    }
}

/// Whether nodes can take parts of such a limit.
fn can_be_split(split: Split, counting: Counting, limit: Option<Amount>) -> bool {
    let Counting::Log { window } = counting else { return false };
    Split::counted(window).is_some() && limit.is_some_and(|limit| split.divides(limit))
}

fn condition(attribute: Attribute) -> impl Strategy<Value = Condition> {
    let texts = if attribute == Attribute::Ip { &ADDRESS_PATTERNS[..] } else { &PATTERNS[..] };
    let parsed = {
        let attribute = attribute.clone();
        move |texts: Vec<&str>| {
            let patterns = texts.into_iter().map(|text| Pattern::parse(&attribute, text).unwrap());
            Accepted::AnyOf(patterns.collect())
        }
    };
    let accepted = prop_oneof![
        8 => subsequence(texts.to_vec(), 1..=2).prop_map(parsed),
        1 => Just(Accepted::Present),
        1 => Just(Accepted::Absent),
    ];
    accepted.prop_map(move |accepted| Condition { attribute: attribute.clone(), accepted })
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let number = prop_oneof![3 => Just(0_usize), 2 => Just(1), 2 => Just(2), 1 => Just(3)];
    number
        .prop_flat_map(|number| subsequence(attributes(), number))
        .prop_flat_map(|attributes| attributes.into_iter().map(condition).collect::<Vec<_>>())
}

/// Shares that do not decrease towards the more important classes; usually none at all.
fn shares() -> impl Strategy<Value = Shares> {
    let some =
        vec((select(PriorityClass::ALL.to_vec()), 0..=20_u32), 1..=3).prop_map(|mut given| {
            given.sort_by_key(|(class, _)| *class);
            let mut twentieths: Vec<_> = given.iter().map(|(_, twentieths)| *twentieths).collect();
            twentieths.sort_unstable();
            let mut shares = Shares::default();
            for ((class, _), twentieths) in given.into_iter().zip(twentieths) {
                shares.set(class, Share::of_millionths(twentieths * 50_000).unwrap());
            }
            shares
        });
    prop_oneof![2 => Just(Shares::default()), 1 => some]
}

/// How much leases reserve; usually nothing is said.
fn reserve() -> impl Strategy<Value = ReserveRules> {
    let rule = (0..=1_000_000_u32, 1..=50_u64, 0..=50_u64).prop_map(|(quantile, least, more)| {
        let (at_least, at_most) = (Amount::new(least).unwrap(), Amount::new(least + more).unwrap());
        ReserveRule { quantile: Share::of_millionths(quantile).unwrap(), at_least, at_most }
    });
    let units = subsequence(vec![Unit::Tokens, Unit::OutputTokens], 0..=2);
    let some = (units, rule)
        .prop_map(|(units, rule)| units.into_iter().map(|unit| (unit, rule)).collect());
    prop_oneof![4 => Just(ReserveRules::new()), 1 => some]
}

/// How much tokens of each kind count; often all the same.
pub fn weights() -> impl Strategy<Value = Weights> {
    let weight = select(vec![0, 1, 100, 333, 999, 1_000, 1_250, 4_000]);
    let kinds = subsequence(TokenKind::ALL.to_vec(), 1..=3);
    let some = kinds.prop_flat_map(move |kinds| {
        let given = vec(weight.clone(), kinds.len());
        given.prop_map(move |given| {
            let mut weights = Weights::default();
            for (kind, thousandths) in kinds.iter().zip(given) {
                weights.set(*kind, Weight::of_thousandths(thousandths).unwrap());
            }
            weights
        })
    });
    prop_oneof![2 => Just(Weights::default()), 1 => some]
}

/// Tokens of some kinds, up to `most`; often of none.
pub fn tokens_by_kind(most: u64) -> impl Strategy<Value = Vec<(Unit, Amount)>> {
    let number = prop_oneof![2 => Just(0_usize), 1 => 1..=3_usize];
    let kinds = number.prop_flat_map(|number| subsequence(TokenKind::ALL.to_vec(), number));
    kinds.prop_flat_map(move |kinds| {
        let amounts = vec((0..=most).prop_map(|amount| Amount::new(amount).unwrap()), kinds.len());
        amounts.prop_map(move |amounts| {
            kinds.iter().map(|kind| kind.unit()).zip(amounts).collect::<Vec<_>>()
        })
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let limit = prop_oneof![
        12 => (1..=7_u8).prop_map(Some),
        1 => Just(Some(0)),
        1 => Just(None),
    ];
    let stretch = select(vec![
        Stretch::Same,
        Stretch::Same,
        Stretch::Half,
        Stretch::Double,
        Stretch::OneNsMore,
    ]);
    let way = (select(Way::ALL.to_vec()), select(ZONES.to_vec()));
    let mode = prop_oneof![3 => Just(Mode::Enforce), 1 => Just(Mode::Shadow)];
    let over_limit = prop_oneof![3 => Just(OverLimit::Deny), 1 => Just(OverLimit::Charge)];
    let on_expire = prop_oneof![2 => Just(OnExpire::Keep), 1 => Just(OnExpire::Refund)];
    let mode = (mode, over_limit, on_expire, reserve());
    let enabled = prop_oneof![9 => Just(true), 1 => Just(false)];
    let unit = prop_oneof![
        3 => Just(Unit::Requests),
        2 => Just(Unit::Tokens),
        1 => Just(Unit::Concurrency),
    ];
    let unit = (unit, weights());
    let reach = select(vec![Reach::OwnWindow, Reach::EveryWindow, Reach::EveryLimit]);
    let split = prop_oneof![
        3 => Just(None),
        1 => (1..=50_u32).prop_map(|hundredths| {
            Split::new(Share::of_millionths(hundredths * 10_000).unwrap())
        }),
    ];
    let limit = (limit, shares(), split, reach);
    let conditions = (conditions(), any::<bool>());
    let overrides = prop_oneof![4 => Just(0_u8), 1 => any::<u8>()];
    let per = (select(pers()), select(vec![64_u8, 64, 48, 128]));
    let visibility = select(vec![Visibility::Public, Visibility::Private]);
    (per, conditions, unit, limit, (stretch, way), (mode, visibility), (enabled, overrides))
        .prop_map(
            |(
                (per, ipv6_bits),
                (conditions, ignore_case),
                unit,
                limit,
                (stretch, way),
                (mode, visibility),
                enabled,
            )| {
                let (limit, shares, split, reach) = limit;
                let (unit, weights) = unit;
                let (enabled, overrides) = enabled;
                let (way, zone) = way;
                let (mode, over_limit, on_expire, reserve) = mode;
                Shape {
                    per,
                    ipv6_bits,
                    conditions,
                    ignore_case,
                    unit,
                    weights,
                    limit,
                    reach,
                    shares,
                    split,
                    stretch,
                    way,
                    zone,
                    mode,
                    over_limit,
                    on_expire,
                    reserve,
                    visibility,
                    enabled,
                    overrides,
                }
            },
        )
}

/// What a token bucket gets back per window.
fn refill(index: u8, large: bool) -> Amount {
    let tokens =
        if large { amount(index, true).get() / 2 + 1 } else { u64::from(index) * 3 % 7 + 1 };
    Amount::new(tokens).unwrap()
}

/// As much of `limit` as a policy may have: a token bucket must be full in reasonable time, and together with its refill it
/// must be an amount.
fn bounded(counting: Counting, limit: Amount) -> Amount {
    let Some(refill) = counting.refill() else { return limit };
    let most = refill.get().saturating_mul(1_000).min(Amount::MAX.get() - refill.get());
    limit.min(Amount::new(most).unwrap())
}

fn build(shapes: Vec<Shape>, base_ns: u64, large: bool) -> Vec<Policy> {
    let overrides: Vec<u8> = shapes.iter().map(|shape| shape.overrides).collect();
    let named = shapes.into_iter().zip(POLICY_IDS);
    let mut policies: Vec<_> = named.map(|(shape, id)| shape.build(id, base_ns, large)).collect();
    for (index, bits) in overrides.into_iter().enumerate().take(policies.len()) {
        // Only later ones, so that there is no circle.
        let later = policies.iter().enumerate().skip(index + 1);
        let chosen = later.filter(|(other, _)| bits & (1 << other) != 0);
        policies[index].overrides = chosen.map(|(_, policy)| policy.id.clone()).collect();
    }
    policies
}

/// The number of policies in `number`, at most 8, with windows of about a second.
pub fn policies(number: RangeInclusive<usize>) -> impl Strategy<Value = Vec<Policy>> {
    vec(shape(), number).prop_map(|shapes| build(shapes, 1_000_000_000, false))
}

/// A check before its amounts are chosen.
#[derive(Clone, Debug)]
struct Asked {
    attributes: Vec<(Attribute, String)>,
    requests: u8,
    tokens: u8,
    by_kind: Vec<(Unit, Amount)>,
    priority: PriorityClass,
}

impl Asked {
    fn build(self, large: bool) -> OwnedCheck {
        let cost = Cost::default()
            .with(Unit::Requests, amount(self.requests, large))
            .with(Unit::Tokens, amount(self.tokens, large));
        let cost =
            self.by_kind.into_iter().fold(cost, |cost, (unit, amount)| cost.with(unit, amount));
        OwnedCheck { attributes: self.attributes, cost, priority: self.priority }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let value = || select(VALUES.to_vec());
    // Most subjects have a user and a model; about half of them have each of the other attributes.
    let subject = attributes().into_iter().map(|attribute| {
        let often = matches!(attribute, Attribute::User | Attribute::Model);
        let value = if attribute == Attribute::Ip { select(ADDRESSES.to_vec()) } else { value() };
        let given = option::weighted(if often { 0.95 } else { 0.5 }, value);
        given.prop_map(move |value| Some((attribute.clone(), value?.to_owned())))
    });
    let requests = prop_oneof![6 => Just(1), 1 => Just(0), 2 => 2..=7_u8];
    let priority = select(PriorityClass::ALL.to_vec());
    let tokens = (0..=7_u8, tokens_by_kind(7));
    (subject.collect::<Vec<_>>(), requests, tokens, priority).prop_map(
        |(subject, requests, (tokens, by_kind), priority)| Asked {
            attributes: subject.into_iter().flatten().collect(),
            requests,
            tokens,
            by_kind,
            priority,
        },
    )
}

/// A check.
pub fn check() -> impl Strategy<Value = OwnedCheck> {
    asked().prop_map(|asked| asked.build(false))
}

/// How the clock moves before a step.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// Not at all.
    Stay,
    /// Forward by nanoseconds.
    Ns(u64),
    /// Forward by this many 2^16ths of a window.
    Part(u32),
    /// Forward by this many windows, and a nanosecond more or less.
    Windows(u8, i8),
    /// Back by this many eighths of a window.
    BackEighths(u8),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => Just(Move::Stay),
        1 => (1..=2_u64).prop_map(Move::Ns),
        // Round fractions coincide with the edges of other admissions.
        4 => (1..=8_u32).prop_map(|eighths| Move::Part(eighths << 13)),
        4 => (1..=1_u32 << 16).prop_map(Move::Part),
        2 => (select(vec![1, 1, 2, 10]), -1..=1_i8).prop_map(|(n, more)| Move::Windows(n, more)),
        1 => (1..=24_u8).prop_map(Move::BackEighths),
    ]
}

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// The clock moves, and a check is made.
    Ask(Move, OwnedCheck),
    /// If the last check was denied, it is sent again, 1 ms too early and then at the right time (P12).
    AskAgain,
    /// The usage of all limits of the last check is cleared.
    Forget,
    /// The limits of all policies that do not exempt change to these, by position (R8).
    Limits(Vec<Amount>),
}

/// A sequence of events for a limiter.
#[derive(Clone, Debug)]
pub struct Script {
    /// The policies, at least one.
    pub policies: Vec<Policy>,
    /// The initial time of the clock.
    pub start: Timestamp,
    /// The window that is the unit of the clock's moves.
    pub window_ns: u64,
    /// The steps.
    pub steps: Vec<Step>,
}

/// The windows of scripts: the shortest, the longest, and some on both sides of the lengths at which ticks get coarser.
const WINDOWS_NS: [u64; 10] = [
    1_000_000,
    1_234_567,
    1_000_000_000,
    1_600_000_001,
    60_000_000_000,
    3_600_000_000_000,
    86_400_000_000_000,
    7 * 86_400_000_000_000,
    1_728_000_123_456_789,
    366 * 24 * 3_600_000_000_000,
];

/// The latest time of scripts, in the year 2090: stores may keep whole seconds in 32 bits, until 2106.
pub const END_NS: u64 = 3_800_000_000_000_000_000;

#[derive(Clone, Debug)]
enum StepShape {
    Ask(Move, Asked),
    AskAgain,
    Forget,
    Limits(Vec<u8>),
}

fn step_shape() -> impl Strategy<Value = StepShape> {
    prop_oneof![
        24 => (moves(), asked()).prop_map(|(moved, asked)| StepShape::Ask(moved, asked)),
        6 => Just(StepShape::AskAgain),
        1 => Just(StepShape::Forget),
        1 => vec(0..=7_u8, 8).prop_map(StepShape::Limits),
    ]
}

impl StepShape {
    fn build(self, policies: &[Policy], large: bool) -> Step {
        match self {
            Self::Ask(moved, asked) => Step::Ask(moved, asked.build(large)),
            Self::AskAgain => Step::AskAgain,
            Self::Forget => Step::Forget,
            Self::Limits(indices) => {
                let limits = policies.iter().zip(indices);
                let limit =
                    |(policy, index): (&Policy, u8)| bounded(policy.counting, amount(index, large));
                Step::Limits(limits.map(limit).collect())
            }
        }
    }
}

fn script_of(
    shapes: impl Strategy<Value = Vec<Shape>>,
    steps: RangeInclusive<usize>,
) -> impl Strategy<Value = Script> {
    let large = prop_oneof![4 => Just(false), 1 => Just(true)];
    let start = select(vec![0, 1_700_000_000_000_000_000, 1_700_000_123_456_789_123]);
    (shapes, vec(step_shape(), steps), select(WINDOWS_NS.to_vec()), start, large).prop_map(
        |(shapes, steps, window_ns, start_ns, large)| {
            let policies = build(shapes, window_ns, large);
            let steps = steps.into_iter().map(|step| step.build(&policies, large)).collect();
            Script { policies, start: Timestamp::from_ns(start_ns), window_ns, steps }
        },
    )
}

/// A script of up to 60 steps over one to four policies.
pub fn script() -> impl Strategy<Value = Script> {
    script_of(vec(shape(), 1..=4), 1..=60)
}

/// A script in which every check meets one limit, with one key.
pub fn script_with_one_key() -> impl Strategy<Value = Script> {
    let shape = shape().prop_map(|shape| Shape {
        per: Per::from_scope("GLOBAL").unwrap(),
        conditions: Vec::new(),
        enabled: true,
        ..shape
    });
    script_of(vec(shape, 1), 1..=60)
}

impl Script {
    /// The time after `moved`, starting from `now`. If the clock must not step back, it stays.
    pub fn moment_after(&self, now: Timestamp, moved: Move, may_step_back: bool) -> Timestamp {
        let now_ns = now.as_ns();
        let then_ns = match moved {
            Move::Stay => now_ns,
            Move::Ns(ns) => now_ns + ns,
            Move::Part(part) => {
                let part_ns = (u128::from(self.window_ns) * u128::from(part)) >> 16;
                now_ns + u64::try_from(part_ns).unwrap()
            }
            Move::Windows(windows, more) => {
                (now_ns + u64::from(windows) * self.window_ns).saturating_add_signed(more.into())
            }
            Move::BackEighths(_) if !may_step_back => now_ns,
            Move::BackEighths(eighths) => {
                now_ns.saturating_sub(self.window_ns / 8 * u64::from(eighths))
            }
        };
        Timestamp::from_ns(then_ns.min(END_NS))
    }
}
