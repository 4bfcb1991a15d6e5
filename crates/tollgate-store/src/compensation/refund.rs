//! One refund, which is retried until the store answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{ChargeObserver, ChargedLimit, GroupedCheck};
use crate::{ChargeLeft, StoreError};

/// How often one refund is tried.
const MAX_ATTEMPTS: u32 = 4_096;
/// The first wait between two attempts; it doubles each time
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// up to this maximum, so a server that is available again is asked within it.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The longest wait for the answer to one attempt, or for a late answer to a charge. A stopped server answers when it
/// continues.
pub(super) const MAX_ANSWER_WAIT: Duration = Duration::from_mins(1);

/// How long the refund of a check with a request id is tried. If the same id is sent again, it uses the existing
/// charges, and a later refund must not remove them.
const REQUEST_ID_WAIT: Duration = Duration::from_secs(1);

/// One admission to refund. If it is dropped before it was refunded, it is counted as left.
pub(super) struct Refund<G: GroupedCheck> {
    check: Arc<G>,
    charged: ChargedLimit<G::Admission>,
    observer: ChargeObserver,
    /// The reason to report if the charge stays.
    left: Option<ChargeLeft>,
}

impl<G: GroupedCheck> Drop for Refund<G> {
    fn drop(&mut self) {
        if let Some(left) = self.left
            && let Some(observer) = &self.observer
        {
            observer.charge_left(left);
        }
    }
}

impl<G: GroupedCheck> Refund<G> {
    pub(super) fn new(
        check: Arc<G>,
        charged: ChargedLimit<G::Admission>,
        observer: ChargeObserver,
    ) -> Self {
        Self { check, charged, observer, left: Some(ChargeLeft::NotRefunded) }
    }

    /// Retries until the store has refunded it, it has left its window, or nobody knows whether it was refunded. In
    /// the last case, repeating a refund that may not be repeated could remove another check's charge.
    pub(super) async fn run(mut self) {
        let began = Instant::now();
        let ChargedLimit { life, may_be_repeated, .. } = self.charged;
        let give_up_after =
            if self.check.has_request_id() { REQUEST_ID_WAIT.min(life) } else { life };
        // Not less than a check waits, however short the window is: a store may close the connection of a call whose time
        // is up, and others use it.
        let patience = life.max(self.check.timeout()).min(MAX_ANSWER_WAIT);
        let mut wait = FIRST_WAIT;
        for _ in 0..MAX_ATTEMPTS {
            match self.check.refund(&self.charged.admission, patience).await {
                Ok(()) => {
                    self.left = None;
                    return;
                }
                Err(error) if error.may_have_charged() && !may_be_repeated => {
                    self.left = Some(ChargeLeft::AnswerLost);
                    return;
                }
                Err(error) if error.kind().concerns_one_check() => return,
                Err(_) if began.elapsed() >= life => {
                    // It has left its window.
                    self.left = None;
                    return;
                }
                Err(_) if began.elapsed() >= give_up_after => return,
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }
}

/// A charge of which nobody knows whether it was made. If it is dropped before that is known, it is counted as left.
pub(super) struct Unknown(ChargeObserver);

impl Unknown {
    pub(super) fn new(observer: ChargeObserver) -> Self {
        Self(observer)
    }

    /// It is known: returns the observer.
    pub(super) fn known(mut self) -> ChargeObserver {
        self.0.take()
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        if let Some(observer) = &self.0 {
            observer.charge_left(ChargeLeft::AnswerLost);
        }
    }
}

/// Counts a charge of which nobody knows whether it was made.
pub(super) fn left_unknown(error: &StoreError, observer: &ChargeObserver) {
    if error.may_have_charged() {
        drop(Unknown(observer.clone()));
    }
}
