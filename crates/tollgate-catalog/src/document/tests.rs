//! How each format is parsed, with positions, and which texts are refused before policies are validated.

use proptest::prelude::*;

use super::*;

fn read_one(text: &str, format: Format) -> Value {
    read(text, format).unwrap().unwrap().value
}

/// A value without its positions.
fn bare(node: Node) -> Node {
    let value = match node.value {
        Value::List(items) => Value::List(items.into_iter().map(bare).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|entry| Entry { key_position: None, node: bare(entry.node), ..entry })
                .collect(),
        ),
        other => other,
    };
    Node::unplaced(value)
}

fn number(text: &str) -> Value {
    Value::Number(text.to_owned())
}

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn check_refused(text: &str, format: Format, line: usize, message: &str) {
    let problems = read(text, format).expect_err(&text.chars().take(80).collect::<String>());
    let problem = &problems[0];
    assert!(problem.message.contains(message), "{format:?}: {problem}");
    assert_eq!(problem.position.map(|at| at.line), Some(line), "{format:?}: {problem}");
}

#[test]
fn extensions_say_the_format() {
    let cases = [
        ("a.yaml", Some(Format::Yaml)),
        ("a.YML", Some(Format::Yaml)),
        ("b/a.json", Some(Format::Json)),
        ("a.toml", Some(Format::Toml)),
        ("a.yaml.bak", None),
        ("yaml", None),
        (".yaml", None),
    ];
    for (path, format) in cases {
        assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
    }
}

#[test]
fn a_text_without_a_value_holds_nothing() {
    let yaml = ["", "  \n", "# only a comment\n", "---\n", "---\n# comment\n...\n", "\u{feff}"];
    for text in yaml {
        assert_eq!(read(text, Format::Yaml), Ok(None), "{text:?}");
    }
    for text in ["", " \r\n", "\u{feff}\n"] {
        assert_eq!(read(text, Format::Json), Ok(None), "{text:?}");
    }
    for text in ["", "# only a comment\n", "\u{feff}"] {
        assert_eq!(read(text, Format::Toml), Ok(None), "{text:?}");
    }
}

#[test]
fn the_three_formats_read_as_the_same_tree() {
    let yaml = "a: [1, 2.50, -3, 'x', true]\nb:\n  - c: \"é\"\n  - d: false\n";
    let json = r#"{"a": [1, 2.50, -3, "x", true], "b": [{"c": "\u00e9"}, {"d": false}]}"#;
    let toml = "a = [1, 2.50, -3, 'x', true]\n[[b]]\nc = \"\\u00e9\"\n[[b]]\nd = false\n";
    let [yaml, json, toml] = [(yaml, Format::Yaml), (json, Format::Json), (toml, Format::Toml)]
        .map(|(text, format)| bare(read(text, format).unwrap().unwrap()));
    assert_eq!(yaml, json);
    assert_eq!(yaml, toml);
}

#[test]
fn positions_are_where_keys_and_values_start() {
    let cases = [
        ("é: 1\nkey:   [x, 5]\n", Format::Yaml, (2, 8), (2, 12)),
        ("\u{feff}é: 1\r\nkey:   [x, 5]\r\n", Format::Yaml, (2, 8), (2, 12)),
        ("{\"é\": 1,\n \"key\": [\"x\", 5]}", Format::Json, (2, 9), (2, 15)),
        ("\u{feff}{\"é\":1,\"key\": [0,5]}", Format::Json, (1, 15), (1, 18)),
        ("\"é\" = 1\r\nkey = [ 'x', 5]\r\n", Format::Toml, (2, 7), (2, 14)),
    ];
    for (text, format, list_at, five_at) in cases {
        let Value::Map(entries) = read_one(text, format) else { panic!("{text:?} is no map") };
        let place = |position: Option<Position>| position.map(|at| (at.line, at.column));
        assert_eq!(place(entries[1].node.position), Some(list_at), "{text:?}");
        let Value::List(items) = &entries[1].node.value else { panic!("{text:?} has no list") };
        assert_eq!(place(items[1].position), Some(five_at), "{text:?}");
        assert_eq!(entries[1].key_position.unwrap().line, list_at.0, "{text:?}");
    }
}

