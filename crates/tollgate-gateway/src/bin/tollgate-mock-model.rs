//! The mock model as a program: `tollgate-mock-model [--listen ADDRESS] [--tokens N] [--pace-ms MS]`.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tollgate_gateway::mock_model::{Behaviour, MockModel};

const USAGE: &str = "usage: tollgate-mock-model [--listen ADDRESS] [--tokens N] [--pace-ms MS]\n\
     A model server without a model: it answers OpenAI's and Anthropic's calls with N words [default: 20], one every MS \
     milliseconds [default: 0], at ADDRESS [default: 127.0.0.1:9001].";

fn main() -> ExitCode {
    let Some((address, behaviour)) = parsed(std::env::args().skip(1)) else {
        _ = writeln!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    match run(address, behaviour) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "error: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(address: SocketAddr, behaviour: Behaviour) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let model = MockModel::start(address, behaviour).await?;
        writeln!(std::io::stdout(), "the mock model listens at http://{}", model.address())?;
        std::future::pending().await
    })
}

fn parsed(mut words: impl Iterator<Item = String>) -> Option<(SocketAddr, Behaviour)> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9_001));
    let mut behaviour = Behaviour::default();
    while let Some(flag) = words.next() {
        let value = words.next()?;
        match flag.as_str() {
            "--listen" => address = value.parse().ok()?,
            "--tokens" => behaviour.tokens = value.parse().ok()?,
            "--pace-ms" => behaviour.pace = Duration::from_millis(value.parse().ok()?),
            _ => return None,
        }
    }
    Some((address, behaviour))
}
