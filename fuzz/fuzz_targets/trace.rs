//! Traces: any bytes give either checks that the server would accept, or an error with its line.

#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;

use tollgate_core::subject::check_id;
use tollgate_simulate::SimulateError;
use tollgate_simulate::trace::{Population, TraceFormat, TraceReader};

fuzz_target!(|input: (u8, &[u8])| {
    let (format, bytes) = input;
    let format =
        [None, Some(TraceFormat::Csv), Some(TraceFormat::AzureLlm2023)][usize::from(format) % 3];
    let path = Path::new("trace.csv");
    let population = Population { users: 3, seed: 1 };
    let input = Box::new(Cursor::new(bytes.to_vec()));
    let mut reader = match TraceReader::new(path, input, format, population) {
        Ok(reader) => reader,
        Err(error) => return is_placed(&error),
    };
    let mut last = Default::default();
    loop {
        match reader.next_check() {
            Ok(Some(traced)) => {
                assert!((traced.at, traced.line) > last, "line {} after {last:?}", traced.line);
                last = (traced.at, traced.line);
                let check = traced.check();
                assert!(check.subject.attributes().next().is_some(), "line {}", traced.line);
                for (attribute, id) in check.subject.attributes() {
                    assert!(check_id(id).is_ok(), "{attribute}: {id:?}");
                }
            }
            Ok(None) => return,
            Err(error) => return is_placed(&error),
        }
    }
});

fn is_placed(error: &SimulateError) {
    match error {
        SimulateError::Trace(error) => assert!(error.line >= 1, "{error:?}"),
        other => panic!("not an error of the trace: {other:?}"),
    }
}
