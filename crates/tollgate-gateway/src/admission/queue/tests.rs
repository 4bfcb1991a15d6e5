use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use tollgate_core::PriorityClass;

use super::*;
use crate::admission::UpstreamSet;

/// A crowd before one upstream, in virtual time. Everybody comes back when told, and a little late.
#[derive(Clone, Debug)]
struct Crowd {
    slots: u32,
    ms_each: u64,
    max_length: usize,
    max_wait_ms: u64,
    /// When each request arrives and of which tenant it is.
    arrivals: Vec<(u64, u8)>,
    late_ms: u64,
}

/// What became of a crowd.
#[derive(Debug, Default)]
struct Course {
    /// The requests in the order in which they were served.
    served: Vec<usize>,
    /// How often each was turned away.
    denials: Vec<u64>,
    longest_queue: usize,
    most_in_flight: u32,
    end_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends,
    WaitedTooLong(usize, Number),
    Arrives(usize),
}

struct Simulation<'a> {
    crowd: &'a Crowd,
    queue: Queue,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    tickets: Vec<Option<TicketId>>,
    waiting: HashMap<Number, usize>,
    course: Course,
}

const HOLDER: Holder<'static> = Holder { api_key: "k", target: "m" };

impl<'a> Simulation<'a> {
    fn new(crowd: &'a Crowd) -> Self {
        let capacity = Capacity { max_concurrency: crowd.slots, max_tokens: 1_000_000 };
        let bounds = QueueConfig {
            max_length: crowd.max_length,
            max_wait: Duration::from_millis(crowd.max_wait_ms),
            comment_after: None,
        };
        let arrivals = crowd.arrivals.iter().enumerate();
        let count = crowd.arrivals.len();
        Self {
            crowd,
            queue: Queue::new([capacity], bounds),
            events: arrivals.map(|(who, (at, _))| Reverse((*at, Event::Arrives(who)))).collect(),
            tickets: vec![None; count],
            waiting: HashMap::new(),
            course: Course { denials: vec![0; count], ..Course::default() },
        }
    }

    fn entrant(&self, who: usize) -> Entrant {
        Entrant {
            class: PriorityClass::Standard,
            tenant: format!("t{}", self.crowd.arrivals[who].1).into(),
            upstreams: UpstreamSet::of([0]),
            tokens: 1,
        }
    }

    fn run(mut self) -> Course {
        while let Some(Reverse((now_ms, event))) = self.events.pop() {
            let now = Timestamp::from_ms(now_ms);
            match event {
                Event::Ends => self.queue.scheduler.release(0, 1, now),
                Event::Arrives(who) => {
                    let claim = Claim { holder: HOLDER, ticket: self.tickets[who].take() };
                    match self.queue.arrive(self.entrant(who), claim, now) {
                        Arrival::Admitted(_) => self.serve(who, now_ms),
                        Arrival::Waits { number, displaced } => {
                            self.waiting.insert(number, who);
                            self.displace(displaced, now);
                            let end = now_ms + self.crowd.max_wait_ms;
                            self.events.push(Reverse((end, Event::WaitedTooLong(who, number))));
                        }
                        Arrival::Denied(busy) => self.comes_back(who, busy, now_ms),
                    }
                }
                Event::WaitedTooLong(who, number) if self.waiting.get(&number) == Some(&who) => {
                    self.waiting.remove(&number);
                    let spot = spot(&self.entrant(who));
                    let busy = self.queue.waited_too_long(number, spot, HOLDER, now);
                    self.comes_back(who, busy, now_ms);
                }
                Event::WaitedTooLong(..) => {}
            }
            while let Some((number, _)) = self.queue.scheduler.admit_next() {
                let who = self.waiting.remove(&number).unwrap();
                self.serve(who, now_ms);
            }
            let course = &mut self.course;
            course.longest_queue = course.longest_queue.max(self.waiting.len());
            course.most_in_flight = course.most_in_flight.max(self.queue.scheduler.in_flight(0).0);
            course.end_ms = now_ms;
        }
        self.course
    }

    fn displace(&mut self, displaced: Option<Number>, now: Timestamp) {
        let Some(number) = displaced else { return };
        let who = self.waiting.remove(&number).unwrap();
        let spot = spot(&self.entrant(who));
        let busy = self.queue.was_displaced(number, spot, HOLDER, now);
        self.comes_back(who, busy, now.as_ns() / 1_000_000);
    }

    fn serve(&mut self, who: usize, now_ms: u64) {
        self.course.served.push(who);
        self.events.push(Reverse((now_ms + self.crowd.ms_each, Event::Ends)));
    }

