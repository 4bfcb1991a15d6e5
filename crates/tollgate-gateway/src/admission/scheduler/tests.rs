use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_ms(0);

/// The same rules, as plainly as possible: one list, sorted anew for each decision.
#[derive(Default)]
struct Model {
    capacities: Vec<Capacity>,
    /// The upstream and the tokens of each request in flight.
    running: Vec<(usize, u64)>,
    waiting: Vec<(Number, Entrant)>,
    /// When each tenant of a class got its place in the turns; later is further back.
    turns: Vec<((PriorityClass, Arc<str>), u64)>,
    clock: u64,
}

impl Model {
    fn arrive(&mut self, number: Number, entrant: Entrant) {
        let key = (entrant.class, Arc::clone(&entrant.tenant));
        if !self.turns.iter().any(|(known, _)| *known == key) {
            self.clock += 1;
            self.turns.push((key, self.clock));
        }
        self.waiting.push((number, entrant));
    }

    fn remove(&mut self, number: Number) -> Entrant {
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == number).unwrap();
        let (_, entrant) = self.waiting.remove(place);
        let still = |(_, other): &(Number, Entrant)| {
            (other.class, &other.tenant) == (entrant.class, &entrant.tenant)
        };
        if !self.waiting.iter().any(still) {
            self.turns.retain(|(key, _)| *key != (entrant.class, Arc::clone(&entrant.tenant)));
        }
        entrant
    }

    /// Whose place is taken if there is one too many, and this one has just arrived.
    fn last_in_order(&self, newcomer: &Entrant) -> Number {
        let key = |entrant: &Entrant| (entrant.class, Arc::clone(&entrant.tenant));
        let lowest = self.waiting.iter().map(|(_, entrant)| entrant.class).min().unwrap();
        let rank = |(number, entrant): &&(Number, Entrant)| {
            let of_its_tenant = |other: &&(Number, Entrant)| key(&other.1) == key(entrant);
            let turn = self.turns.iter().find(|(known, _)| *known == key(entrant)).unwrap().1;
            let count = self.waiting.iter().filter(of_its_tenant).count();
            (count, key(entrant) == key(newcomer), turn, *number)
        };
        let of_lowest = self.waiting.iter().filter(|(_, entrant)| entrant.class == lowest);
        of_lowest.max_by_key(rank).unwrap().0
    }

    fn load(&self, upstream: usize) -> (u64, u64) {
        let here = || self.running.iter().filter(|(at, _)| *at == upstream);
        (here().count() as u64, here().map(|(_, tokens)| tokens).sum())
    }

    fn next(&mut self) -> Option<(Number, usize)> {
        let turn = |entrant: &Entrant| {
            let key = (entrant.class, Arc::clone(&entrant.tenant));
            self.turns.iter().find(|(known, _)| *known == key).unwrap().1
        };
        let mut order: Vec<_> = self.waiting.clone();
        order.sort_by_key(|(number, entrant)| {
            (std::cmp::Reverse(entrant.class.index()), turn(entrant), *number)
        });
        let mut kept: Vec<usize> = Vec::new();
        let mut found = None;
        for (number, entrant) in order {
            let has_room = |upstream: &usize| {
                let (count, tokens) = self.load(*upstream);
                let capacity = self.capacities[*upstream];
                count < u64::from(capacity.max_concurrency)
                    && (count == 0 || tokens + entrant.tokens <= capacity.max_tokens)
            };
            let choices = entrant.upstreams.iter().filter(|upstream| !kept.contains(upstream));
            let part = |upstream: usize| {
                let (count, tokens) = self.load(upstream);
                let capacity = self.capacities[upstream];
                let part = |used: u64, most: u64| used * 1_000_000 / most;
                (
                    part(count, u64::from(capacity.max_concurrency)),
                    part(tokens, capacity.max_tokens),
                    upstream,
                )
            };
            if let Some(best) = choices.filter(has_room).min_by_key(|upstream| part(*upstream)) {
                found = Some((number, best));
                break;
            }
            kept.extend(entrant.upstreams.iter());
        }
        let (number, upstream) = found?;
        let entrant = self.remove(number);
        let key = (entrant.class, Arc::clone(&entrant.tenant));
        self.clock += 1;
        if let Some((_, turn)) = self.turns.iter_mut().find(|(known, _)| *known == key) {
            *turn = self.clock;
        }
        self.running.push((upstream, entrant.tokens));
        Some((number, upstream))
    }
}

