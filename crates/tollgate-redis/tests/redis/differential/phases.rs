//! Sequences of phases on a few limits; each phase continues where the last one left the logs.
//!
//! Purely random operations keep every log at about its limit and never reach the edges of its layout. Phases do: they
//! fill a log to a chosen length, wait until a chosen part of it has left, make one check of each kind, and send
//! bursts.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The number of limits.
pub(super) const LIMITS: usize = 4;

/// The cost of a check.
#[derive(Clone, Copy, Debug)]
pub(super) enum Costs {
    One,
    Two,
    /// 0, 1, 2, 3 and a large one, in turn.
    Mixed,
    /// A third of the greatest amount.
    Large,
}

/// The new cost of an admission.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewCost {
    Nothing,
    One,
    Same,
    OneMore,
    Tenfold,
    Largest,
}

/// Which admission, by its age among those that the test remembers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Newest,
    Oldest,
    /// This many 256ths of the way from the newest to the oldest.
    Part(u8),
    /// One that was changed before.
    Changed,
}

/// One phase.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// This many admissions to one limit, `gap` 2^16ths of the window apart.
    Fill { limit: usize, number: usize, gap: u32, costs: Costs },
    /// The clock moves by this many 2^16ths of the first limit's window, and some nanoseconds.
    Pause { part: u32, ns: i64 },
    /// The clock moves to the time at which this many 256ths of a log have left, plus `late` ns.
    Leave { limit: usize, part: u8, late: i64 },
    /// A check of each cost, preceded by a peek, with the priority class that has this share (percent) of the limits.
    OneOfEach { share: u8 },
    /// This many checks of the limits in `mask`, at one moment; `at_once` of them in one call.
    Burst { number: usize, costs: Costs, mask: u8, at_once: usize },
    /// The limits get other amounts.
    Amounts(Vec<u8>),
    /// A window of another length, in eighths of the first; a longer one if the test allows it.
    Window { limit: usize, eighths: u8 },
    /// The next way of counting.
    Way { limit: usize },
    /// The clock steps back by this many 2^16ths of the window.
    StepBack { part: u32 },
    /// This many admissions change, one after the other.
    Change { limit: usize, which: Which, new: NewCost, number: usize },
    /// All usage of a limit is cleared.
    Reset { limit: usize },
}

/// Lengths on both sides of every constant of the scripts.
const LENGTHS: [usize; 22] = [
    1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 129, 191, 192, 193, 257, 330, 450, 1_100, 1_400,
];

fn costs() -> impl Strategy<Value = Costs> {
    select(vec![Costs::One, Costs::One, Costs::One, Costs::Two, Costs::Mixed, Costs::Large])
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 2 => Just(1), 1 => 0..LIMITS]
}

/// A phase. `anywhere` allows operations whose results differ if a check spans several slots.
pub(super) fn phase(anywhere: bool) -> impl Strategy<Value = Phase> {
    let gap = select(vec![0, 0, 0, 1, 7, 60, 300, 1_000, 40_000]);
    let fill = (limit(), select(LENGTHS.to_vec()), gap, costs())
        .prop_map(|(limit, number, gap, costs)| Phase::Fill { limit, number, gap, costs });
    let pause = (prop_oneof![0..1_000_u32, 0..70_000_u32], select(vec![0, 0, 1, 999, 1_000]))
        .prop_map(|(part, ns)| Phase::Pause { part, ns });
    let leave = (limit(), any::<u8>(), select(vec![-1, 0, 0, 1, 1_000]))
        .prop_map(|(limit, part, late)| Phase::Leave { limit, part, late });
    let each = select(vec![100, 100, 50, 20, 1]).prop_map(|share| Phase::OneOfEach { share });
    let burst = (select(vec![1, 2, 5, 20, 64, 200]), costs(), 1..16_u8, select(vec![1, 2, 7, 64]))
        .prop_map(|(number, costs, mask, at_once)| Phase::Burst { number, costs, mask, at_once });
    let which = prop_oneof![
        3 => Just(Which::Newest),
        2 => Just(Which::Oldest),
        4 => any::<u8>().prop_map(Which::Part),
        2 => Just(Which::Changed),
    ];
    let new = select(vec![
        NewCost::Nothing,
        NewCost::Nothing,
        NewCost::One,
        NewCost::Same,
        NewCost::OneMore,
        NewCost::Tenfold,
        NewCost::Largest,
    ]);
    let change = (limit(), which, new, select(vec![1, 1, 2, 5, 40]))
        .prop_map(|(limit, which, new, number)| Phase::Change { limit, which, new, number });
    let window = (limit(), if anywhere { 1..=24_u8 } else { 8..=8_u8 })
        .prop_map(|(limit, eighths)| Phase::Window { limit, eighths });
    let back = (if anywhere { 1..200_000_u32 } else { 0..1_u32 })
        .prop_map(|part| Phase::StepBack { part });
    prop_oneof![
        8 => fill,
        4 => pause,
        5 => leave,
        6 => each,
        4 => burst,
        2 => vec(0..10_u8, LIMITS).prop_map(Phase::Amounts),
        1 => window,
        1 => limit().prop_map(move |limit| {
            if anywhere { Phase::Way { limit } } else { Phase::Reset { limit } }
        }),
        1 => back,
        6 => change,
        1 => limit().prop_map(|limit| Phase::Reset { limit }),
    ]
}

/// The start of a run.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// The window of the first limit; the others have half, the same and twice as much.
    pub(super) window_ns: u64,
    /// Which of the limits are not logs, which are in shadow mode, and which record denied costs, by their bits.
    pub(super) counters: u8,
    pub(super) shadows: u8,
    pub(super) charging: u8,
    /// The amounts, as indices.
    pub(super) amounts: Vec<u8>,
    pub(super) start_ns: u64,
    pub(super) phases: Vec<Phase>,
}

/// Windows: the shortest, some that are not whole microseconds, minutes, and the longest.
const WINDOWS_NS: [u64; 8] = [
    1_000_000,
    1_234_567,
    1_000_000_000,
    8_000_000_000,
    60_000_000_000,
    3_600_000_000_000,
    24 * 3_600_000_000_000,
    183 * 24 * 3_600_000_000_000,
];

pub(super) fn course(anywhere: bool, phases: usize) -> impl Strategy<Value = Course> {
    (
        select(WINDOWS_NS.to_vec()),
        prop_oneof![2 => Just(0), 1 => 0..16_u8],
        prop_oneof![2 => Just(0), 1 => 0..16_u8],
        prop_oneof![2 => Just(0), 1 => 0..16_u8],
        vec(0..10_u8, LIMITS),
        select(vec![0, 1_700_000_000_000_000_000, 1_700_000_123_456_789_123]),
        vec(phase(anywhere), 4..phases),
    )
        .prop_map(|(window_ns, counters, shadows, charging, amounts, start_ns, phases)| {
            Course { window_ns, counters, shadows, charging, amounts, start_ns, phases }
        })
}
