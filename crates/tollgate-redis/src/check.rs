//! One check: grouped by the slots of its limits, each group decided by one script, all charged or none (R3).

use redis::Value;
use smallvec::SmallVec;
use tollgate_core::algorithm::Verdict;
use tollgate_core::{Amount, Charge, Clock, Mode};
use tollgate_store::{StoreError, StoreErrorKind, Verdicts, key_bytes};

use crate::call::Progress;
use crate::key::slot;
use crate::script::{CHARGE, SETTLE};
use crate::store::RedisStore;
use crate::wire::{self, Answer, Ask, EntryId, Said};

/// The limits of one check that lie in one slot.
struct Group {
    slot: u16,
    /// Their places in the check.
    places: SmallVec<[usize; 4]>,
    keys: Vec<String>,
    once_key: Option<String>,
}

impl RedisStore {
    /// Asks group after group; what was charged before one refuses is taken back.
    pub(crate) async fn charge_groups(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
        progress: &Progress,
    ) -> Result<Verdicts, StoreError> {
        let groups = self.groups(charges, request_id);
        let mut said: Vec<Option<Said>> = vec![None; charges.len()];
        let mut refused = false;
        for (number, group) in groups.iter().enumerate() {
            let answer = self.ask(group, charges, !refused, progress).await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    let to_give_back = groups[..number].iter().filter(|_| !refused);
                    drop(self.give_back(to_give_back, charges, &said));
                    return Err(error);
                }
            };
            for (place, one) in group.places.iter().zip(answer) {
                said[*place] = Some(one);
                let enforced = charges[*place].limit.mode() == Mode::Enforce;
                if enforced && !one.before.allowed && !refused {
                    refused = true;
                    if let Some(refund) = self.give_back(groups[..number].iter(), charges, &said) {
                        // A task that failed leaves what was charged until it leaves its window.
                        let _ = refund.await;
                    }
                }
            }
        }
        Ok(said
            .into_iter()
            .flatten()
            .map(|one| if refused || !one.before.allowed { one.before } else { one.after })
            .collect())
    }

    /// What [`RedisStore::charge_groups`] would say now; changes nothing.
    pub(crate) async fn peek_groups(
        &self,
        charges: &[Charge<'_>],
        progress: &Progress,
    ) -> Result<Verdicts, StoreError> {
        let mut said: Vec<Option<Said>> = vec![None; charges.len()];
        for group in self.groups(charges, None) {
            let answer = self.ask(&group, charges, false, progress).await?;
            for (place, one) in group.places.iter().zip(answer) {
                said[*place] = Some(one);
            }
        }
        Ok(said.into_iter().flatten().map(|one| one.before).collect())
    }

    /// Takes back what was charged to `groups`, in a task of its own: it goes on when the call has no more
    /// time. Until then a rival check may be refused, never admitted too much.
    fn give_back<'g>(
        &self,
        groups: impl Iterator<Item = &'g Group>,
        charges: &[Charge<'_>],
        said: &[Option<Said>],
    ) -> Option<tokio::task::JoinHandle<()>> {
        let mut calls = Vec::new();
        for group in groups {
            for (key, place) in group.keys.iter().zip(&group.places) {
                let (charge, Some(one)) = (&charges[*place], said[*place]) else { continue };
                if !one.before.allowed || charge.cost == Amount::ZERO {
                    continue;
                }
                let keys = (key.clone(), group.once_key.clone());
                let arguments = self.settlement(charge, one.id, Amount::ZERO);
                calls.push((group.slot, keys, arguments));
            }
        }
        let store = (!calls.is_empty()).then(|| self.clone())?;
        Some(tokio::spawn(async move {
            for (slot, keys, arguments) in calls {
                let progress = Progress::default();
                let keys: SmallVec<[&str; 2]> =
                    std::iter::once(&keys.0).chain(&keys.1).map(String::as_str).collect();
                let call = store.run::<i64>(&SETTLE, slot, &keys, &arguments, &progress);
                // What could not be taken back leaves with its window.
                let _ = tokio::time::timeout(store.deadline, call).await;
            }
        }))
    }

    /// Charges `checks`, at most [`wire::MAX_CHECKS`] of which no two need different servers, in one script call: one
    /// after the other, each with what its admissions can be changed by.
    #[doc(hidden)]
    pub async fn charge_many_with_ids(
        &self,
        checks: &[&[Charge<'_>]],
    ) -> Result<Vec<Vec<(Verdict, EntryId)>>, StoreError> {
        let test = self.test_clock.as_ref().map(Clock::now);
        let hint = self.hint.now();
        let asks: Vec<_> = checks
            .iter()
            .map(|charges| Ask { charges, charging: true, once: None, not_after: None })
            .collect();
        let keys: Vec<String> = checks
            .iter()
            .flat_map(|charges| charges.iter().map(|charge| self.keys.of_charge(charge)))
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let slot = keys.first().map_or(0, |key| slot(key));
        let arguments = [wire::request(&asks, test, hint)];
        let progress = Progress::default();
        let call = self.run::<Value>(&CHARGE, slot, &keys, &arguments, &progress);
        let answers = match self.in_time(&progress, true, call).await? {
            Value::Array(answers) => answers,
            answer => vec![answer],
        };
        let read = answers.iter().zip(checks).map(|(answer, charges)| match answer {
            Value::BulkString(bytes) => match wire::answer(bytes, charges) {
                Some(Answer::Said(said)) => Ok(with_ids(&said, charges)),
                other => Err(StoreError::new(StoreErrorKind::Unexpected, format!("{other:?}"))),
            },
            other => Err(StoreError::new(StoreErrorKind::Unexpected, format!("{other:?}"))),
        });
        read.collect()
    }

    /// Changes what one admission was charged: `false` if it is not there any more.
    #[doc(hidden)]
    pub async fn settle(
        &self,
        charge: &Charge<'_>,
        id: EntryId,
        new_cost: Amount,
    ) -> Result<bool, StoreError> {
        let key = self.keys.of_charge(charge);
        let arguments = self.settlement(charge, id, new_cost);
        let (slot, progress) = (slot(&key), Progress::default());
        let keys = [key.as_str()];
        let call = self.run::<i64>(&SETTLE, slot, &keys, &arguments, &progress);
        Ok(self.in_time(&progress, true, call).await? == 1)
    }

    fn settlement(&self, charge: &Charge<'_>, id: EntryId, new_cost: Amount) -> [Vec<u8>; 3] {
        [
            wire::settlement(id, charge.cost, new_cost),
            self.channel().into_bytes(),
            key_bytes(charge.limit, charge.subject),
        ]
    }

    fn groups(&self, charges: &[Charge<'_>], request_id: Option<&str>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        for (place, charge) in charges.iter().enumerate() {
            let key = self.keys.of_charge(charge);
            let slot = if self.topology.is_cluster() { slot(&key) } else { 0 };
            match groups.iter_mut().find(|group| group.slot == slot) {
                Some(group) => {
                    group.places.push(place);
                    group.keys.push(key);
                }
                None => groups.push(Group {
                    slot,
                    places: SmallVec::from_slice(&[place]),
                    keys: vec![key],
                    once_key: None,
                }),
            }
        }
        if let Some(request_id) = request_id {
            let all: Vec<_> = charges.iter().map(|charge| self.keys.of_charge(charge)).collect();
            for group in &mut groups {
                let key = self.keys.of_request(request_id, &all, &group.keys[0]);
                group.once_key = Some(key);
            }
        }
        groups
    }

    /// Asks the script about one group.
    async fn ask(
        &self,
        group: &Group,
        charges: &[Charge<'_>],
        charging: bool,
        progress: &Progress,
    ) -> Result<Vec<Said>, StoreError> {
        let once_key = group.once_key.as_ref().filter(|_| charging);
        let longest = charges.iter().map(|charge| charge.limit.window()).max();
        let once = once_key.and(longest);
        let test = self.test_clock.as_ref().map(Clock::now);
        let hint = self.hint.now();
        let of_group: SmallVec<[Charge<'_>; 4]> =
            group.places.iter().map(|place| charges[*place]).collect();
        let check = Ask { charges: &of_group, charging, once, not_after: None };
        let arguments = [wire::request(&[check], test, hint)];
        let keys: SmallVec<[&str; 4]> =
            group.keys.iter().chain(once_key).map(String::as_str).collect();
        let bytes: Vec<u8> = self.run(&CHARGE, group.slot, &keys, &arguments, progress).await?;
        let context = match wire::answer(&bytes, &of_group) {
            Some(Answer::Said(said)) => return Ok(said),
            Some(Answer::Late) => {
                let context = "Redis ran the call after its deadline; nothing was charged";
                return Err(StoreError::new(StoreErrorKind::Unavailable, context));
            }
            Some(Answer::Error(reason)) => reason,
            None => "the script in Redis answered what this version does not understand".to_owned(),
        };
        let error = StoreError::new(StoreErrorKind::Unexpected, context);
        Err(if charging { error.after_send() } else { error })
    }
}

/// The verdicts of a check whose limits were all decided at once, with what its admissions can be changed by.
fn with_ids(said: &[Said], charges: &[Charge<'_>]) -> Vec<(Verdict, EntryId)> {
    let denies = |(one, charge): (&Said, &Charge<'_>)| {
        !one.before.allowed && charge.limit.mode() == Mode::Enforce
    };
    let refused = said.iter().zip(charges).any(denies);
    let verdict = |one: &Said| if refused || !one.before.allowed { one.before } else { one.after };
    said.iter().map(|one| (verdict(one), one.id)).collect()
}
