//! Several nodes over one slow, obvious store in virtual time, whose network delays, fails and loses answers.

mod model;

use std::sync::Mutex;

use proptest::prelude::*;
use tokio::time::Instant;
use tollgate_core::{
    Amount, Mode, Per, Policy, PolicyId, PriorityClass, Share, Shares, Split, Window,
};

use self::model::{Model, Network, Notes, VirtualClock};
use super::*;

const MS: u64 = 1_000_000;
const WINDOW_MS: u64 = 2_000;
/// A twentieth of the window.
const LIFE_MS: u64 = 100;
const TEND_MS: u64 = 20;

type Node = PartKeeper<Arc<Model>, VirtualClock>;

fn policy(id: &str, limit: u64, share: Option<u32>) -> Policy {
    let (id, per) = (PolicyId::new(id).unwrap(), Per::from_scope("GLOBAL").unwrap());
    let window = Window::new(Duration::from_millis(WINDOW_MS)).unwrap();
    let split = share.and_then(|share| Split::new(Share::of_millionths(share).unwrap()));
    Policy { split, ..Policy::new(id, per, Amount::new(limit), window) }
}

fn limit(id: &str, limit: u64, share: Option<u32>) -> Arc<Limit> {
    Arc::new(Limit::of(&policy(id, limit, share)).unwrap())
}

