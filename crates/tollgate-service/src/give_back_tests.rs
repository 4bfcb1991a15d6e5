use std::time::Duration;

use tollgate_catalog::SnapshotReader;
use tollgate_core::{Charge, ManualClock, Per, Policy, PolicySet, Subject, Window};
use tollgate_store::memory::MemoryStoreOptions;
use tollgate_store::{Charged, MemoryStore};

use super::*;

type Service = RateLimitService<MemoryStore<ManualClock>>;

fn policy(id: &str, limit: u64) -> Policy {
    let window = Window::new(Duration::from_mins(1)).unwrap();
    let per = Per::from_scope("USER").unwrap();
    Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(limit), window)
}

fn service(policies: Vec<Policy>) -> (Service, ManualClock) {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
    let set = PolicySet::exactly(policies).unwrap();
    (RateLimitService::new(store, SnapshotReader::fixed(set)), clock)
}

fn named(id: &'static str, hits: u64) -> Check<'static> {
    let cost = Cost::one_request().with(Unit::Requests, Amount::new(hits).unwrap());
    Check::of(Subject::new("alice", "gpt-4")).at_cost(cost).with_request_id(id)
}

async fn charge(service: &Service, id: &'static str, hits: u64) -> bool {
    service.check_kept(&named(id, hits), Uncovered::Allow).await.unwrap().allowed
}

async fn give_back(service: &Service, id: &'static str, hits: u64) -> GivenBack {
    service.give_back(&named(id, hits)).await.unwrap()
}

async fn count(service: &Service) -> u64 {
    let peek = service.peek(&Check::new("alice", "gpt-4")).await.unwrap();
    peek.limits()[0].count
}

#[tokio::test]
async fn what_is_given_back_is_room_at_once_and_never_more_than_was_charged() {
    let (service, _) = service(vec![policy("user", 10)]);
    assert!(charge(&service, "a", 6).await && charge(&service, "b", 4).await);
    assert!(!charge(&service, "c", 1).await);
    assert_eq!(give_back(&service, "a", 2).await, GivenBack::Done);
    assert_eq!(count(&service).await, 8);
    assert!(charge(&service, "c", 2).await);
    assert_eq!(give_back(&service, "a", 3).await, GivenBack::Done);
    assert_eq!(count(&service).await, 7);
    assert_eq!(give_back(&service, "a", 100).await, GivenBack::Done);
    assert_eq!(count(&service).await, 6, "what b and c were charged stays");
}

#[tokio::test]
async fn an_unknown_request_id_gives_nothing_back() {
    let (service, _) = service(vec![policy("user", 3)]);
    assert!(charge(&service, "a", 3).await);
    assert!(!charge(&service, "denied", 1).await);
    for id in ["unknown", "denied"] {
        assert_eq!(give_back(&service, id, 1).await, GivenBack::NotFound, "{id}");
    }
    assert_eq!(count(&service).await, 3);
    assert_eq!(give_back(&service, "a", 1).await, GivenBack::Done);
    for id in ["unknown", "denied"] {
        assert_eq!(give_back(&service, id, 1).await, GivenBack::NotFound, "{id}");
    }
    assert_eq!(count(&service).await, 2, "looking for a charge leaves none");
}

/// R12: a charge that is sent again is charged once, also if something of it was given back.
#[tokio::test]
async fn a_repeated_charge_counts_once() {
    let (service, clock) = service(vec![policy("user", 10)]);
    assert!(charge(&service, "a", 6).await && charge(&service, "a", 6).await);
    assert_eq!(count(&service).await, 6);
    assert_eq!(give_back(&service, "a", 6).await, GivenBack::Done);
    assert!(charge(&service, "a", 6).await);
    assert_eq!(count(&service).await, 0);
    clock.advance(Duration::from_hours(2));
    assert!(charge(&service, "a", 6).await);
    assert_eq!(count(&service).await, 6);
}

#[tokio::test]
async fn giving_back_frees_the_slot() {
    let per = Per::from_scope("USER").unwrap();
    let slots = Policy::of_concurrency(PolicyId::new("slots").unwrap(), per, Amount::new(2));
    let (service, clock) = service(vec![slots]);
    assert!(charge(&service, "a", 1).await && charge(&service, "b", 1).await);
    clock.advance(Duration::from_mins(30));
    assert!(!charge(&service, "c", 1).await, "a long answer keeps its slot");
    assert_eq!(give_back(&service, "a", 1).await, GivenBack::Done);
    assert!(charge(&service, "c", 1).await);
    clock.advance(Duration::from_hours(1));
    assert!(
        charge(&service, "d", 1).await && charge(&service, "e", 1).await,
        "forgotten ones are free"
    );
}

#[tokio::test]
async fn recorded_costs_are_not_given_back() {
    let spent = Policy { over_limit: OverLimit::Charge, ..policy("spent", 5) };
    let (service, _) = service(vec![spent]);
    assert!(charge(&service, "a", 4).await);
    assert!(!charge(&service, "b", 4).await);
    assert_eq!(count(&service).await, 8, "R19");
    let refused = GivenBack::NotKept(PolicyId::new("spent").unwrap());
    assert_eq!(give_back(&service, "a", 4).await, refused);
    assert_eq!(count(&service).await, 8);
}

/// Where no limit counts by the user, the request id alone would name the charge of every user.
#[tokio::test]
async fn only_the_subject_that_was_charged_gets_something_back() {
    let everyone = Policy { per: Per::from_scope("GLOBAL").unwrap(), ..policy("everyone", 10) };
    let (service, _) = service(vec![everyone]);
    assert!(charge(&service, "a", 6).await);
    let cost = Cost::one_request().with(Unit::Requests, Amount::new(3).unwrap());
    let bob = |id: &'static str| {
        Check::of(Subject::new("bob", "gpt-4")).at_cost(cost.clone()).with_request_id(id)
    };
    assert_eq!(service.give_back(&bob("a")).await.unwrap(), GivenBack::NotFound);
    assert_eq!(count(&service).await, 6);
    assert!(service.check_kept(&bob("a"), Uncovered::Allow).await.unwrap().allowed);
    assert_eq!(count(&service).await, 9, "the same id of another subject is another charge");
    assert_eq!(service.give_back(&bob("a")).await.unwrap(), GivenBack::Done);
    assert_eq!(give_back(&service, "a", 2).await, GivenBack::Done);
    assert_eq!(count(&service).await, 4);
}