    fn comes_back(&mut self, who: usize, busy: Busy, now_ms: u64) {
        self.course.denials[who] += 1;
        self.tickets[who] = busy.ticket;
        let wait_ms = u64::try_from(busy.retry_after.as_millis()).unwrap();
        self.events.push(Reverse((now_ms + wait_ms + self.crowd.late_ms, Event::Arrives(who))));
    }
}

fn crowd() -> impl Strategy<Value = Crowd> {
    let arrivals = proptest::collection::vec((0..500_u64, 0..4_u8), 1..120);
    (1..8_u32, 10..400_u64, 1..40_usize, 50..3_000_u64, arrivals, 0..1_000_u64).prop_map(
        |(slots, ms_each, max_length, max_wait_ms, arrivals, late_ms)| Crowd {
            slots,
            ms_each,
            max_length,
            max_wait_ms,
            arrivals,
            late_ms,
        },
    )
}

proptest! {
    #[test]
    fn everybody_of_a_crowd_is_served_once_and_never_more_at_a_time_than_there_are_slots(
        crowd in crowd(),
    ) {
        let course = Simulation::new(&crowd).run();
        let mut served = course.served.clone();
        served.sort_unstable();
        prop_assert_eq!(served, (0..crowd.arrivals.len()).collect::<Vec<_>>());
        prop_assert!(course.most_in_flight <= crowd.slots);
        prop_assert!(course.longest_queue <= crowd.max_length);
    }
}

/// Four slots, each for 100 ms: a place becomes free every 25 ms. They are busy for `warm_ms` before a crowd arrives at once.
fn busy_then_crowd(warm_ms: u64, crowd: usize) -> Crowd {
    let before = (0..warm_ms / 20).map(|at| (at * 20, 0));
    Crowd {
        slots: 4,
        ms_each: 100,
        max_length: 20,
        max_wait_ms: 2_000,
        arrivals: before.chain((0..crowd).map(|at| (warm_ms + at as u64 % 100, 0))).collect(),
        late_ms: 0,
    }
}

#[test]
fn a_crowd_comes_back_as_fast_as_places_become_free() {
    let crowd = busy_then_crowd(2_000, 1_000);
    let course = Simulation::new(&crowd).run();
    assert_eq!(course.served.len(), crowd.arrivals.len());
    assert!(course.denials.iter().all(|denials| *denials <= 2), "{:?}", course.denials);
    let work_ms = crowd.arrivals.len() as u64 * crowd.ms_each / u64::from(crowd.slots);
    // The pace is known to some percent.
    assert!(course.end_ms <= work_ms + work_ms / 12, "slots were idle: {} ms", course.end_ms);
}

/// It is not known how often places become free, so the first ones are told a guess.
#[test]
fn a_crowd_is_served_also_if_it_is_the_first() {
    let crowd = busy_then_crowd(0, 1_000);
    let course = Simulation::new(&crowd).run();
    assert_eq!(course.served.len(), 1_000);
    assert!(course.denials.iter().all(|denials| *denials <= 4), "{:?}", course.denials);
    assert!(course.end_ms <= 28_000, "slots were idle: {} ms", course.end_ms);
}

const NONE: Claim<'static> = Claim { holder: HOLDER, ticket: None };

fn with(ticket: TicketId) -> Claim<'static> {
    Claim { holder: HOLDER, ticket: Some(ticket) }
}

