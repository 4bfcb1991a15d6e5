//! The child process of `tollgate-bench memory`: fills one contender and prints the memory that it took as JSON.
//!
//! It is a separate program, because its allocator counts, which would slow down the other benchmarks.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::alloc::System;
use std::process::ExitCode;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, String> {
    let [contender, keys, admissions] = arguments else {
        return Err("usage: tollgate-bench-memory CONTENDER KEYS ADMISSIONS".to_owned());
    };
    let number = |text: &String| text.parse().map_err(|_| format!("{text:?} is no number"));
    let allocated = || ALLOCATOR.allocated() as u64;
    let filled =
        tollgate_bench::memory::fill(contender, number(keys)?, number(admissions)?, allocated)?;
    serde_json::to_string(&filled).map_err(|error| error.to_string())
}