/// How many wait in the comparison with the model.
const MAX_WAITING: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Arrive(Entrant),
    Leave(usize),
    /// One that has left comes back with its number.
    ComeBack(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let class = proptest::sample::select(&PriorityClass::ALL[..3]);
    let arrive = (class, 0..3_u8, 1..8_u64, 1..12_u64).prop_map(|(class, tenant, set, tokens)| {
        let tenant = format!("t{tenant}").into();
        Step::Arrive(Entrant { class, tenant, upstreams: UpstreamSet(set), tokens })
    });
    prop_oneof![
        4 => arrive,
        2 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::ComeBack),
        3 => any::<usize>().prop_map(Step::Release),
    ]
}

fn capacity() -> impl Strategy<Value = Capacity> {
    (1..4_u32, 5..20_u64)
        .prop_map(|(max_concurrency, max_tokens)| Capacity { max_concurrency, max_tokens })
}

proptest! {
    #[test]
    fn it_decides_as_the_model_does(
        capacities in proptest::collection::vec(capacity(), 3),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut scheduler = Scheduler::new(capacities.clone());
        let mut model = Model { capacities, ..Model::default() };
        let mut left = Vec::new();
        for step in steps {
            match step {
                Step::Arrive(entrant) => {
                    let number = scheduler.arrive(entrant.clone());
                    model.arrive(number, entrant.clone());
                    let Entrant { class, ref tenant, upstreams, .. } = entrant;
                    let spot = Spot { class, tenant: Arc::clone(tenant), upstreams };
                    let last = model.last_in_order(&entrant);
                    prop_assert_eq!(scheduler.last_in_order(&spot), Some(last));
                    if model.waiting.len() > MAX_WAITING {
                        left.push((last, model.remove(last)));
                        prop_assert!(scheduler.leave(last));
                    }
                }
                Step::Leave(which) if !model.waiting.is_empty() => {
                    let number = model.waiting[which % model.waiting.len()].0;
                    left.push((number, model.remove(number)));
                    prop_assert!(scheduler.leave(number) && !scheduler.leave(number));
                }
                Step::ComeBack(which) if !left.is_empty() => {
                    let (number, entrant) = left.swap_remove(which % left.len());
                    scheduler.arrive_again(entrant.clone(), number);
                    model.arrive(number, entrant);
                }
                Step::Release(which) if !model.running.is_empty() => {
                    let which = which % model.running.len();
                    let (upstream, tokens) = model.running.remove(which);
                    scheduler.release(upstream, tokens, NOW);
                }
                _ => {}
            }
            loop {
                let next = scheduler.admit_next();
                prop_assert_eq!(next, model.next());
                prop_assert_eq!(scheduler.waiting(), model.waiting.len());
                if next.is_none() {
                    break;
                }
            }
            for (upstream, capacity) in model.capacities.iter().enumerate() {
                let (count, tokens) = scheduler.in_flight(upstream);
                prop_assert_eq!((u64::from(count), tokens), model.load(upstream));
                prop_assert!(count <= capacity.max_concurrency);
                prop_assert!(tokens <= capacity.max_tokens || count == 1);
            }
        }
        // Whoever waits is served in the end.
        while let Some((upstream, tokens)) = model.running.pop() {
            scheduler.release(upstream, tokens, NOW);
            while let Some((number, at)) = scheduler.admit_next() {
                let entrant = model.remove(number);
                model.running.push((at, entrant.tokens));
            }
        }
        prop_assert_eq!(scheduler.waiting(), 0);
    }
}

fn entrant(class: PriorityClass, tenant: &str, tokens: u64) -> Entrant {
    Entrant { class, tenant: tenant.into(), upstreams: UpstreamSet::of([0]), tokens }
}

fn one_slot() -> Scheduler {
    Scheduler::new([Capacity { max_concurrency: 1, max_tokens: 100 }])
}

#[test]
fn classes_come_first_then_turns_then_arrival() {
    use PriorityClass::{Batch, Premium, Standard};
    let mut scheduler = one_slot();
    let arrivals = [
        (Batch, "a"),
        (Standard, "a"),
        (Standard, "a"),
        (Standard, "b"),
        (Premium, "c"),
        (Standard, "a"),
    ];
    let numbers: Vec<_> = arrivals
        .into_iter()
        .map(|(class, tenant)| scheduler.arrive(entrant(class, tenant, 1)))
        .collect();
    let mut served = Vec::new();
    while let Some((number, upstream)) = scheduler.admit_next() {
        served.push(numbers.iter().position(|known| *known == number).unwrap());
        scheduler.release(upstream, 1, NOW);
    }
    assert_eq!(served, [4, 1, 3, 2, 5, 0]);
}