fn request(tenant: &str) -> Entrant {
    Entrant {
        class: PriorityClass::Standard,
        tenant: tenant.into(),
        upstreams: UpstreamSet::of([0]),
        tokens: 1,
    }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

/// One slot, and room for so many that wait.
fn queue(max_length: usize, max_wait: Duration) -> Queue {
    let capacity = Capacity { max_concurrency: 1, max_tokens: 100 };
    Queue::new([capacity], QueueConfig { max_length, max_wait, comment_after: None })
}

impl Queue {
    fn must_wait(&mut self, tenant: &str, claim: Claim<'_>, now: Timestamp) -> Number {
        match self.arrive(request(tenant), claim, now) {
            Arrival::Waits { number, displaced: None } => number,
            other => panic!("{other:?}"),
        }
    }

    fn must_be_denied(&mut self, tenant: &str, claim: Claim<'_>, now: Timestamp) -> Busy {
        match self.arrive(request(tenant), claim, now) {
            Arrival::Denied(busy) => busy,
            other => panic!("{other:?}"),
        }
    }

    fn free(&mut self, now: Timestamp) -> Option<Number> {
        self.scheduler.release(0, 1, now);
        self.scheduler.admit_next().map(|(number, _)| number)
    }
}

const LONG: Duration = Duration::from_hours(1);

#[test]
fn whoever_comes_back_is_before_whoever_arrived_later() {
    let mut queue = queue(1, LONG);
    assert_eq!(queue.arrive(request("a"), NONE, at(0)), Arrival::Admitted(0));
    let second = queue.must_wait("a", NONE, at(0));
    let third = queue.must_be_denied("a", NONE, at(0));
    assert_eq!(third.retry_after, Duration::from_secs(1), "nothing is known yet");
    assert_eq!(queue.free(at(10)), Some(second));
    let fourth = queue.must_wait("a", NONE, at(20));
    // The queue is full, but of one that arrived later.
    let back = queue.arrive(request("a"), with(third.ticket.unwrap()), at(1_000));
    let Arrival::Waits { number: back, displaced } = back else { panic!("{back:?}") };
    assert!(second < back && back < fourth && displaced == Some(fourth));
    assert_eq!((queue.free(at(1_100)), queue.free(at(1_200))), (Some(back), None));
    assert_eq!(
        queue.ticket_counts(at(1_200)),
        TicketCounts { issued: 1, used: 1, ..TicketCounts::default() }
    );
}

#[test]
fn a_ticket_counts_once_in_time_and_for_its_holder() {
    let mut queue = queue(1, LONG);
    queue.arrive(request("a"), NONE, at(0));
    let second = queue.must_wait("a", NONE, at(0));
    let tickets: Vec<_> =
        (0..3).map(|_| queue.must_be_denied("a", NONE, at(0)).ticket.unwrap()).collect();
    let early = queue.must_be_denied("a", with(tickets[0]), at(400));
    assert_eq!((early.ticket, early.retry_after), (Some(tickets[0]), Duration::from_millis(600)));
    assert_eq!(queue.free(at(900)), Some(second));
    let first_back = queue.must_wait("a", with(tickets[0]), at(1_000));
    for holder in [Holder { api_key: "l", ..HOLDER }, Holder { target: "n", ..HOLDER }] {
        queue.must_be_denied("a", Claim { holder, ..with(tickets[1]) }, at(2_000));
    }
    queue.must_be_denied("a", with(tickets[0]), at(2_000));
    assert_eq!(queue.free(at(30_900)), Some(first_back));
    queue.must_wait("a", with(tickets[1]), at(30_999));
    queue.must_be_denied("a", with(tickets[2]), at(31_100));
    let counts = queue.ticket_counts(at(31_100));
    assert_eq!((counts.used, counts.early, counts.ignored), (2, 1, 4));
}

#[test]
fn whoever_comes_early_takes_a_place_that_nobody_waits_for() {
    let mut queue = queue(1, LONG);
    queue.arrive(request("a"), NONE, at(0));
    let second = queue.must_wait("a", NONE, at(0));
    let ticket = queue.must_be_denied("a", NONE, at(0)).ticket.unwrap();
    assert_eq!((queue.free(at(10)), queue.free(at(20))), (Some(second), None));
    assert_eq!(queue.arrive(request("a"), with(ticket), at(30)), Arrival::Admitted(0));
    assert_eq!(queue.ticket_counts(at(30)).used, 1);
}

#[test]
fn whoever_waited_too_long_keeps_the_number() {
    let mut queue = queue(10, LONG);
    queue.arrive(request("a"), NONE, at(0));
    let second = queue.must_wait("a", NONE, at(0));
    let third = queue.must_wait("a", NONE, at(0));
    let busy = queue.waited_too_long(second, spot(&request("a")), HOLDER, at(5_000));
    let back = queue.must_wait("a", with(busy.ticket.unwrap()), at(6_000));
    assert_eq!(
        (back, queue.free(at(6_100)), queue.free(at(6_200))),
        (second, Some(second), Some(third))
    );
}

#[test]
fn a_tenant_does_not_wait_for_all_requests_of_another() {
    let mut queue = queue(100, Duration::from_secs(10));
    queue.arrive(request("a"), NONE, at(0));
    for _ in 0..50 {
        queue.must_wait("a", NONE, at(0));
    }
    for turn in 1..=5 {
        queue.free(at(turn * 1_000));
    }
    // 45 of `a` wait, at one a second. Its next one would be the 46th; one of `b` is the second.
    assert_eq!(queue.must_be_denied("a", NONE, at(5_000)).retry_after, Duration::from_secs(45));
    queue.must_wait("b", NONE, at(5_000));
}

#[test]
fn there_are_no_tickets_where_nobody_waits() {
    for (max_length, max_wait) in [(0, LONG), (10, Duration::ZERO)] {
        let mut queue = queue(max_length, max_wait);
        queue.arrive(request("a"), NONE, at(0));
        let busy = Busy { retry_after: MIN_RETRY_AFTER, ticket: None };
        assert_eq!(queue.must_be_denied("a", NONE, at(0)), busy);
    }
}

mod order;
