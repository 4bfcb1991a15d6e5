//! What a policy counts of amounts by unit, in the model: the tokens of each kind times its weight.

use crate::{Amount, Cost, Policy, TokenKind, Totals, Unit};

/// What `policy` counts of `cost`.
pub(super) fn cost_of(policy: &Policy, cost: &Cost) -> u128 {
    let named: Vec<_> = cost.amounts().collect();
    counted(policy, &named).unwrap_or(0)
}

/// What `policy` counts of `totals`; `None` if they do not name its unit.
pub(super) fn total_of(policy: &Policy, totals: &Totals) -> Option<u128> {
    let named: Vec<_> = totals.amounts().collect();
    counted(policy, &named)
}

fn counted(policy: &Policy, named: &[(&Unit, Amount)]) -> Option<u128> {
    let of = |name: &str| {
        let found = named.iter().find(|(unit, _)| unit.name() == name);
        found.map(|(_, amount)| u128::from(amount.get()))
    };
    let all = of(policy.unit.name())?;
    if all == 0 || policy.weights.is_empty() {
        return Some(all);
    }
    let given = |kind: TokenKind| {
        let found = policy.weights.given().find(|(one, _)| *one == kind);
        found.map(|(_, weight)| u128::from(weight.thousandths()))
    };
    let cached = of("cached_input_tokens").unwrap_or(0);
    let written = of("cache_creation_input_tokens").unwrap_or(0);
    let reasoning = of("reasoning_tokens").unwrap_or(0);
    let input = of("input_tokens").unwrap_or(0).max(cached + written);
    let output = of("output_tokens").unwrap_or(0).max(reasoning);
    let is_of_all = policy.unit == Unit::Tokens;
    let input_weight = given(TokenKind::Input).filter(|_| is_of_all).unwrap_or(1_000);
    let output_weight = given(TokenKind::Output).filter(|_| is_of_all).unwrap_or(1_000);
    let cached_weight = given(TokenKind::CachedInput).unwrap_or(input_weight);
    let written_weight = given(TokenKind::CacheCreationInput).unwrap_or(input_weight);
    let reasoning_weight = given(TokenKind::Reasoning).unwrap_or(output_weight);
    let of_input = cached * cached_weight + written * written_weight;
    let of_output = reasoning * reasoning_weight;
    let thousandths = match policy.unit {
        Unit::Tokens => {
            all.saturating_sub(input + output) * 1_000
                + (input - cached - written) * input_weight
                + of_input
                + (output - reasoning) * output_weight
                + of_output
        }
        Unit::InputTokens => all.saturating_sub(cached + written) * 1_000 + of_input,
        Unit::OutputTokens => all.saturating_sub(reasoning) * 1_000 + of_output,
        _ => all * 1_000,
    };
    Some(thousandths.div_ceil(1_000).min(Amount::MAX.get().into()))
}