async fn check(node: &Node, limits: &[&Arc<Limit>], cost: u64) -> Result<Charged, StoreError> {
    let subject = Subject::empty();
    let cost = Amount::new(cost).unwrap();
    let charges: Vec<_> =
        limits.iter().map(|limit| Charge { limit, subject: &subject, cost }).collect();
    node.charge(&charges, None).await
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// A node over a store whose network takes no time and works, and what its observer noted.
fn simple_node() -> (Node, Arc<Model>, Arc<Notes>) {
    let clock = VirtualClock::new(Instant::now(), 1_000 * MS, 0);
    let (model, seen) = (Model::new(clock, vec![0], vec![Network::Works]), Notes::new(clock));
    (PartKeeper::new(Arc::clone(&model), clock, Arc::<Notes>::clone(&seen)), model, seen)
}

/// Lets `node` take a part of `limit`, so that the next checks of cost 1 need no call.
async fn warm_up(node: &Node, limit: &Arc<Limit>) {
    for _ in 0..8 {
        assert!(check(node, &[limit], 1).await.unwrap().verdicts[0].allowed);
        node.shared.background.finish().await;
    }
}

/// One step of a node.
#[derive(Clone, Copy, Debug)]
struct Step {
    node: usize,
    checks: u64,
    cost: u64,
    then_ms: u64,
}

#[derive(Clone, Debug)]
struct Story {
    limit: u64,
    share: u32,
    clocks: Vec<(u64, i64)>,
    delays: Vec<u64>,
    network: Vec<Network>,
    /// A node that is killed after so many steps.
    killed: Option<(usize, usize)>,
    steps: Vec<Step>,
}

fn network() -> impl Strategy<Value = Vec<Network>> {
    let one = prop_oneof![
        12 => Just(Network::Works),
        1 => Just(Network::LosesCall),
        1 => Just(Network::LosesAnswer)
    ];
    prop_oneof![Just(vec![Network::Works]), proptest::collection::vec(one, 1..40)]
}

fn story() -> impl Strategy<Value = Story> {
    let step = (0..3_usize, 1..60_u64, 0..4_u64, prop_oneof![0..20_u64, 0..300_u64]);
    let step = step.prop_map(|(node, checks, cost, then_ms)| Step { node, checks, cost, then_ms });
    let steps = proptest::collection::vec(step, 1..80);
    let clocks = proptest::collection::vec((0..10_000 * MS, -450..450_i64), 3);
    let delays = proptest::collection::vec(prop_oneof![3 => 0..3_u64, 1 => 0..150_u64], 1..20);
    let killed = proptest::option::of((0..3_usize, 0..80_usize));
    (80..2_000_u64, 50_000..500_000_u32, clocks, delays, network(), killed, steps).prop_map(
        |(limit, share, clocks, delays, network, killed, steps)| Story {
            limit,
            share,
            clocks,
            delays,
            network,
            killed,
            steps,
        },
    )
}

/// What came of a story.
struct Told {
    /// The admissions, by the clock of the store, in order.
    admitted: Vec<(u64, u64)>,
    /// For each denial: its time, its cost, and what the nodes held unspent.
    denied: Vec<(u64, u64, u64)>,
}

async fn tell(story: &Story) -> Told {
    let start = Instant::now();
    let clock = VirtualClock::new(start, 50_000 * MS, 0);
    let model = Model::new(clock, story.delays.clone(), story.network.clone());
    let seen = Notes::new(clock);
    let limit = limit("hot", story.limit, Some(story.share));
    let nodes: Vec<Arc<Node>> = story
        .clocks
        .iter()
        .map(|(offset, ppm)| {
            let clock = VirtualClock::new(start, *offset, *ppm);
            Arc::new(PartKeeper::new(Arc::clone(&model), clock, Arc::<Notes>::clone(&seen)))
        })
        .collect();
    let is_dead = |node: usize, step: usize| {
        story.killed.is_some_and(|(dead, from)| dead == node && step >= from)
    };
    let denied = Arc::new(Mutex::new(Vec::new()));
    let mut checks = tokio::task::JoinSet::new();
    for (at, step) in story.steps.iter().enumerate() {
        if !is_dead(step.node, at) {
            for _ in 0..step.checks {
                let (node, limit, cost) =
                    (Arc::clone(&nodes[step.node]), Arc::clone(&limit), step.cost);
                let (seen, denied) = (Arc::clone(&seen), Arc::clone(&denied));
                checks.spawn(async move {
                    let unspent = seen.unspent();
                    if let Ok(answer) = check(&node, &[&limit], cost).await
                        && !answer.verdicts[0].allowed
                    {
                        denied.lock().unwrap().push((clock.now().as_ns(), cost, unspent));
                    }
                });
            }
        }
        let mut left = step.then_ms;
        while left > 0 {
            pass(left.min(TEND_MS)).await;
            left -= left.min(TEND_MS);
            for (number, node) in nodes.iter().enumerate() {
                if !is_dead(number, at) {
                    node.tend();
                }
            }
        }
    }
    checks.join_all().await;
    let mut admitted = model.admitted.lock().unwrap().clone();
    admitted.extend(seen.spent.lock().unwrap().iter());
    admitted.sort_unstable();
    let denied = denied.lock().unwrap().clone();
    Told { admitted, denied }
}

/// What was admitted in (`until` − `length`, `until`].
fn within(admitted: &[(u64, u64)], until_ns: u64, length_ms: u64) -> u64 {
    let from = until_ns - length_ms * MS;
    let inside = admitted.iter().filter(|(at, _)| (from + 1..=until_ns).contains(at));
    inside.map(|(_, cost)| cost).sum()
}

fn in_virtual_time<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(run)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// No window ever holds more than the limit, whatever the clocks, the network and the nodes do.
    #[test]
    fn no_window_holds_more_than_the_limit(story in story()) {
        let told = in_virtual_time(tell(&story));
        for (at, _) in &told.admitted {
            let held = within(&told.admitted, *at, WINDOW_MS);
            prop_assert!(held <= story.limit, "{held} of {} until {at}", story.limit);
        }
    }

    /// A check is denied only if what was admitted in a window and a life of a part, what the nodes held, and its cost are above
    /// the limit.
    #[test]
    fn a_denial_is_within_the_published_bound(
        story in story().prop_map(|story| Story {
            network: vec![Network::Works],
            delays: vec![0],
            killed: None,
            ..story
        }),
    ) {
        let told = in_virtual_time(tell(&story));
        let split = Split::new(Share::of_millionths(story.share).unwrap()).unwrap();
        let most = 3 * split.part_of(story.limit);
        for (at, cost, unspent) in told.denied {
            prop_assert!(unspent <= most, "{unspent} of {most} are held");
            let used = within(&told.admitted, at, WINDOW_MS + LIFE_MS) + most + cost.max(1);
            prop_assert!(used > story.limit, "{used} of {} at {at}", story.limit);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_limit_needs_few_calls() {
    let (node, model, seen) = simple_node();
    let limit = limit("hot", 100_000, Some(50_000));
    let mut admitted = 0;
    for _ in 0..100 {
        for _ in 0..100 {
            admitted += u64::from(check(&node, &[&limit], 1).await.unwrap().verdicts[0].allowed);
        }
        pass(1).await;
        node.tend();
    }
    assert_eq!(admitted, 10_000);
    assert!(seen.units(PartEvent::Spent) > 9_800, "{:?}", seen.units);
    assert!(model.calls() < 200, "{} calls", model.calls());
}

/// When a part ends, its node gives back what it has not spent.
#[tokio::test(start_paused = true)]
async fn what_is_not_spent_comes_back() {
    let (node, model, seen) = simple_node();
    let limit = limit("hot", 1_000, Some(50_000));
    warm_up(&node, &limit).await;
    assert!(seen.unspent() > 0);
    let counted = limit.counted_longer().unwrap();
    assert_eq!(model.usage(&counted, &Subject::empty()), 8 + seen.unspent());
    pass(LIFE_MS).await;
    node.tend();
    node.shared.background.finish().await;
    assert_eq!((seen.unspent(), model.usage(&counted, &Subject::empty())), (0, 8));
    // What is idle is forgotten.
    pass(3 * LIFE_MS).await;
    node.tend();
    let is_known = node.shared.held.with(&limit, &Subject::empty(), |_| ());
    assert!(is_known.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_gives_everything_back() {
    let (node, model, seen) = simple_node();
    let limit = limit("hot", 1_000, Some(50_000));
    warm_up(&node, &limit).await;
    node.finish().await;
    let usage = model.usage(&limit.counted_longer().unwrap(), &Subject::empty());
    assert_eq!((seen.unspent(), usage), (0, 8));
}

/// The last units of a limit are decided by the store.
#[tokio::test(start_paused = true)]
async fn the_whole_limit_is_admitted() {
    let (node, _, _) = simple_node();
    let limit = limit("hot", 1_000, Some(100_000));
    let mut admitted = 0;
    for _ in 0..1_500 {
        admitted += u64::from(check(&node, &[&limit], 1).await.unwrap().verdicts[0].allowed);
        tokio::task::yield_now().await;
    }
    assert_eq!(admitted, 1_000);
    let denied = check(&node, &[&limit], 1).await.unwrap();
    assert!(!denied.verdicts[0].allowed && denied.verdicts[0].usage == 1_000);
}

/// While the store fails, parts in hand are spent until they end.
#[tokio::test(start_paused = true)]
async fn parts_outlast_the_store() {
    let (node, model, seen) = simple_node();
    let limit = limit("hot", 1_000, Some(50_000));
    warm_up(&node, &limit).await;
    model.set_network(vec![Network::LosesCall]);
    assert!(check(&node, &[&limit], 1).await.unwrap().verdicts[0].allowed);
    let peeked = {
        let subject = Subject::empty();
        let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
        node.peek(&[charge]).await.unwrap()
    };
    assert!(peeked.verdicts[0].allowed);
    pass(LIFE_MS).await;
    check(&node, &[&limit], 1).await.unwrap_err();
    // What could not be given back is said.
    let held = seen.unspent();
    node.tend();
    node.shared.background.finish().await;
    assert_eq!((seen.unspent(), seen.units(PartEvent::Left)), (0, held));
}

/// A check of several limits that another limit denies spends nothing.
#[tokio::test(start_paused = true)]
async fn a_check_that_is_denied_elsewhere_spends_nothing() {
    let (node, model, seen) = simple_node();
    let (hot, other) = (limit("hot", 1_000, Some(50_000)), limit("other", 3, None));
    warm_up(&node, &hot).await;
    let held = seen.unspent();
    for admits in [true, true, true, false, false] {
        let answer = check(&node, &[&hot, &other], 1).await.unwrap();
        let allowed: Vec<_> = answer.verdicts.iter().map(|verdict| verdict.allowed).collect();
        assert_eq!(allowed, [true, admits]);
        // The first one is an estimate, without what is held here.
        assert!(answer.verdicts[0].usage <= 11, "{:?}", answer.verdicts);
    }
    let subject = Subject::empty();
    let in_hand =
        node.shared.would_spend(&[Charge { limit: &hot, subject: &subject, cost: Amount::ONE }])[0];
    assert_eq!((in_hand.unwrap().1, seen.unspent()), (held - 3, held - 3));
    assert_eq!(model.usage(&other, &subject), 3);
}

/// A shadow limit in the same check denies nothing, whether it is split or not.
#[tokio::test(start_paused = true)]
async fn a_shadow_limit_is_split_too() {
    let (node, _, _) = simple_node();
    let shadow = Policy { mode: Mode::Shadow, ..policy("shadow", 80, Some(500_000)) };
    let shadow = Arc::new(Limit::of(&shadow).unwrap());
    let mut allowed = 0;
    for _ in 0..100 {
        let answer = check(&node, &[&shadow], 1).await.unwrap();
        allowed += u64::from(answer.verdicts[0].allowed);
        tokio::task::yield_now().await;
    }
    assert_eq!(allowed, 80);
}

/// A reset drops what this node holds, and what it is taking.
#[tokio::test(start_paused = true)]
async fn a_reset_drops_what_is_held() {
    let (node, model, seen) = simple_node();
    let limit = limit("hot", 1_000, Some(50_000));
    warm_up(&node, &limit).await;
    node.reset(&limit, &Subject::empty()).await.unwrap();
    node.shared.background.finish().await;
    let usage = model.usage(&limit.counted_longer().unwrap(), &Subject::empty());
    assert_eq!((seen.unspent(), usage), (0, 0));
    let calls = model.calls();
    assert!(check(&node, &[&limit], 1).await.unwrap().verdicts[0].allowed);
    assert!(model.calls() > calls, "nothing was in hand");
}

/// Classes share one usage, and what one class holds is not spent by another.
#[tokio::test(start_paused = true)]
async fn each_class_takes_parts_of_its_own() {
    let (node, _, seen) = simple_node();
    let mut shares = Shares::default();
    shares.set(PriorityClass::Batch, Share::of_millionths(500_000).unwrap());
    let classes =
        Limit::of_classes(&Policy { shares, ..policy("hot", 1_000, Some(50_000)) }).unwrap();
    let [batch, premium] =
        [PriorityClass::Batch, PriorityClass::Premium].map(|class| &classes[class.index()]);
    warm_up(&node, premium).await;
    let held = seen.unspent();
    let mut admitted = 0;
    for _ in 0..600 {
        admitted += u64::from(check(&node, &[batch], 1).await.unwrap().verdicts[0].allowed);
        tokio::task::yield_now().await;
    }
    assert_eq!(admitted, 500 - 8 - held, "what premium checks hold counts");
}

/// A check with a request id may be the repetition of an admitted one.
#[tokio::test(start_paused = true)]
async fn a_request_id_asks_the_store() {
    let (node, model, _) = simple_node();
    let limit = limit("hot", 1_000, Some(50_000));
    warm_up(&node, &limit).await;
    let (calls, subject) = (model.calls(), Subject::empty());
    let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
    node.charge(&[charge], Some("once")).await.unwrap();
    assert_eq!(model.calls(), calls + 1);
}

/// A store that gives no parts counts a split limit over its own window.
#[tokio::test(start_paused = true)]
async fn a_store_without_parts_ignores_the_split() {
    let clock = VirtualClock::new(Instant::now(), 0, 0);
    let node = PartKeeper::new(
        crate::MemoryStore::with_clock(clock, &crate::memory::MemoryStoreOptions::default()),
        clock,
        Arc::new(()),
    );
    let (limit, subject) = (limit("hot", 100, Some(50_000)), Subject::empty());
    let charge = Charge { limit: &limit, subject: &subject, cost: Amount::new(100).unwrap() };
    let charged = node.charge(&[charge], None).await.unwrap();
    assert_eq!(charged.verdicts[0].reset_after_ns, WINDOW_MS * MS);
}
