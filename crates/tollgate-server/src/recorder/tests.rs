use tollgate_core::{ManualClock, PriorityClass, Quality, Totals};

use super::*;

fn config(file: PathBuf) -> RecordConfig {
    RecordConfig { file, sample_millionths: 1_000_000, max_bytes: 1 << 20, hash_ids: false }
}

fn start(config: &RecordConfig) -> (Recorder, RecordCounters) {
    let clock = ManualClock::default();
    clock.set(Timestamp::from_ms(1_500));
    let counters = RecordCounters::default();
    let clocks = (Arc::new(clock.clone()) as Arc<dyn WallClock>, Arc::new(clock) as _);
    (Recorder::start(config, clocks, counters.clone()).unwrap(), counters)
}

fn stopped() -> (Arc<dyn WallClock>, Arc<dyn Clock>) {
    (Arc::new(ManualClock::default()), Arc::new(ManualClock::default()))
}

fn allowed() -> Decision {
    Decision::assemble(&[], &[])
}

fn read(recorder: &Recorder, path: &Path) -> String {
    recorder.flush(Duration::from_mins(1));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_line_holds_every_part_of_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    let (recorder, counters) = start(&config(path.clone()));
    let mut check =
        Check::new("ann, \"a\"", "m").with_request_id("r1").with_priority(PriorityClass::Batch);
    check.subject.set_named("apiKey", "key-id");
    check.subject.set_named("ip", "192.0.2.1");
    check.subject.set_named("region", "e\"u");
    check.cost.set(Unit::Tokens, Amount::new(7).unwrap());
    recorder.decided(&check, &allowed(), None);
    let mut bob = Check::new("bob", "m");
    bob.subject.set_user_tenant("acme");
    recorder.decided(&bob, &allowed(), None);
    recorder.decided(&Check::new("no", "m"), &Decision::refused(Reason::ApiKeyRevoked), None);
    let expected = format!(
        "{HEADER}1.500000000,\"ann, \"\"a\"\"\",m,,key-id,,192.0.2.1,,,batch,r1,\
         \"{{\"\"region\"\":\"\"e\\\"\"u\"\"}}\",\"{{\"\"tokens\"\":7}}\",,,,\n\
         1.500000000,bob,m,,,,,,,standard,,,,acme,,,\n"
    );
    assert_eq!(read(&recorder, &path), expected);
    assert_eq!((counters.written.get(), counters.dropped.get()), (2, 0));
    // A restart goes on.
    drop(recorder);
    let (recorder, _) = start(&config(path.clone()));
    recorder.decided(&Check::new("eve", "m"), &allowed(), None);
    assert_eq!(read(&recorder, &path).lines().count(), 4);
}

/// Of leases that have no answer, or whose settlement does not name their output, the line has less.
#[test]
fn a_lease_is_recorded_with_what_its_answer_had() {
    let folder = tempfile::tempdir().unwrap();
    for hash_ids in [false, true] {
        let path = folder.path().join(format!("{hash_ids}.csv"));
        let clock = ManualClock::default();
        clock.set(Timestamp::from_ms(1_500));
        let clocks = (Arc::new(clock.clone()) as Arc<dyn WallClock>, Arc::new(clock.clone()) as _);
        let wanted = RecordConfig { hash_ids, ..config(path.clone()) };
        let recorder = Recorder::start(&wanted, clocks, RecordCounters::default()).unwrap();
        let amount = |amount| Amount::new(amount).unwrap();
        let leases = [1, 2, 3, 4, 5].map(|number| LeaseId::parse(&format!("l{number}")).unwrap());
        for lease in &leases {
            let mut check = Check::of(tollgate_core::Subject::empty());
            check.subject.set_named("model", lease.as_str());
            check.cost.set(Unit::OutputTokens, amount(800));
            recorder.decided(&check, &allowed(), Some(lease));
        }
        clock.set(Timestamp::from_ms(9_750));
        let settle =
            |usage| LeaseUpdate::Settle { seq: Amount::ONE, usage, quality: Quality::Exact };
        let named = settle(Totals::none().with(Unit::OutputTokens, amount(655)));
        let state = |effect, was| LeaseState { effect, was, ..ended() };
        let [settled, unnamed, released, _, broken_off] = &leases;
        recorder.updated(settled, &named, &state(Effect::Repeated, LeaseStatus::Settled));
        recorder.updated(settled, &named, &state(Effect::Changed, LeaseStatus::Live));
        recorder.updated(settled, &named, &state(Effect::Changed, LeaseStatus::Settled));
        recorder.updated(
            unnamed,
            &settle(Totals::none()),
            &state(Effect::Changed, LeaseStatus::Expired),
        );
        recorder.updated(
            released,
            &LeaseUpdate::Release,
            &state(Effect::Changed, LeaseStatus::Live),
        );
        let usage = Totals::none().with(Unit::OutputTokens, amount(7));
        let at_least =
            LeaseUpdate::Settle { seq: Amount::ONE, usage, quality: Quality::LowerBound };
        recorder.updated(broken_off, &at_least, &state(Effect::Changed, LeaseStatus::Live));
        let text = read(&recorder, &path);
        let ends: Vec<_> = text
            .lines()
            .skip(1)
            .map(|line| {
                let cells: Vec<_> = line.split(',').collect();
                (cells[2].to_owned(), cells[cells.len() - 3 - usize::from(hash_ids)..].join(","))
            })
            .collect();
        let end = if hash_ids { "," } else { "" };
        let expected = [
            ("l1", "800,655,8250"),
            ("l2", "800,,8250"),
            ("l3", "800,,"),
            // The last one waits for the end of the recording.
            ("l5", "800,,8250"),
            ("l4", "800,,"),
        ];
        assert_eq!(
            ends,
            expected.map(|(model, answer)| (model.to_owned(), format!("{answer}{end}")))
        );
    }
}

