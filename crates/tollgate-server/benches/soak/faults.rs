//! Causes the faults, one after the other for as long as the soak lasts.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tollgate_testkit::redis::{Fault as Broken, Proxy, RedisServer};

use crate::load::request_bytes;
use crate::node::Node;
use crate::plan::Plan;

/// How long a fault lasts, if it has a duration.
const LASTING: Duration = Duration::from_secs(4);
/// How often a client arrives that does not wait.
const HANG_UP_EVERY: Duration = Duration::from_millis(10);

/// A fault of Redis, of the network, or of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Stop,
    BlackHole,
    ScriptFlush,
    Reset,
    ClientKill,
    DropReplies,
    MaxMemory,
    LoseReplies,
    HangUp,
    Trickle,
    Restart,
    Delay,
}

impl Fault {
    pub(crate) const ALL: [Self; 12] = [
        Self::Stop,
        Self::BlackHole,
        Self::ScriptFlush,
        Self::Reset,
        Self::ClientKill,
        Self::DropReplies,
        Self::MaxMemory,
        Self::LoseReplies,
        Self::HangUp,
        Self::Trickle,
        Self::Restart,
        Self::Delay,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stop => "Redis stopped (SIGSTOP)",
            Self::BlackHole => "network swallows requests",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::Reset => "network resets connections",
            Self::ClientKill => "CLIENT KILL",
            Self::DropReplies => "network cuts before replies",
            Self::MaxMemory => "maxmemory 1mb",
            Self::LoseReplies => "network loses replies",
            Self::HangUp => "clients hang up",
            Self::Trickle => "replies trickle",
            Self::Restart => "Redis killed, restarted empty",
            Self::Delay => "replies 200 ms late",
        }
    }
}

/// The time of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub(crate) fault: Fault,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// The store under test: a server, and the proxy through which the nodes reach it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
}

impl Store {
    pub(crate) fn start() -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        Self { server, proxy }
    }
}

/// Causes faults until the load ends; each starts when it is due, the first after one interval.
pub(crate) async fn run(
    plan: Plan,
    store: &mut Store,
    nodes: &[Node],
    start: Instant,
    mut between: impl FnMut(&RedisServer, Fault),
) -> Vec<Period> {
    let mut periods = Vec::new();
    let mut turn = start + plan.fault_every;
    for fault in Fault::ALL.into_iter().cycle() {
        if turn + plan.fault_every > start + plan.load {
            break;
        }
        sleep_until(turn).await;
        let began = Instant::now();
        make(fault, store, nodes).await;
        periods.push(Period { fault, began, ended: Instant::now() });
        sleep(Duration::from_secs(2)).await;
        between(&store.server, fault);
        turn += plan.fault_every;
    }
    periods
}

async fn make(fault: Fault, store: &mut Store, nodes: &[Node]) {
    let broken = match fault {
        Fault::BlackHole => Broken::BlackHole,
        Fault::Reset => Broken::Reset,
        Fault::DropReplies => Broken::DropAnswers,
        Fault::LoseReplies => Broken::LoseAnswers,
        Fault::Trickle => Broken::Trickle(Duration::from_millis(20)),
        Fault::Delay => Broken::Delay(Duration::from_millis(200)),
        Fault::Stop => {
            store.server.pause();
            sleep(LASTING).await;
            return store.server.resume();
        }
        Fault::ScriptFlush => return command(store, &["SCRIPT", "FLUSH"]),
        Fault::ClientKill => return command(store, &["CLIENT", "KILL", "TYPE", "normal"]),
        Fault::MaxMemory => {
            command(store, &["CONFIG", "SET", "maxmemory", "1mb"]);
            sleep(LASTING).await;
            return command(store, &["CONFIG", "SET", "maxmemory", "0"]);
        }
        Fault::HangUp => return hang_up(nodes).await,
        Fault::Restart => {
            let port = store.server.port();
            store.server.kill();
            sleep(LASTING).await;
            store.server = RedisServer::start_on(port, &[]);
            return;
        }
    };
    store.proxy.set(broken);
    sleep(LASTING).await;
    store.proxy.set(Broken::None);
    // TCP does not lose bytes within a stream: a connection that has lost some is broken.
    if matches!(fault, Fault::BlackHole | Fault::LoseReplies) {
        store.proxy.set(Broken::Reset);
        store.proxy.set(Broken::None);
    }
}

fn command(store: &Store, arguments: &[&str]) {
    store.server.command(arguments);
}

/// Clients that disconnect without waiting: after a whole request, or after half of one.
async fn hang_up(nodes: &[Node]) {
    let end = Instant::now() + LASTING;
    let request = request_bytes(r#"{"userId":"u","modelId":"big"}"#);
    for (number, node) in nodes.iter().cycle().enumerate() {
        if Instant::now() >= end {
            return;
        }
        if let Ok(mut stream) = TcpStream::connect(node.address).await {
            let part = if number % 3 == 0 { request.len() / 2 } else { request.len() };
            // The node may refuse the connection; it only has to survive.
            _ = stream.write_all(&request[..part]).await;
        }
        sleep(HANG_UP_EVERY).await;
    }
}
