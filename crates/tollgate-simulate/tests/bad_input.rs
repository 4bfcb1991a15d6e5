//! Every invalid line gives an error with the position, the problem and what is accepted, and leaves no file.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Fixture, policies};
use tollgate_simulate::trace::TraceFormat;

const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
const CSV: &str = "timestamp,userId,modelId,cost.tokens,tenantId\n";

/// Runs the trace `text`, which must be refused with a message that contains each of `parts`.
#[track_caller]
fn refused(text: impl AsRef<[u8]>, format: Option<TraceFormat>, parts: &[&str]) {
    let mut fixture = Fixture::new(text).with_outputs();
    fixture.args.format = format;
    let error = fixture.run(&policies("")).unwrap_err();
    let message = error.to_string();
    let place = format!("{}:", fixture.args.trace.display());
    let rest = message.strip_prefix(&place).unwrap_or_else(|| panic!("no place in {message}"));
    for part in parts.iter().chain(&["; accepted: "]) {
        assert!(rest.contains(part), "{part:?} is not in {message}");
    }
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(error.exit_code(), 2, "{message}");
    assert_eq!(fixture.files(), ["trace.csv"], "{message}");
}

#[test]
fn bad_headers_are_refused() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["1: header: is missing"]),
        ("\n\n", &["header: is missing"]),
        ("a,b\n", &["1: header: is \"a,b\", of no known format", "azure-llm-2023", "timestamp"]),
        ("timestamp\n", &["1: header: has no column for a subject", "at least one of userId"]),
        ("timestamp,users\n", &["1: header: has the unknown column \"users\""]),
        (
            "timestamp,userId,modelId,user\n",
            &["1: header: has the unknown column \"user\"", "`cost.<unit>`"],
        ),
        ("timestamp,userId,modelId,\n", &["1: header: has the unknown column \"\""]),
        ("timestamp,userId,modelId,userId\n", &["1: header: has the column \"userId\" twice"]),
        (
            "timestamp,userId,modelId,cost.Tokens\n",
            &["1: header: has the column \"cost.Tokens\"", "`input_tokens`"],
        ),
        (
            "timestamp,userId,modelId,cost.concurrency\n",
            &[
                "1: header: has the column \"cost.concurrency\" of a unit that has no cost: a lease holds one slot",
            ],
        ),
        ("timestamp,userId,modelId,attributes.\n", &["1: header: has the column \"attributes.\""]),
        (
            "timestamp,userId,modelId,attributes.user\n",
            &["1: header: has the column \"attributes.user\""],
        ),
        (
            "timestamp,userId,modelId,attributes.Service\n",
            &["1: header: has the column \"attributes.Service\""],
        ),
    ];
    for (text, parts) in cases {
        refused(text, None, parts);
    }
    refused(AZURE, Some(TraceFormat::Csv), &["1: header: has no column `timestamp`"]);
    refused(CSV, Some(TraceFormat::AzureLlm2023), &["1: header: is \"timestamp,userId"]);
    refused(b"timestamp,user\xFF\n", None, &["1: header: is not UTF-8"]);
    refused(format!("timestamp{}\n", ",x".repeat(64)), None, &["1: line: has more than 64 fields"]);
}

#[test]
fn a_tier_may_be_given_once() {
    let header = "timestamp,userId,modelId,tier,attributes.tier\n";
    refused(header, None, &["1: header: has the column \"attributes.tier\" twice"]);
}

#[test]
fn addresses_that_are_none_are_refused() {
    for ip in ["localhost", "203.0.113.256", "203.0.113.7:80", "0203.0.113.7", "2001:db8::g"] {
        let trace = format!("timestamp,userId,modelId,ip\n0,a,m,{ip}\n");
        refused(trace, None, &[&format!("2: ip: is \"{ip}\""), "203.0.113.7"]);
    }
}

