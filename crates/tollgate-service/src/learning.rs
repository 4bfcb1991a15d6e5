//! What a reservation asks for without naming it, and what settlements teach about that.

use tollgate_core::{Amount, Attribute, Check, Cost, LeaseUpdate, Mode, PolicySet, Quality, Unit};
use tollgate_store::{Effect, LeaseState, LeaseStatus, Store};

use crate::learned::Answers;
use crate::lease_note::LeaseNote;
use crate::rate_limit::RateLimitService;

impl<S: Store> RateLimitService<S> {
    /// The cost of `check` with what it does not name; `None` if it names everything that policies reserve.
    pub(crate) fn asked(
        &self,
        policies: &PolicySet,
        check: &Check<'_>,
        input_bytes: u64,
    ) -> Option<Cost> {
        let is_missing = |unit: &&Unit| !check.cost.names(unit);
        let needs_input = input_bytes > 0 && is_missing(&&Unit::InputTokens);
        if !needs_input && !policies.reserved_units().iter().any(|unit| is_missing(&unit)) {
            return None;
        }
        let id = |attribute| check.subject.get(&attribute).map(str::to_owned);
        let answers = Answers { model: id(Attribute::Model), tenant: id(Attribute::Tenant) };
        let mut cost = check.cost.clone();
        if needs_input {
            cost.set(Unit::InputTokens, self.learned().input_tokens(&answers, input_bytes));
        }
        // A shadow policy must not make an enforced one deny (R10).
        let charges = policies.plan(check);
        let enforced = charges.iter().filter(|charge| charge.limit.mode() == Mode::Enforce);
        for (unit, rule) in enforced.flat_map(|charge| charge.limit.reserve()) {
            if is_missing(&unit) {
                let quantile = rule.quantile.as_f64();
                let amount = rule.amount(self.learned().quantile(&answers, unit, quantile));
                cost.set(unit.clone(), cost.of(unit).max(amount));
            }
        }
        Some(cost)
    }

    /// Learns from a settlement that says exactly what was used.
    pub(crate) fn learn(&self, update: &LeaseUpdate, state: &LeaseState) {
        let LeaseUpdate::Settle { usage, quality: Quality::Exact, .. } = update else { return };
        let is_first = matches!(state.was, LeaseStatus::Live | LeaseStatus::Expired);
        let (Effect::Changed, true) = (state.effect, is_first) else { return };
        let snapshot = self.policies().current();
        let reserved = snapshot.policies().reserved_units();
        let also = self.learned_units();
        if reserved.is_empty() && also.is_empty() && usage.of(&Unit::InputTokens).is_none() {
            return;
        }
        let Some(note) = LeaseNote::parse(&state.note) else { return };
        let answers = note.answers();
        let teaches = |(unit, amount): &(&Unit, Amount)| {
            // Without output there was no answer.
            let is_none = **unit == Unit::OutputTokens && *amount == Amount::ZERO;
            !is_none && (reserved.contains(unit) || also.contains(unit))
        };
        for (unit, amount) in usage.amounts().filter(teaches) {
            self.learned().observe(&answers, unit, amount);
        }
        if let Some(tokens) = usage.of(&Unit::InputTokens) {
            self.learned().observe_input(&answers, note.input_bytes, tokens);
        }
    }
}