fn ended() -> LeaseState {
    LeaseState {
        effect: Effect::Changed,
        was: LeaseStatus::Live,
        ending: tollgate_core::lease::ledger::Ending::Settled,
        seq: Amount::ONE,
        proceed: true,
        ttl: tollgate_core::Ttl::DEFAULT,
        lives_for: Duration::ZERO,
        holds: Vec::new().into(),
        note: Box::default(),
    }
}

#[test]
fn a_full_file_takes_no_more_and_what_is_dropped_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    let max_bytes = HEADER.len() as u64 + 120;
    let (recorder, counters) = start(&RecordConfig { max_bytes, ..config(path.clone()) });
    for _ in 0..10 {
        recorder.decided(&Check::new("ann", "m"), &allowed(), None);
    }
    let text = read(&recorder, &path);
    assert!(text.len() as u64 <= max_bytes && text.ends_with('\n'), "{text}");
    recorder.decided(&Check::new("ann", "m"), &allowed(), None);
    assert_eq!(counters.written.get() + counters.dropped.get(), 11);
    assert_eq!(counters.written.get(), text.lines().count() as u64 - 1);
    let long = "x".repeat(200);
    let mut check = Check::new("ann", "m");
    let names: Vec<_> = (0..40).map(|number| format!("a{number}")).collect();
    for name in &names {
        check.subject.set_named(name, &long);
    }
    let (recorder, counters) = start(&config(folder.path().join("long.csv")));
    recorder.decided(&check, &allowed(), None);
    assert_eq!(counters.dropped.get(), 1);
}

#[test]
fn hashed_ids_are_the_same_for_the_same_id_and_hide_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    let (recorder, _) = start(&RecordConfig { hash_ids: true, ..config(path.clone()) });
    for user in ["canary-1", "canary-1", "canary-2"] {
        let mut check = Check::new(user, "m").with_request_id("canary-r");
        check.subject.set_named("ip", "192.0.2.99");
        check.subject.set_named("tenant", "canary-t");
        recorder.decided(&check, &allowed(), None);
    }
    let text = read(&recorder, &path);
    assert!(!text.contains("canary") && !text.contains("192.0.2.99"), "{text}");
    let users: Vec<_> = text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert!(users[0] == users[1] && users[1] != users[2], "{users:?}");
    let ip: IpAddr = text.lines().nth(1).unwrap().split(',').nth(6).unwrap().parse().unwrap();
    assert!(ip.is_ipv6());
}

/// Hashed ids are worth nothing beside the clear ones, and clear ones would betray a file that says it has none.
#[test]
fn a_recording_has_hashed_ids_or_clear_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    for (hash_ids, says) in [(true, "it has ids in clear text"), (false, "its ids are hashed")] {
        let other = RecordConfig { hash_ids: !hash_ids, ..config(path.clone()) };
        let wanted = RecordConfig { hash_ids, ..other.clone() };
        // A file without checks becomes a recording of either kind.
        std::fs::write(&path, "").unwrap();
        drop(start(&wanted));
        let (recorder, _) = start(&other);
        recorder.decided(&Check::new("ann", "m"), &allowed(), None);
        let text = read(&recorder, &path);
        drop(recorder);
        let refused = Recorder::start(&wanted, stopped(), RecordCounters::default());
        assert!(refused.unwrap_err().to_string().contains(says), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let (recorder, _) = start(&other);
        recorder.decided(&Check::new("bob", "m"), &allowed(), None);
        let longer = read(&recorder, &path);
        assert!(longer.starts_with(&text) && longer.lines().count() == 3, "{longer}");
    }
}

#[test]
fn a_sample_holds_all_checks_of_some_users() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    let sample_millionths = 500_000;
    let (recorder, _) = start(&RecordConfig { sample_millionths, ..config(path.clone()) });
    for user in (0..200).chain(0..200) {
        recorder.decided(&Check::new(&format!("u{user}"), "m"), &allowed(), None);
    }
    let text = read(&recorder, &path);
    let mut counts = std::collections::HashMap::new();
    for line in text.lines().skip(1) {
        *counts.entry(line.split(',').nth(1).unwrap()).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
    assert!((20..180).contains(&counts.len()), "{}", counts.len());
}

#[test]
fn another_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "notes").unwrap();
    let error = Recorder::start(&config(path), stopped(), RecordCounters::default());
    assert!(error.unwrap_err().to_string().contains("is no recording"));
}