#[test]
fn bad_lines_of_an_azure_trace_are_refused() {
    let good = "2023-11-16 18:17:03.9799600,4808,10\n";
    let cases: &[(&str, &[&str])] = &[
        ("2023-11-16 18:17:03,1", &["3: line: has 2 fields", "3 fields"]),
        ("2023-11-16 18:17:03,1,2,3", &["3: line: has 4 fields"]),
        (",1,2", &["3: TIMESTAMP: is empty", "YYYY-MM-DD"]),
        ("yesterday,1,2", &["3: TIMESTAMP: is \"yesterday\""]),
        ("2023-11-31 18:17:03,1,2", &["3: TIMESTAMP: is \"2023-11-31 18:17:03\""]),
        ("2023-11-16 18:17:03,,2", &["3: ContextTokens: is empty", "9007199254740991"]),
        ("2023-11-16 18:17:03,-1,2", &["3: ContextTokens: is \"-1\", which is not a whole number"]),
        ("2023-11-16 18:17:03,1.5,2", &["3: ContextTokens: is \"1.5\""]),
        ("2023-11-16 18:17:03,1, 2", &["3: GeneratedTokens: is \" 2\""]),
        (
            "2023-11-16 18:17:03,1,9007199254740992",
            &["3: GeneratedTokens: is \"9007199254740992\", which is too large"],
        ),
        ("2023-11-16 18:17:03,1,99999999999999999999999", &["which is too large"]),
        (
            "2023-11-16 18:17:03,9007199254740991,1",
            &["3: GeneratedTokens: makes 9007199254740992 tokens with ContextTokens"],
        ),
    ];
    for (line, parts) in cases {
        refused(format!("{AZURE}{good}{line}\n{good}"), None, parts);
    }
}

#[test]
fn bad_lines_of_a_csv_trace_are_refused() {
    let long = format!("1,{},gpt-4,1,acme", "a".repeat(257));
    let cases: &[(&str, &[&str])] = &[
        ("1,alice,gpt-4,1", &["3: line: has 4 fields", "5 fields"]),
        ("1,alice,gpt-4,1,acme,", &["3: line: has 6 fields"]),
        (",alice,gpt-4,1,acme", &["3: timestamp: is empty", "RFC 3339"]),
        ("soon,alice,gpt-4,1,acme", &["3: timestamp: is \"soon\""]),
        ("-1,alice,gpt-4,1,acme", &["3: timestamp: is \"-1\""]),
        ("99999999999,alice,gpt-4,1,acme", &["3: timestamp: is \"99999999999\"", "2500"]),
        ("1,,\"\",1,", &["3: line: names no subject"]),
        (&long, &["3: userId: has 257 bytes"]),
        ("1,alice,gpt\u{7}4,1,acme", &["3: modelId: has the control character U+0007"]),
        ("1,alice,gpt-4,x,acme", &["3: cost.tokens: is \"x\""]),
        ("1,alice,gpt-4,1e3,acme", &["3: cost.tokens: is \"1e3\""]),
        ("1,alice,gpt-4,+1,acme", &["3: cost.tokens: is \"+1\""]),
        ("1,\"alice,gpt-4,1,acme", &["3: line: has a quote that is not closed"]),
    ];
    for (line, parts) in cases {
        refused(format!("{CSV}0,alice,gpt-4,1,acme\n{line}\n9,alice,gpt-4,1,acme\n"), None, parts);
    }
    refused(
        [CSV.as_bytes(), b"1,al\xFFice,gpt-4,1,acme\n"].concat(),
        None,
        &["2: userId: is not UTF-8"],
    );
    let endless = format!("{CSV}1,{}", "a".repeat(1 << 20));
    refused(endless, None, &["2: line: is longer than 65536 bytes"]);
}

/// Empty lines are skipped, but count as lines.
#[test]
fn the_line_of_an_error_counts_empty_lines_and_crlf() {
    refused(format!("\r\n{CSV}\r\n\r\n1,a,b,c,d\r\n"), None, &["5: cost.tokens: is \"c\""]);
}

#[test]
fn a_long_value_is_cut_in_the_message() {
    let value = "é".repeat(30_000);
    let shown = format!("2: cost.tokens: is \"{}\"…, which", "é".repeat(40));
    refused(format!("{CSV}1,a,b,{value},d\n"), None, &[&shown]);
}

#[test]
fn flags_that_change_nothing_are_refused() {
    let mut fixture = Fixture::new(CSV).with_outputs();
    fixture.args.seed = Some(1);
    let error = fixture.run(&policies("")).unwrap_err();
    assert!(error.to_string().starts_with("--seed: a csv trace names its users itself"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(fixture.files(), ["trace.csv"]);
}

#[test]
fn a_trace_that_is_not_there_is_named() {
    let mut fixture = Fixture::new("");
    fixture.args.trace = fixture.path("missing.csv");
    let error = fixture.run(&policies("")).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", fixture.args.trace.display()));
    assert_eq!(error.exit_code(), 2);
}
