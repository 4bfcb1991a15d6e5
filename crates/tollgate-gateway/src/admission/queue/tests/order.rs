//! A full queue keeps those that its order serves first, with and without tickets.

use std::collections::HashSet;

use super::*;

/// Clients that send one request after the other before one upstream, in virtual time.
#[derive(Clone, Copy, Debug)]
struct Clients {
    count: usize,
    class: PriorityClass,
    tenant: &'static str,
    /// They send their tickets back. All of them wait as long as they are told.
    bring_tickets: bool,
}

/// What the clients of one line of [`Clients`] got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Got {
    answers: u64,
    denials: u64,
    /// The shortest time after which one was told to come back.
    shortest_wait_ms: Option<u64>,
}

/// Serves each of `lines` for 20 s: four slots, 300 ms for each request, ten that wait.
fn serve(lines: &[Clients]) -> Vec<Got> {
    const MAX_LENGTH: usize = 10;
    let capacity = Capacity { max_concurrency: 4, max_tokens: 1_000 };
    let max_wait = Duration::from_secs(10);
    let bounds = QueueConfig { max_length: MAX_LENGTH, max_wait, comment_after: None };
    let mut queue = Queue::new([capacity], bounds);
    let clients: Vec<usize> =
        lines.iter().enumerate().flat_map(|(line, it)| vec![line; it.count]).collect();
    let entrant = |who: usize| {
        let Clients { class, tenant, .. } = lines[clients[who]];
        Entrant { class, tenant: tenant.into(), upstreams: UpstreamSet::of([0]), tokens: 1 }
    };
    let mut got = vec![Got::default(); lines.len()];
    let mut tickets = vec![None; clients.len()];
    let mut waiting: HashMap<Number, usize> = HashMap::new();
    // Who comes, or whose request ends.
    let mut events: BinaryHeap<Reverse<(u64, bool, usize)>> =
        (0..clients.len()).map(|who| Reverse((who as u64, true, who))).collect();
    while let Some(Reverse((now_ms, comes, who))) = events.pop()
        && now_ms < 20_000
    {
        let now = at(now_ms);
        let mut denied = None;
        if comes {
            let claim = Claim { holder: HOLDER, ticket: tickets[who].take() };
            match queue.arrive(entrant(who), claim, now) {
                Arrival::Admitted(_) => events.push(Reverse((now_ms + 300, false, who))),
                Arrival::Waits { number, displaced } => {
                    waiting.insert(number, who);
                    denied = displaced.map(|number| {
                        let who = waiting.remove(&number).unwrap();
                        (who, queue.was_displaced(number, spot(&entrant(who)), HOLDER, now))
                    });
                }
                Arrival::Denied(busy) => denied = Some((who, busy)),
            }
        } else {
            got[clients[who]].answers += 1;
            queue.scheduler.release(0, 1, now);
            events.push(Reverse((now_ms, true, who)));
        }
        if let Some((who, busy)) = denied {
            let got = &mut got[clients[who]];
            let wait_ms = u64::try_from(busy.retry_after.as_millis()).unwrap();
            got.denials += 1;
            got.shortest_wait_ms = Some(got.shortest_wait_ms.unwrap_or(u64::MAX).min(wait_ms));
            tickets[who] = busy.ticket.filter(|_| lines[clients[who]].bring_tickets);
            events.push(Reverse((now_ms + wait_ms, true, who)));
        }
        while let Some((number, _)) = queue.scheduler.admit_next() {
            let who = waiting.remove(&number).unwrap();
            events.push(Reverse((now_ms + 300, false, who)));
        }
        assert!(waiting.len() <= MAX_LENGTH);
    }
    got
}

fn clients(count: usize, class: PriorityClass, tenant: &'static str) -> Clients {
    Clients { count, class, tenant, bring_tickets: false }
}

fn with_tickets(count: usize, class: PriorityClass, tenant: &'static str) -> Clients {
    Clients { bring_tickets: true, ..clients(count, class, tenant) }
}

/// Each of the two is served for 300 ms and waits for at most as long, so they get 66 answers or more.
#[test]
fn a_crowd_of_a_lower_class_does_not_fill_the_queue_for_a_higher_one() {
    use PriorityClass::{Batch, Premium};
    for crowd in [clients(60, Batch, "crowd"), with_tickets(60, Batch, "crowd")] {
        let got = serve(&[crowd, clients(2, Premium, "premium")]);
        assert!(got[1].denials == 0 && got[1].answers >= 60, "{got:?}");
        assert!(got[0].answers >= 120, "the other slots are not idle: {got:?}");
    }
}

#[test]
fn tickets_of_one_tenant_do_not_fill_the_queue_for_another() {
    use PriorityClass::Standard;
    for crowd in [clients(60, Standard, "crowd"), with_tickets(60, Standard, "crowd")] {
        let got = serve(&[crowd, clients(5, Standard, "other")]);
        let all = got[0].answers + got[1].answers;
        assert!(got[1].answers * 100 >= all * 40, "tenants take turns: {got:?}");
        assert!(got[1].denials * 10 <= got[1].answers, "{got:?}");
    }
}

#[test]
fn nobody_is_told_to_come_back_at_once() {
    use PriorityClass::{Batch, Standard};
    let got = serve(&[with_tickets(60, Batch, "a"), clients(60, Standard, "b")]);
    assert!(got.iter().all(|got| got.shortest_wait_ms >= Some(50)), "{got:?}");
}

