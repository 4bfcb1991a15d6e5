//! A collector of OTLP over HTTP, which keeps what it receives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
pub use opentelemetry_proto::tonic::common::v1::any_value::Value;
pub use opentelemetry_proto::tonic::metrics::v1::Metric;
pub use opentelemetry_proto::tonic::metrics::v1::metric::Data;
pub use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
pub use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// How a collector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// Not at all: it reads, and keeps the connection open.
    Nothing,
}

/// What a collector has received.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// All spans, in their order.
    pub spans: Vec<Span>,
    /// All metrics, in their order.
    pub metrics: Vec<Metric>,
    /// The attributes of the processes that have sent something.
    pub resource: Vec<KeyValue>,
    /// The heads of all requests, in lower case.
    pub heads: Vec<String>,
}

/// A running collector. It stops when it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    stops: Arc<AtomicBool>,
}

impl Collector {
    /// A collector that accepts everything.
    pub fn start() -> Self {
        Self::answering(Answer::Status(200))
    }

    /// A collector that answers so.
    pub fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (received, stops) = (Arc::<Mutex<Received>>::default(), Arc::<AtomicBool>::default());
        let (kept, stopped) = (Arc::clone(&received), Arc::clone(&stops));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let kept = Arc::clone(&kept);
                // An error means that the sender has gone.
                thread::spawn(move || _ = serve(stream.unwrap(), answer, &kept));
            }
        });
        Self { address, received, stops }
    }

    /// Its address, as a setting.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has received so far.
    pub fn received(&self) -> Received {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of a connection, until it ends.
fn serve(stream: TcpStream, answer: Answer, received: &Mutex<Received>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        if head.is_empty() {
            return Ok(());
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
        reader.read_exact(&mut body)?;
        keep(&head, &body, &mut received.lock().unwrap());
        if let Answer::Status(status) = answer {
            write!(writer, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n")?;
        }
    }
}

fn keep(head: &str, body: &[u8], received: &mut Received) {
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    match head.split(' ').nth(1) {
        Some("/v1/traces") => {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for of_process in request.resource_spans {
                received.resource = of_process.resource.unwrap().attributes;
                let scopes = of_process.scope_spans.into_iter();
                received.spans.extend(scopes.flat_map(|scope| scope.spans));
            }
        }
        Some("/v1/metrics") => {
            let request = ExportMetricsServiceRequest::decode(body).unwrap();
            for of_process in request.resource_metrics {
                received.resource = of_process.resource.unwrap().attributes;
                let scopes = of_process.scope_metrics.into_iter();
                received.metrics.extend(scopes.flat_map(|scope| scope.metrics));
            }
        }
        other => panic!("{other:?} is no path of OTLP"),
    }
    received.heads.push(head.to_owned());
}

/// The value of the attribute `key`, as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    })
}

/// `bytes` in hexadecimal digits, as `traceparent` has them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