#[tokio::test]
async fn a_unit_that_was_not_charged_is_not_given_back() {
    let (service, _) = service(vec![policy("user", 10)]);
    assert!(charge(&service, "a", 6).await);
    let tokens = Cost::one_request().with(Unit::Requests, Amount::ZERO);
    let tokens = tokens.with(Unit::Tokens, Amount::new(2).unwrap());
    let tokens = named("a", 0).at_cost(tokens);
    let given_back = service.give_back(&tokens).await.unwrap();
    assert_eq!(given_back, GivenBack::NotCharged(Unit::Tokens));
    assert_eq!(count(&service).await, 6);
    assert_eq!(give_back(&service, "a", 2).await, GivenBack::Done);
}

/// A store without leases, such as memcached.
struct WithoutLeases(MemoryStore);

impl Store for WithoutLeases {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        Store::charge(&self.0, charges, request_id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        Store::peek(&self.0, charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        Store::reset(&self.0, limit, subject).await
    }
}

#[tokio::test]
async fn a_store_without_leases_says_so_and_is_not_asked() {
    let set = PolicySet::exactly(vec![policy("user", 10)]).unwrap();
    let store = WithoutLeases(MemoryStore::new());
    let service = RateLimitService::new(store, SnapshotReader::fixed(set));
    let kept = service.check_kept(&named("a", 6), Uncovered::Allow).await.unwrap();
    assert!(kept.allowed);
    assert_eq!(service.give_back(&named("a", 2)).await.unwrap(), GivenBack::NoLeases);
    let peek = service.peek(&Check::new("alice", "gpt-4")).await.unwrap();
    assert_eq!(peek.limits()[0].count, 6);
}