#[test]
fn yaml_scalars_follow_the_core_schema() {
    let cases = [
        ("~", Value::Null),
        ("Null", Value::Null),
        ("TRUE", Value::Bool(true)),
        ("yes", string("yes")),
        ("no", string("no")),
        ("'5'", string("5")),
        ("\"null\"", string("null")),
        ("1_000", string("1_000")),
        ("12e03", number("12e03")),
        ("+1", number("+1")),
        ("0x1F", number("0x1F")),
        (".inf", number(".inf")),
        (".", string(".")),
        ("1.2.3", string("1.2.3")),
        ("2020-01-02", string("2020-01-02")),
        ("1e", string("1e")),
        (">\n  folded\n", string("folded\n")),
    ];
    for (text, expected) in cases {
        let text = format!("v: {text}");
        let Value::Map(entries) = read_one(&text, Format::Yaml) else { panic!("{text:?}") };
        assert_eq!(entries[0].node.value, expected, "{text:?}");
    }
}

#[test]
fn numbers_keep_the_text_they_were_written_in() {
    let cases = [
        ("1e400", Format::Json, "1e400"),
        ("9007199254740993", Format::Json, "9007199254740993"),
        ("-0", Format::Json, "-0"),
        ("0.10000000000000000001", Format::Yaml, "0.10000000000000000001"),
        ("1e400", Format::Yaml, "1e400"),
    ];
    for (text, format, expected) in cases {
        assert_eq!(read_one(text, format), number(expected));
    }
    let toml = [
        ("9_007_199_254_740_993", "9007199254740993"),
        ("99999999999999999999", "99999999999999999999"),
        ("0x1f", "0x1f"),
        ("-0", "-0"),
        ("1e400", "1e400"),
        ("inf", "inf"),
    ];
    for (text, expected) in toml {
        let Value::Map(entries) = read_one(&format!("v = {text}"), Format::Toml) else {
            panic!("{text} gave no map")
        };
        assert_eq!(entries[0].node.value, number(expected));
    }
}

#[test]
fn toml_dates_are_told_apart_from_text() {
    let Value::Map(entries) = read_one("v = 2020-01-02", Format::Toml) else { panic!("no map") };
    assert_eq!(entries[0].node.value, Value::Date("2020-01-02".to_owned()));
}

#[test]
fn duplicate_keys_are_kept_for_the_validator_or_refused_by_the_parser() {
    for (text, format) in
        [("a: 1\n'a': 2\n", Format::Yaml), ("{\"a\":1,\n\"\\u0061\":2}", Format::Json)]
    {
        let Value::Map(entries) = read_one(text, format) else { panic!("{text:?} is no map") };
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].key.as_str(), entries[1].key_position.unwrap().line), ("a", 2));
    }
    check_refused("a = 1\na = 2\n", Format::Toml, 2, "duplicate key");
}

#[test]
fn malformed_texts_are_refused_with_their_line() {
    let cases = [
        ("a: [1,\nb", Format::Yaml, 1, "unclosed bracket"),
        ("a:\n\t- b", Format::Yaml, 2, "is not YAML"),
        ("a: 'x", Format::Yaml, 1, "is not YAML"),
        ("a: *b", Format::Yaml, 1, "is not YAML"),
        ("a: 1\n---\nb: 2\n", Format::Yaml, 2, "a second document"),
        ("a: !!int 5", Format::Yaml, 1, "a value has a tag"),
        ("? [a]\n: b", Format::Yaml, 1, "a key is a list"),
        ("a:\n  - &x [*x]\n", Format::Yaml, 2, "inside the value of its own anchor"),
        ("{\"a\": 1,}", Format::Json, 1, "is not JSON"),
        ("{\"a\": 1}\n// no", Format::Json, 2, "end of file expected"),
        ("{\n'a': 1}", Format::Json, 2, "string expected"),
        ("{\"a\":\n01}", Format::Json, 2, "comma or end of sequence expected"),
        ("[\n+1]", Format::Json, 2, "value expected"),
        ("[\nNaN]", Format::Json, 2, "value expected"),
        ("[\n\"a\nb\"]", Format::Json, 2, "control character"),
        ("[\n\"\\ud800\"]", Format::Json, 2, "is not JSON"),
        ("{}\n{}", Format::Json, 2, "end of file expected"),
        ("[1,\n", Format::Json, 2, "value expected"),
        ("a = \n", Format::Toml, 1, "is not TOML"),
        ("[a]\nb = 1\n[a]\n", Format::Toml, 3, "duplicate key"),
        ("a = 1\nb = 01\n", Format::Toml, 2, "is not TOML"),
    ];
    for (text, format, line, message) in cases {
        check_refused(text, format, line, message);
    }
}

