use proptest::prelude::*;

use super::*;
use crate::admission::scheduler::{Capacity, Entrant, Scheduler};

const HOLDERS: [Holder<'static>; 3] = [
    Holder { api_key: "k", target: "m" },
    Holder { api_key: "k", target: "n" },
    Holder { api_key: "l", target: "m" },
];

fn spot(tenant: u8, set: usize) -> Spot {
    Spot {
        class: PriorityClass::Standard,
        tenant: format!("t{tenant}").into(),
        upstreams: UpstreamSet::of([set]),
    }
}

/// Numbers in the order of arrival.
fn numbers(count: usize) -> Vec<Number> {
    let mut scheduler = Scheduler::new([Capacity { max_concurrency: 1, max_tokens: 1 }]);
    let spot = spot(0, 0);
    let entrant = || Entrant {
        class: spot.class,
        tenant: Arc::clone(&spot.tenant),
        upstreams: spot.upstreams,
        tokens: 1,
    };
    (0..count).map(|_| scheduler.arrive(entrant())).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Issue { holder: usize, tenant: u8, set: usize, after_ms: u64 },
    Show { which: usize, holder: usize },
    Withdraw { which: usize },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..3_u8, 0..2_usize, 0..40_000_u64).prop_map(
            |(holder, tenant, set, after_ms)| Step::Issue { holder, tenant, set, after_ms }
        ),
        4 => (any::<usize>(), 0..3_usize).prop_map(|(which, holder)| Step::Show { which, holder }),
        1 => any::<usize>().prop_map(|which| Step::Withdraw { which }),
        3 => (0..20_000_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// A ticket in the model: a list of these, searched from the beginning.
#[derive(Clone, Debug)]
struct Known {
    id: TicketId,
    holder: usize,
    spot: Spot,
    number: Number,
    due_ms: u64,
}

proptest! {
    /// As a plain list of tickets does it.
    #[test]
    fn tickets_are_kept_as_the_model_keeps_them(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let numbers = numbers(steps.len());
        let mut tickets = Tickets::default();
        let (mut model, mut counts): (Vec<Known>, _) = (Vec::new(), TicketCounts::default());
        let (mut now_ms, mut issued) = (0, Vec::new());
        for (step, number) in steps.into_iter().zip(numbers) {
            let now = Timestamp::from_ms(now_ms);
            match step {
                Step::Issue { holder, tenant, set, after_ms } => {
                    let (id, due_ms) = (TicketId(issued.len() as u128), now_ms + after_ms);
                    let spot = spot(tenant, set);
                    let due = Timestamp::from_ms(due_ms);
                    prop_assert!(tickets.issue(id, HOLDERS[holder], spot.clone(), number, due));
                    model.push(Known { id, holder, spot, number, due_ms });
                    issued.push(id);
                    counts.issued += 1;
                }
                Step::Show { which, holder } if !issued.is_empty() => {
                    let id = issued[which % issued.len()];
                    let place = model.iter().position(|it| it.id == id && it.holder == holder);
                    let expected = match place.map(|place| (place, model[place].clone())) {
                        None => {
                            counts.ignored += 1;
                            Shown::Worthless
                        }
                        Some((_, it)) if it.due_ms > now_ms => {
                            Shown::Early(it.number, Duration::from_millis(it.due_ms - now_ms))
                        }
                        Some((place, it)) => {
                            model.remove(place);
                            counts.used += 1;
                            Shown::Due(it.number)
                        }
                    };
                    prop_assert_eq!(tickets.show(id, HOLDERS[holder], now), expected);
                }
                Step::Withdraw { which } if !issued.is_empty() => {
                    let id = issued[which % issued.len()];
                    let before = model.len();
                    model.retain(|it| it.id != id);
                    counts.expired += (before - model.len()) as u64;
                    tickets.withdraw(id);
                }
                Step::Wait { ms } => {
                    now_ms += ms;
                    let before = model.len();
                    model.retain(|it| now_ms < it.due_ms + 30_000);
                    counts.expired += (before - model.len()) as u64;
                }
                _ => {}
            }
            tickets.advance(Timestamp::from_ms(now_ms));
            prop_assert_eq!(tickets.counts(), counts);
            prop_assert_eq!(tickets.entries.len(), model.len());
            for set in 0..2 {
                let upstreams = UpstreamSet::of([set]);
                let line = |of: &mut dyn Iterator<Item = &Known>| {
                    let coming = of.filter(|it| it.due_ms > now_ms && it.spot.upstreams == upstreams);
                    let coming: Vec<_> = coming.collect();
                    (coming.len() as u64, coming.iter().filter(|it| it.number < number).count() as u64)
                };
                for tenant in 0..3_u8 {
                    let spot = spot(tenant, set);
                    let mut same = model.iter().filter(|it| it.spot == spot);
                    let found = tickets.lines(number, upstreams).find(|it| *it.tenant == spot.tenant);
                    let found = found.map_or((0, 0), |it| (it.length, it.before));
                    prop_assert_eq!(found, line(&mut same));
                }
            }
        }
        // When all have expired, nothing is kept.
        tickets.advance(Timestamp::from_ms(now_ms + 70_000));
        prop_assert!(tickets.entries.is_empty() && tickets.of_tenants.is_empty());
        prop_assert!(tickets.coming.is_empty() && tickets.coming_to.is_empty() && tickets.due.is_empty());
    }
}

#[test]
fn a_tenant_gets_at_most_as_many_as_are_free() {
    let number = numbers(1)[0];
    let mut tickets = Tickets::default();
    let mut next = 0;
    let mut fill = |tenant| {
        (0..MAX_TICKETS)
            .take_while(|_| {
                next += 1;
                let due = Timestamp::from_ms(next);
                tickets.issue(TicketId(next.into()), HOLDERS[0], spot(tenant, 0), number, due)
            })
            .count()
    };
    assert_eq!((fill(0), fill(1), fill(2)), (5_000, 2_500, 1_250));
    // Nobody has more because another tenant came.
    assert_eq!(fill(0), 0);
    assert_eq!(tickets.entries.len(), 8_750);
}

#[test]
fn a_name_is_32_hexadecimal_digits() {
    let id = TicketId::random().unwrap();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(TicketId(10).to_string(), "0000000000000000000000000000000a");
    for wrong in ["", "a", "+000000000000000000000000000000a", &"g".repeat(32), &"0".repeat(33)] {
        assert_eq!(wrong.parse::<TicketId>(), Err(NotATicket), "{wrong}");
    }
}
