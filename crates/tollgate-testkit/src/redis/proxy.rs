//! A TCP proxy with faults.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tollgate_core::{Clock, MonotonicClock, Timestamp};

/// A fault of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Delays each piece of an answer by this time.
    Delay(Duration),
    /// Closes every connection, including new ones.
    Reset,
    /// Forwards requests, and closes the connection instead of forwarding the answer.
    DropAnswers,
    /// Forwards requests and discards the answers; the connection stays open.
    LoseAnswers,
    /// Forwards answers byte by byte, with this time between two bytes.
    Trickle(Duration),
    /// Accepts requests and forwards nothing.
    BlackHole,
}

/// A proxy in front of a server. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    fault: Mutex<Fault>,
    /// The streams of open connections, by number, to close them.
    streams: Mutex<HashMap<u64, [TcpStream; 2]>>,
    clock: MonotonicClock,
    /// The time at which each connection was made.
    accepted: Mutex<Vec<Timestamp>>,
    closed: Mutex<bool>,
}

impl Proxy {
    /// A proxy of the server on port `target` of 127.0.0.1.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            fault: Mutex::new(Fault::None),
            streams: Mutex::default(),
            clock: MonotonicClock::new(),
            accepted: Mutex::default(),
            closed: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if *accepting.closed.lock().unwrap() {
                    break;
                }
                let mut accepted = accepting.accepted.lock().unwrap();
                accepted.push(accepting.clock.now());
                let number = accepted.len() as u64;
                drop(accepted);
                accepting.serve(number, stream);
            }
        });
        Self { address, shared }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Switches to this fault.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        if fault == Fault::Reset {
            self.shared.close_all();
        }
    }

    /// From now on new connections go to the server on this port; open ones stay.
    pub fn lead_to(&self, target: u16) {
        // SeqCst: the proxy must see what the test does.
        self.shared.target.store(target, Ordering::SeqCst);
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.lock().unwrap().len() as u64
    }

    /// The most connections made in any one second so far.
    pub fn most_accepted_in_a_second(&self) -> usize {
        let accepted = self.shared.accepted.lock().unwrap();
        let until = |first: &Timestamp| first.after(Duration::from_secs(1));
        let from = |first: &Timestamp| accepted.partition_point(|at| at < first);
        let within = |first| accepted.partition_point(|at| *at < until(first)) - from(first);
        accepted.iter().map(within).max().unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        *self.shared.closed.lock().unwrap() = true;
        self.shared.close_all();
        // Wakes the thread that accepts; if nobody listens any more, it has already ended.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn close_all(&self) {
        for stream in self.streams.lock().unwrap().drain().flat_map(|(_, streams)| streams) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(self: &Arc<Self>, number: u64, client: TcpStream) {
        if self.fault() == Fault::Reset {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target.load(Ordering::SeqCst)))
        else {
            return;
        };
        let streams = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        self.streams.lock().unwrap().insert(number, streams);
        let (requests, answers) = (Arc::clone(self), Arc::clone(self));
        let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || requests.pass(number, client, to_server, true));
        thread::spawn(move || answers.pass(number, server, to_client, false));
    }

    /// Forwards data until one side closes.
    fn pass(&self, number: u64, mut from: TcpStream, mut to: TcpStream, is_request: bool) {
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..read];
            let passed = match self.fault() {
                Fault::BlackHole => Ok(()),
                Fault::None | Fault::Reset => to.write_all(bytes),
                _ if is_request => to.write_all(bytes),
                Fault::Delay(time) => {
                    thread::sleep(time);
                    to.write_all(bytes)
                }
                Fault::DropAnswers => break,
                Fault::LoseAnswers => Ok(()),
                Fault::Trickle(time) => bytes.iter().try_for_each(|byte| {
                    thread::sleep(time);
                    to.write_all(std::slice::from_ref(byte))
                }),
            };
            if passed.is_err() {
                break;
            }
        }
        // If one side is closed, close the other too. They may be closed already.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
        // Otherwise a long-lived proxy would keep a descriptor for every old connection.
        self.streams.lock().unwrap().remove(&number);
    }
}
