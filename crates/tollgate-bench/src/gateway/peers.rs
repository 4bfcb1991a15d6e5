//! How much does the gateway cost, compared with other gateways?
//!
//! The peers are vLLM's router, the proxy of LiteLLM and the gateway of Portkey, as `scripts/setup gateway-peers` installs them. Each
//! has the core of the servers and one worker, logs no requests, and forwards the field that sets the pace of the model. None limits
//! anything, and Tollgate has its four limits. A peer that is not installed, or fails, is named with the reason.
//!
//! A latency is given by itself and as what it adds to that of the model in the same round.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::load::{Target, Work};
use super::measure::{Figures, measure};
use super::servers::{Contender, Servers};
use super::{
    CPU_PER_CHUNK, CPU_PER_REQUEST, DIRECT, GATEWAY, PER_SECOND, PROXY, Plan, Programs, progress,
    runtime,
};
use crate::cores::{CORE_OF_LOAD, CORE_OF_SERVERS, Pinned};
use crate::http::server::Server;
use crate::report::{Measurements, Section};

const NAME: &str = "gateway-peers";
/// LiteLLM's master key; the others ignore it.
const API_KEY: &str = "sk-of-a-benchmark";
/// How long a peer may take for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A gateway that Tollgate is compared with.
#[derive(Debug)]
struct Peer {
    name: &'static str,
    /// Its folder below that of all peers; `.unavailable` after it names the file with the reason why it is not installed.
    folder: &'static str,
    /// What must exist in it.
    program: &'static str,
    launch: fn(&Place<'_>) -> Result<Launch, String>,
}

const PEERS: [Peer; 3] = [
    Peer {
        name: "vllm-router",
        folder: "vllm-router",
        program: "bin/vllm-router",
        launch: vllm_router,
    },
    Peer { name: "LiteLLM proxy", folder: "litellm", program: "bin/litellm", launch: litellm },
    Peer {
        name: "Portkey gateway",
        folder: "portkey",
        program: "node_modules/@portkey-ai/gateway/build/start-server.js",
        launch: |place| Ok(portkey(place)),
    },
];

/// What a peer is started with.
struct Place<'a> {
    program: &'a Path,
    port: u16,
    model: SocketAddr,
    /// For its configuration.
    directory: &'a Path,
}

/// How a peer is started.
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    /// What its requests have besides, as [`Target::fields`].
    fields: String,
}

fn vllm_router(place: &Place<'_>) -> Result<Launch, String> {
    let arguments = format!(
        "--host 127.0.0.1 --port {} --worker-urls http://{} --policy round_robin --log-level warning \
         --prometheus-port {} --worker-startup-check-interval 1",
        place.port,
        place.model,
        free_port()?
    );
    Ok(Launch {
        program: place.program.to_owned(),
        arguments: words(&arguments),
        variables: Vec::new(),
        fields: String::new(),
    })
}

fn litellm(place: &Place<'_>) -> Result<Launch, String> {
    let path = place.directory.join("litellm.yaml");
    let configuration = format!(
        "model_list:\n  - model_name: gpt-4\n    litellm_params: {{model: openai/mock, api_base: \"http://{}/v1\", api_key: none}}\n\
         litellm_settings: {{num_retries: 0, set_verbose: false}}\n\
         general_settings: {{master_key: {API_KEY}, forward_client_headers_to_llm_api: true}}\n",
        place.model
    );
    fs::write(&path, configuration).map_err(|error| format!("{}: {error}", path.display()))?;
    let arguments = format!(
        "--host 127.0.0.1 --port {} --num_workers 1 --config {}",
        place.port,
        path.display()
    );
    Ok(Launch {
        program: place.program.to_owned(),
        arguments: words(&arguments),
        variables: vec![
            ("LITELLM_MODE", "PRODUCTION"),
            ("LITELLM_LOG", "ERROR"),
            // It must not ask the Internet for its prices.
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ],
        fields: String::new(),
    })
}

fn portkey(place: &Place<'_>) -> Launch {
    let script = place.program.display();
    Launch {
        program: "node".into(),
        arguments: words(&format!("{script} --port={} --headless", place.port)),
        variables: vec![("NODE_ENV", "production")],
        fields: format!(
            "x-portkey-provider: openai\r\nx-portkey-custom-host: http://{}/v1\r\nx-portkey-forward-headers: x-mock\r\n",
            place.model
        ),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A port of 127.0.0.1 that nothing listens at.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("a free port: {error}"))
}

/// A peer that listens.
struct Running {
    server: Server,
    fields: String,
    _directory: TempDir,
}

impl Running {
    fn contender(&self) -> Contender<'_> {
        Contender {
            name: self.server.name(),
            server: Some(&self.server),
            target: Target {
                address: self.server.address(),
                api_key: API_KEY,
                fields: &self.fields,
            },
        }
    }
}

impl Peer {
    fn start(&self, installed: &Path, model: SocketAddr) -> Result<Running, String> {
        let program = installed.join(self.folder).join(self.program);
        if !program.is_file() {
            return Err(self.why_missing(installed, &program));
        }
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = free_port()?;
        let place = Place { program: &program, port, model, directory: directory.path() };
        let Launch { program, arguments, mut variables, fields } = (self.launch)(&place)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let path = std::env::var("PATH").unwrap_or_default();
        variables.push(("PATH", &path));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let target = Target { address, api_key: API_KEY, fields: &fields };
        let server = Server::start_at(
            (self.name, address),
            CORE_OF_SERVERS,
            &program,
            &arguments,
            &variables,
            || answers(target).unwrap_or(false),
        )?;
        Ok(Running { server, fields, _directory: directory })
    }

