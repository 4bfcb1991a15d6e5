//! `azure-llm-2023`: the traces of `data/azure-llm-inference-2023`, with users and models drawn for them.

use std::fmt::Write as _;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tollgate_core::{Amount, Attribute, Cost, Unit};

use super::check::TraceCheck;
use super::records::RecordReader;
use super::zipf::Zipf;
use super::{Population, parse_amount, time};
use crate::error::{LineProblem, shown};

const HEADER: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

const MODELS: u32 = 5;

pub(super) fn is_header(header: &[&str]) -> bool {
    header == HEADER
}

pub(super) fn check_header(header: &[&str]) -> Result<(), LineProblem> {
    if is_header(header) {
        return Ok(());
    }
    let accepted = format!("`{}` in this format", HEADER.join(","));
    Err(LineProblem::new("header", format!("is {}", shown(&header.join(","))), accepted))
}

/// Converts records to checks, by the rule of [`Population`].
pub(super) struct AzureTrace {
    draws: ChaCha20Rng,
    users: Zipf,
    models: Zipf,
    user: String,
    model: String,
}

impl AzureTrace {
    pub(super) fn new(population: Population) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&population.seed.to_le_bytes());
        Self {
            draws: ChaCha20Rng::from_seed(key),
            users: Zipf::new(population.users),
            models: Zipf::new(MODELS),
            user: String::new(),
            model: String::new(),
        }
    }

    pub(super) fn check<R>(&mut self, record: &RecordReader<R>) -> Result<TraceCheck, LineProblem> {
        record.expect_len(HEADER.len())?;
        let [timestamp, context, generated] = HEADER;
        let at = time::parse_azure(timestamp, record.field(0, timestamp)?)?;
        let input = parse_amount(context, record.field(1, context)?)?;
        let output = parse_amount(generated, record.field(2, generated)?)?;
        let tokens = Amount::new(input.get() + output.get()).ok_or_else(|| {
            let problem = format!("makes {} tokens with {context}", input.get() + output.get());
            LineProblem::new(generated, problem, format!("at most {} together", Amount::MAX))
        })?;
        let cost = Cost::one_request()
            .with(Unit::InputTokens, input)
            .with(Unit::OutputTokens, output)
            .with(Unit::Tokens, tokens);
        draw_name(&mut self.user, "user", self.users.rank(self.draws.next_u64()));
        draw_name(&mut self.model, "model", self.models.rank(self.draws.next_u64()));
        let mut check = TraceCheck::at(at);
        check.cost = cost;
        check.output = Some(output);
        check.set(Attribute::User, self.user.as_str());
        check.set(Attribute::Model, self.model.as_str());
        Ok(check)
    }
}

fn draw_name(name: &mut String, kind: &str, rank: usize) {
    name.clear();
    // Writing to a string does not fail.
    let _ = write!(name, "{kind}-{rank}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_chacha20_key_stream_in_little_endian_words() {
        // The key stream of the all-zero key and nonce, RFC 8439, A.1, test vector 1.
        let mut zero = AzureTrace::new(Population { users: 1, seed: 0 });
        assert_eq!(zero.draws.next_u64().to_le_bytes(), *b"\x76\xb8\xe0\xad\xa0\xf1\x3d\x90");
        assert_eq!(zero.draws.next_u64().to_le_bytes(), *b"\x40\x5d\x6a\xe5\x53\x86\xbd\x28");
    }
}