fn of(class: PriorityClass, tenant: &str) -> Entrant {
    Entrant { class, ..request(tenant) }
}

/// Who is in a full queue, in the order of arrival, and who arrives; the result is whose place it takes.
#[test]
fn a_request_takes_the_place_of_the_one_that_would_be_served_last() {
    use PriorityClass::{Batch, Internal, Premium, Standard};
    type Who = (PriorityClass, &'static str);
    #[rustfmt::skip]
    let cases: [(&[Who], Who, Option<usize>); 10] = [
        // The lowest class first, whoever has most in the others.
        (&[(Batch, "a"), (Standard, "b"), (Standard, "b")], (Standard, "c"), Some(0)),
        (&[(Batch, "a"), (Premium, "b"), (Batch, "a")], (Internal, "c"), Some(2)),
        (&[(Standard, "a"), (Standard, "a")], (Batch, "b"), None),
        // A tenant may be in two classes.
        (&[(Batch, "a"), (Batch, "b"), (Batch, "b")], (Premium, "a"), Some(2)),
        // Within a class, whoever has most, and of it whoever arrived last.
        (&[(Standard, "a"), (Standard, "a"), (Standard, "b")], (Standard, "c"), Some(1)),
        (&[(Standard, "a"), (Standard, "a"), (Standard, "a"), (Standard, "b")], (Standard, "b"), Some(2)),
        // Not if it would then have fewer than the other.
        (&[(Standard, "a"), (Standard, "a"), (Standard, "b")], (Standard, "b"), None),
        (&[(Standard, "a"), (Standard, "b")], (Standard, "c"), None),
        (&[(Standard, "a"), (Standard, "a")], (Standard, "a"), None),
        // Of two that have equally many, the one whose turn is last.
        (&[(Standard, "a"), (Standard, "a"), (Standard, "b"), (Standard, "b")], (Standard, "c"), Some(3)),
    ];
    for (full, newcomer, expected) in cases {
        let mut queue = queue(full.len(), LONG);
        queue.arrive(request("running"), NONE, at(0));
        let numbers: Vec<_> = full
            .iter()
            .map(|(class, tenant)| match queue.arrive(of(*class, tenant), NONE, at(0)) {
                Arrival::Waits { number, displaced: None } => number,
                other => panic!("{other:?}"),
            })
            .collect();
        let arrived = queue.arrive(of(newcomer.0, newcomer.1), NONE, at(0));
        let taken = match arrived {
            Arrival::Waits { displaced, .. } => displaced,
            Arrival::Denied(_) => None,
            Arrival::Admitted(_) => panic!("{newcomer:?} is admitted"),
        };
        let expected = expected.map(|place| numbers[place]);
        assert_eq!(taken, expected, "{full:?}, {newcomer:?}");
        assert_eq!(queue.scheduler.waiting(), full.len());
    }
}

/// What each class and tenant has in the queue does not depend on who holds tickets.
#[test]
fn a_ticket_keeps_a_place_only_within_its_tenant_and_class() {
    let mut queue = queue(2, LONG);
    queue.arrive(request("running"), NONE, at(0));
    let first = [queue.must_wait("a", NONE, at(0)), queue.must_wait("a", NONE, at(0))];
    let third = queue.must_be_denied("a", NONE, at(0)).ticket.unwrap();
    let other = queue.must_be_denied("a", NONE, at(0)).ticket.unwrap();
    assert_eq!((queue.free(at(10)), queue.free(at(20))), (Some(first[0]), Some(first[1])));
    let fifth = queue.must_wait("a", NONE, at(30));
    queue.must_wait("b", NONE, at(30));
    // It takes the place of a later one of its own tenant.
    let Arrival::Waits { number, displaced } = queue.arrive(request("a"), with(third), at(1_100))
    else {
        panic!("it arrived before the fifth")
    };
    assert!(displaced == Some(fifth) && number < fifth);
    let told = queue.was_displaced(fifth, spot(&request("a")), HOLDER, at(1_100));
    assert!(told.ticket.is_some() && told.retry_after >= MIN_TICKET_WAIT);
    // The other one is later than the third, and `b` has as many.
    let again = queue.must_be_denied("a", with(other), at(1_100));
    assert!(again.ticket.is_some_and(|ticket| ticket != other));
    // Those of a tenant that floods make way for another class, whatever tickets they had.
    let premium = queue.arrive(of(PriorityClass::Premium, "c"), NONE, at(1_200));
    assert!(matches!(premium, Arrival::Waits { displaced: Some(_), .. }), "{premium:?}");
}

/// Two that took each other's place in turn would never be served.
#[test]
fn nobody_takes_back_a_place() {
    let mut queue = queue(3, LONG);
    queue.arrive(request("running"), NONE, at(0));
    let mut seen = HashSet::new();
    for _ in 0..3 {
        queue.must_wait("a", NONE, at(0));
    }
    let Arrival::Waits { displaced: Some(number), .. } = queue.arrive(request("b"), NONE, at(0))
    else {
        panic!("`a` has two more")
    };
    let mut ticket = queue.was_displaced(number, spot(&request("a")), HOLDER, at(0)).ticket;
    for round in 1..5 {
        let busy = queue.must_be_denied("a", with(ticket.unwrap()), at(round * 5_000));
        queue.must_be_denied("b", NONE, at(round * 5_000));
        assert!(seen.insert(busy.ticket));
        ticket = busy.ticket;
    }
}