#[test]
fn toml_goes_on_after_the_first_problem() {
    let problems = read("a = \nb = 1\nc = ]\n", Format::Toml).unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.position.unwrap().line).collect();
    assert!(lines.contains(&1) && lines.contains(&3), "{problems:?}");
}

#[test]
fn deep_nesting_is_refused_in_every_shape() {
    for depth in [MAX_DEPTH + 1, 1_000, 100_000] {
        let brackets = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let braces = "{\"a\":".repeat(depth);
        check_refused(&brackets, Format::Json, 1, "nested too deeply");
        check_refused(&braces, Format::Json, 1, "nested too deeply");
        check_refused(&brackets, Format::Yaml, 1, "nested too deeply");
        check_refused(
            &format!("{}{}", "{a: ".repeat(depth), "}".repeat(depth)),
            Format::Yaml,
            1,
            "nested too deeply",
        );
        check_refused(&"- ".repeat(depth), Format::Yaml, 1, "nested too deeply");
        for toml in [
            format!("a = {brackets}"),
            format!("a = {}", "{a=".repeat(depth)),
            format!("{}a = 1", "a.".repeat(depth)),
            format!("[{}a]", "a.".repeat(depth)),
        ] {
            assert!(read(&toml, Format::Toml).is_err(), "{}", &toml[..10]);
        }
    }
    let deepest = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert!(read(&deepest, Format::Json).is_ok());
    assert!(read(&deepest, Format::Yaml).is_ok());
}

#[test]
fn dotted_keys_within_inline_tables_cannot_exhaust_the_stack() {
    let step = format!("{}a = {{", "a.".repeat(70));
    let deep = step.repeat(70) + "a = 1" + &"}".repeat(70);
    assert!(read(&deep, Format::Toml).is_err());
}

#[test]
fn aliases_repeat_their_anchor_with_its_positions() {
    let Value::Map(entries) = read_one("a: &x [1, 2]\nb: *x\n", Format::Yaml) else {
        panic!("no map")
    };
    assert_eq!(entries[0].node, entries[1].node);
}

