//! `--leases`: the trace with reservations that are settled when the answers end.

mod common;

use common::{Fixture, policies};
use tollgate_simulate::{ReservationReport, SimulateError};

/// 100 output tokens a minute.
const TOKENS: &str =
    "policies: [{id: out, scope: USER, unit: output_tokens, limit: 100, windowSeconds: 60}]";

fn with_leases(trace: &str, reserve: u64) -> Fixture {
    let mut fixture = Fixture::new(trace);
    (fixture.args.leases, fixture.args.reserve) = (true, Some(reserve));
    fixture
}

/// Worked out by hand: at 0 s everybody reserves 60 of 100; at 1 s the first answer has ended.
#[test]
fn room_comes_back_when_an_answer_has_ended() {
    let trace = "timestamp,userId,outputTokens,maxOutputTokens,durationMs\n\
         0,a,10,30,1000\n0.5,a,20,70,1000\n1,a,30,70,500\n2,a,80,50,500\n100,a,1,1,0\n";
    let report = with_leases(trace, 60).run(&policies(TOKENS)).unwrap().leases.unwrap();
    assert_eq!((report.lines, report.output_tokens), (5, 141));
    let of = |name: &str| {
        report.reservations.iter().find(|one| one.reservation == name).unwrap().clone()
    };
    // 60 and 60 do not fit; at 1 s 10 are used, and 60 fit beside them; at 2 s 40 are, and 60 fit; 80 make 120.
    let fixed = of("fixed");
    assert_eq!((fixed.admitted, fixed.denied), (4, 1));
    assert_eq!((fixed.reserved_tokens, fixed.used_tokens), (240, 10 + 30 + 80 + 1));
    assert_eq!((fixed.within, fixed.over_tokens), (3, 20));
    let debt = fixed.worst_debt.unwrap();
    assert_eq!((debt.amount, debt.policy_id.as_str()), (20, "out"));
    // 30 and 70 fit; at 1 s 10 and 70 are held; at 2 s 10 and 20, and 50 fit; 80 make 110.
    let cap = of("cap");
    assert_eq!((cap.admitted, cap.denied), (4, 1));
    assert_eq!((cap.reserved_tokens, cap.over_tokens), (30 + 70 + 50 + 1, 30));
    assert_eq!(cap.worst_debt.unwrap().amount, 10);
    assert_eq!(
        of("learned"),
        ReservationReport { reservation: "learned", quantile: Some(0.95), ..of("fixed") }
    );
}

/// After 20 answers of 10 tokens, a learned reservation is 10 in place of 60: six times as many fit.
#[test]
fn a_learned_reservation_follows_the_answers() {
    let early = (0..30).map(|number| format!("{},user-{number},m,10,100\n", number * 2));
    let late = std::iter::repeat_n("100,late,m,10,5000\n".to_owned(), 12);
    let header = "timestamp,userId,modelId,outputTokens,durationMs\n".to_owned();
    let trace: String = std::iter::once(header).chain(early).chain(late).collect();
    let report = with_leases(&trace, 60).run(&policies(TOKENS)).unwrap();
    let leases = report.leases.clone().unwrap();
    let [fixed, learned] = &leases.reservations[..] else { panic!("{leases:?}") };
    assert_eq!((fixed.reservation, fixed.admitted), ("fixed", 31));
    // 1 % above 10 may be learned, rounded up to 11.
    assert!((39..=40).contains(&learned.admitted), "{learned:?}");
    assert_eq!(learned.within, learned.admitted);
    let text = report.to_string();
    assert!(text.contains("learned, for 0.95 of the answers"), "{text}");
}

#[test]
fn a_trace_without_outputs_has_no_leases() {
    let fixture = with_leases("timestamp,userId\n0,a\n", 1);
    let error = fixture.run(&policies(TOKENS)).unwrap_err();
    assert!(matches!(&error, SimulateError::Flag { flag: "--leases", .. }), "{error}");
    let report = Fixture::new("timestamp,userId\n0,a\n").run(&policies(TOKENS)).unwrap();
    assert_eq!(report.leases, None);
}