    fn why_missing(&self, installed: &Path, program: &Path) -> String {
        let note = installed.join(format!("{}.unavailable", self.folder));
        fs::read_to_string(note).map_or_else(
            |_| {
                format!(
                    "{}: is missing; `scripts/setup gateway-peers` installs it",
                    program.display()
                )
            },
            |reason| format!("it could not be installed: {}", reason.trim()),
        )
    }
}

/// Whether a chat completion succeeds.
fn answers(target: Target<'_>) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(target.address)?;
    stream.set_read_timeout(Some(FIRST_ANSWER))?;
    stream.write_all(&Work::WHOLE.request(target))?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

/// The results, and the peers that are missing in them.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub section: Section,
    /// A sentence for each peer that is not installed or failed.
    pub missing: Vec<String>,
    /// The questions that are compared as ratios.
    compared: Vec<String>,
}

impl Outcome {
    /// The ratios of Tollgate to the others, and what is missing, as Markdown.
    pub fn to_markdown(&self) -> String {
        let others: Vec<_> =
            [PROXY].into_iter().chain(PEERS.iter().map(|peer| peer.name)).collect();
        let mut text = self.section.ratios(GATEWAY, &self.compared, &others);
        for missing in &self.missing {
            text.push_str("\n- ");
            text.push_str(missing);
        }
        text
    }
}

/// Measures by `plan` the peers that are installed below `installed`, with what [`super::run`] measures.
pub fn run(plan: &Plan, programs: &Programs, installed: &Path) -> Result<Outcome, String> {
    let _load = Pinned::all_threads_of(std::process::id(), CORE_OF_LOAD)?;
    let runtime = runtime()?;
    let servers = Servers::start(programs)?;
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    let mut record_missing = |name: &str, reason: String| {
        missing.push(format!("{name} is not measured: {reason}"));
    };
    for peer in &PEERS {
        match peer.start(installed, servers.model_address()) {
            Ok(running) => peers.push(running),
            Err(reason) => record_missing(peer.name, reason),
        }
    }
    if peers.is_empty() {
        return Err(format!("{NAME}: no peer runs\n{}", missing.join("\n")));
    }
    let mut results = Results::default();
    for round in 0..plan.rounds {
        progress(NAME, round, plan.rounds);
        let mut direct = None;
        for contender in servers.contenders() {
            let figures = runtime.block_on(measure(plan, &contender, true))?;
            results.record(contender.name, &figures, direct.as_ref());
            direct = direct.or(Some(figures));
        }
        let mut failed = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            let contender = peer.contender();
            match runtime.block_on(measure(plan, &contender, true)) {
                Ok(figures) => results.record(contender.name, &figures, direct.as_ref()),
                Err(reason) => {
                    record_missing(contender.name, format!("in round {}: {reason}", round + 1));
                    failed.push(index);
                }
            }
        }
        for index in failed.into_iter().rev() {
            peers.remove(index);
        }
    }
    let title = format!("{NAME}: other gateways before the same model server");
    let section = Section { title, measurements: results.measured, goals: Vec::new() };
    Ok(Outcome { section, missing, compared: results.compared })
}

struct Results {
    measured: Measurements,
    compared: Vec<String>,
}

impl Default for Results {
    fn default() -> Self {
        Self { measured: Measurements::in_unit("median"), compared: Vec::new() }
    }
}

impl Results {
    /// Adds the figures of a round; those of the model itself in that round are in `direct`.
    fn record(&mut self, contender: &str, figures: &Figures, direct: Option<&Figures>) {
        self.compare(PER_SECOND, contender, Some(figures.per_second));
        self.compare(CPU_PER_REQUEST, contender, figures.cpu_per_request_us);
        self.compare(CPU_PER_CHUNK, contender, figures.cpu_per_chunk_us);
        for paced in &figures.paced {
            let model = direct.and_then(|direct| {
                direct.paced.iter().find(|of| of.rate.total_cmp(&paced.rate).is_eq())
            });
            let at = format!("at {} requests/s, ms", paced.rate);
            self.measured.add(&format!("median latency {at}"), contender, paced.p50_ms);
            self.measured.add(&format!("99th percentile {at}"), contender, paced.p99_ms);
            let added = model.map(|model| paced.p50_ms - model.p50_ms);
            self.compare(&format!("added median {at}"), contender, added);
            let added = model.map(|model| paced.p99_ms - model.p99_ms);
            self.compare(&format!("added 99th percentile {at}"), contender, added);
        }
        for (index, open) in figures.open.iter().enumerate() {
            let model = direct.and_then(|direct| direct.open.get(index));
            let with = format!("with {} open streams", open.streams);
            let question = format!("first byte {with}, median, ms");
            self.measured.add(&question, contender, open.first_byte_ms);
            let added = model.map(|model| open.first_byte_ms - model.first_byte_ms);
            self.compare(&format!("added to the first byte {with}, ms"), contender, added);
            self.compare(&format!("memory {with}, MB"), contender, open.memory_mb);
        }
    }

    fn compare(&mut self, question: &str, contender: &str, value: Option<f64>) {
        let Some(value) = value else { return };
        self.measured.add(question, contender, value);
        if contender != DIRECT && !self.compared.iter().any(|known| known == question) {
            self.compared.push(question.to_owned());
        }
    }
}