/// The entries of `text`, a map in YAML, as keys and values in the order of the keys.
fn merged(text: &str) -> Vec<(String, Value)> {
    let Value::Map(entries) = read_one(text, Format::Yaml) else { panic!("{text:?} is no map") };
    let result = entries.last().expect("a key").node.clone();
    let Value::Map(entries) = bare(result).value else { panic!("{text:?} ends with no map") };
    let mut found: Vec<_> =
        entries.into_iter().map(|entry| (entry.key, entry.node.value)).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Each case ends with the map to look at.
#[test]
fn a_merge_adds_the_entries_that_the_map_does_not_have() {
    let anchors = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\n";
    let cases = [
        ("m: {<<: *a, y: 5}", "x1 y5"),
        ("m:\n  y: 5\n  <<: *a\n", "x1 y5"),
        ("m: {<<: [*a, *b]}", "x1 y2 z4"),
        ("m: {<<: [*b, *a, {w: 6}]}", "w6 x1 y3 z4"),
        ("m: {<<: {x: 7}, v: 8}", "v8 x7"),
        ("m: {<<: {<<: *b, y: 9}}", "y9 z4"),
        ("m: {<<: []}", ""),
        ("m: {'<<': 1}", "<<1"),
        ("m: {<<: {x: 1, x: 2}, y: 3}", "x1 x2 y3"),
    ];
    for (text, expected) in cases {
        let found = merged(&format!("{anchors}{text}"));
        let shown: Vec<_> = found
            .iter()
            .map(|(key, value)| match value {
                Value::Number(value) => format!("{key}{value}"),
                other => panic!("{text}: {other:?}"),
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{text}");
    }
}

#[test]
fn what_is_merged_keeps_its_position() {
    let text = "a: &a\n  x: 1\nm:\n  <<: *a\n";
    let Value::Map(entries) = read_one(text, Format::Yaml) else { panic!("no map") };
    let Value::Map(entries) = &entries[1].node.value else { panic!("no map") };
    let (line, column) = (2, 3);
    assert_eq!(entries[0].key_position, Some(Position { line, column }));
    assert_eq!(entries[0].node.position, Some(Position { line, column: 6 }));
}

#[test]
fn a_merge_of_anything_but_maps_is_refused() {
    let cases = [
        ("m:\n  <<: 5\n", 2, "merges a number"),
        ("a: &a [1]\nm:\n  <<: *a\n", 3, "merges a number"),
        ("a: &a x\nm:\n  <<: [*a]\n", 3, "merges a text"),
        ("m:\n  <<:\n", 2, "merges null"),
        ("m:\n  <<: [[{x: 1}]]\n", 2, "merges a list"),
        ("m:\n  <<: {x: 1}\n  <<: {y: 1}\n", 3, "`<<` is given twice"),
        ("m: &m\n  <<: *m\n", 2, "inside the value of its own anchor"),
        ("m:\n  !!merge <<: {x: 1}\n", 2, "has a tag"),
    ];
    for (text, line, message) in cases {
        check_refused(text, Format::Yaml, line, message);
    }
}

#[test]
fn merges_are_bounded_like_aliases() {
    let lines = (1..40).map(|level| {
        let before = level - 1;
        format!(
            "a{level}: &a{level} {{p{level}: *a{before}, q{level}: *a{before}, <<: *a{before}}}\n"
        )
    });
    let text = "a0: &a0 {p0: x}\n".to_owned() + &lines.collect::<String>();
    let problems = read(&text, Format::Yaml).unwrap_err();
    let message = &problems[0].message;
    assert!(message.contains("grows too large") || message.contains("too deeply"), "{message}");
    let long = format!(
        "a: &a {{x: \"{}\"}}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "{<<: *a}, ".repeat(1 << 16)
    );
    let problems = read(&long, Format::Yaml).unwrap_err();
    assert!(problems[0].message.contains("grows too large"), "{}", problems[0]);
}

#[test]
fn aliases_that_nest_too_deeply_are_refused() {
    let lines = (1..=MAX_DEPTH).map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1));
    let text = "a0: &a0 [x]\n".to_owned() + &lines.collect::<String>();
    // The map around them is a level too.
    check_refused(&text, Format::Yaml, MAX_DEPTH, "nested too deeply");
}

#[test]
fn a_billion_laughs_is_refused_before_it_is_expanded() {
    let lines = (1..12).map(|level| {
        let many = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{many}]\n")
    });
    let text = "a0: &a0 [lol, lol, lol]\n".to_owned() + &lines.collect::<String>();
    let problems = read(&text, Format::Yaml).unwrap_err();
    assert!(problems[0].message.contains("grows too large"), "{}", problems[0]);
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1 << 20));
    let problems = read(&long, Format::Yaml).unwrap_err();
    assert!(problems[0].message.contains("grows too large"), "{}", problems[0]);
}

#[test]
fn a_document_beyond_the_cap_is_refused() {
    let text = " ".repeat(MAX_DOCUMENT_BYTES + 1);
    for format in [Format::Yaml, Format::Json, Format::Toml] {
        let problems = read(&text, format).unwrap_err();
        assert!(problems[0].message.contains("16777217 bytes"), "{}", problems[0]);
    }
}

/// Texts made of characters with a meaning in the formats.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[\\[\\]{}:,\\-?&*!|>'\"%@`# \n\r\t=.~\\\\]{1,3}",
        "[a-z0-9é𝄞\u{feff}\u{0}\u{85}]{1,3}",
        Just("---\n".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("\n  ".to_owned()),
        Just("[[a]]\n".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("\\u".to_owned()),
        Just("1e9".to_owned()),
        Just("2020-01-01T".to_owned()),
        Just("<<: ".to_owned()),
    ];
    prop_oneof![
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat()),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_makes_a_reader_panic(text in any_text()) {
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            if let Err(problems) = read(&text, format) {
                prop_assert!(!problems.is_empty());
            }
        }
    }
}