#[test]
fn the_wait_is_expected_from_how_often_places_become_free() {
    let mut scheduler = one_slot();
    let arrive = |scheduler: &mut Scheduler| {
        scheduler.arrive(entrant(PriorityClass::Standard, "a", 1));
    };
    let upstreams = UpstreamSet::of([0]);
    arrive(&mut scheduler);
    assert!(scheduler.admit_next().is_some());
    arrive(&mut scheduler);
    assert_eq!(scheduler.time_of_places(1, upstreams), None);
    for release in 1..=40 {
        arrive(&mut scheduler);
        scheduler.release(0, 1, Timestamp::from_ms(100 * release));
        assert!(scheduler.admit_next().is_some());
    }
    let expected_ms = |places| scheduler.time_of_places(places, upstreams).unwrap().as_millis();
    assert!((90..=110).contains(&expected_ms(1)), "{}", expected_ms(1));
    assert!((180..=220).contains(&expected_ms(2)), "{}", expected_ms(2));
    assert_eq!(scheduler.time_of_places(1, UpstreamSet::of([1])), None);
}

/// Serves for `seconds` of virtual time, one request for `MS_EACH` in each of ten slots. Each tenant sends what `arrivals` says
/// every 10 ms. Returns how many of each tenant were served, and the longest wait of the first in ms.
fn serve(
    seconds: u64,
    tenants: usize,
    arrivals: impl Fn(usize) -> (PriorityClass, u64),
) -> (Vec<u64>, u64) {
    const MS_EACH: u64 = 100;
    let mut scheduler = Scheduler::new([Capacity { max_concurrency: 10, max_tokens: 1_000 }]);
    let names: Vec<Arc<str>> = (0..tenants).map(|tenant| format!("t{tenant}").into()).collect();
    let (mut served, mut longest) = (vec![0; tenants], 0);
    let mut arrived = std::collections::HashMap::new();
    let mut running: VecDeque<u64> = VecDeque::new();
    for now in 0..seconds * 1_000 {
        while running.front().is_some_and(|end| *end <= now) {
            running.pop_front();
            scheduler.release(0, 1, Timestamp::from_ms(now));
        }
        for (tenant, name) in names.iter().enumerate() {
            let (class, every_ms) = arrivals(tenant);
            if (now + tenant as u64).is_multiple_of(every_ms) {
                let upstreams = UpstreamSet::of([0]);
                let entrant = Entrant { class, tenant: Arc::clone(name), upstreams, tokens: 1 };
                arrived.insert(scheduler.arrive(entrant), (tenant, now));
            }
        }
        while let Some((number, _)) = scheduler.admit_next() {
            let (tenant, since) = arrived.remove(&number).unwrap();
            served[tenant] += 1;
            if tenant == 0 {
                longest = longest.max(now - since);
            }
            running.push_back(now + MS_EACH);
        }
    }
    (served, longest)
}

/// At twice the capacity each of 20 tenants gets its share, also if one sends ten times as much as the others.
#[test]
fn equal_tenants_get_equal_shares_under_overload() {
    let (served, _) =
        serve(60, 20, |tenant| (PriorityClass::Standard, if tenant == 0 { 10 } else { 105 }));
    let sum: u64 = served.iter().sum();
    let squares: u64 = served.iter().map(|count| count * count).sum();
    // Jain's index: the square of the sum over n times the sum of the squares.
    assert!(sum * sum * 100 >= 95 * 20 * squares, "{served:?}");
    assert_eq!(sum, 60 * 100, "no slot is idle");
}

#[test]
fn a_higher_class_waits_only_for_the_next_free_place() {
    let flood = |tenant| match tenant {
        0 => (PriorityClass::Premium, 50),
        _ => (PriorityClass::Standard, 10),
    };
    let (served, longest_ms) = serve(60, 5, flood);
    assert!(served[0] >= 60 * 20 - 1, "all but one that still waits");
    assert!(longest_ms <= 100, "{longest_ms} ms, longer than one request takes");
    assert!(served[1..].iter().all(|count| *count > 1_000), "{served:?}");
}
