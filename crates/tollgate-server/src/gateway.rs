//! Mounts the gateway: its own listener, beside that of the other calls, with the same bounds of connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::oneshot;
use tollgate_core::LeaseUpdate;
use tollgate_gateway::config::GatewayConfig;
use tollgate_gateway::tracer::RequestTracer;
use tollgate_gateway::{Gateway, GatewayBody, LeaseObserver};
use tollgate_otlp::Otlp;
use tollgate_service::{Keeping, Reservation, Unsettled};
use tollgate_store::LeaseState;

use crate::app::{App, Backend};
use crate::config::{CatalogConfig, HttpLimits, ServeConfig, meet};
use crate::metrics::Metrics;
use crate::net::{Drained, HeadBounds, Listener, NetMetrics, RequestHandler};
use crate::start_error::StartError;
use crate::traced::{Protocol, Traced};

/// The longest time for settlements after the last answer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of the drain timeout after which nobody waits for an upstream any more, in eighths. The rest of it is for telling them.
const QUEUE_EIGHTHS: u32 = 7;

/// A gateway that is ready to serve.
pub(crate) struct MountedGateway<S: Backend> {
    gateway: Arc<Gateway<S>>,
    listener: Listener,
    otlp: Option<Arc<Otlp>>,
}

/// What a listener needs besides its requests.
pub(crate) struct Serving {
    pub(crate) limits: HttpLimits,
    pub(crate) heads: HeadBounds,
    pub(crate) metrics: NetMetrics,
    pub(crate) drain_timeout: Duration,
}

/// Reads the configuration of the gateway, if there is one to be.
pub(crate) fn configured(config: &ServeConfig) -> Result<Option<GatewayConfig>, StartError> {
    let Some(path) = &config.gateway else { return Ok(None) };
    if !matches!(config.catalog, CatalogConfig::Database(_)) {
        return Err(StartError::GatewayCatalog);
    }
    let gateway = read(path)?;
    let address = gateway.listen;
    let listeners = [("--http", Some(config.http)), ("--grpc", config.grpc)];
    for (setting, other) in listeners {
        if other.is_some_and(|other| meet(address, other)) {
            return Err(StartError::SameAddress { address, setting });
        }
    }
    Ok(Some(gateway))
}

fn read(path: &Path) -> Result<GatewayConfig, StartError> {
    GatewayConfig::load(path, |name| std::env::var_os(name)).map_err(StartError::GatewayConfig)
}

impl<S: Backend> MountedGateway<S> {
    /// Listens for the gateway of `config` over the limits of `app`.
    pub(crate) async fn new(config: GatewayConfig, app: &App<S>) -> Result<Self, StartError> {
        let address = config.listen;
        let set_by = "`listen` in the file of --gateway";
        let failed = |source: io::Error| StartError::Listen { set_by, address, source };
        let listener = Listener::bind(address).await.map_err(failed)?;
        let observer = LeaseMetrics::of(app);
        let tracer = app.otlp.clone().map(|otlp| otlp as Arc<dyn RequestTracer>);
        let gateway = Gateway::new(config, Arc::clone(&app.service), Arc::new(observer), tracer);
        let gateway = Arc::new(gateway.map_err(StartError::Gateway)?);
        app.metrics.gateway.show(gateway.monitor().clone());
        Ok(Self { gateway, listener, otlp: app.otlp.clone() })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Keeps the leases of long answers alive; never returns.
    pub(crate) fn keep_leases(&self) -> impl Future<Output = ()> + use<S> {
        let gateway = Arc::clone(&self.gateway);
        async move { gateway.keep_leases().await }
    }

    /// Serves until `stop` completes. Then running answers may finish within the drain timeout, and the leases of the others
    /// are settled as those of answers that broke off. Shortly before that, whoever still waits for an upstream is refused: it
    /// would get the place of an answer that is stopped, and be stopped too.
    pub(crate) async fn serve(self, serving: Serving, stop: impl Future<Output = ()>) -> Drained {
        let Serving { limits, heads, metrics, drain_timeout } = serving;
        let answers = Answers(Arc::clone(&self.gateway));
        let answers = Arc::new(Traced::new(answers, self.otlp, Protocol::Gateway));
        let bounds = (limits, heads);
        let (stops, stopped) = oneshot::channel();
        let stop = async {
            stop.await;
            _ = stops.send(());
        };
        let mut serving = pin!(self.listener.serve(answers, bounds, metrics, stop, drain_timeout));
        // Dropped before `serving`, also if nobody waits for the end.
        let queue = ClosesQueue(Arc::clone(&self.gateway));
        let open = async {
            // An error means that it does not serve any more.
            _ = stopped.await;
            tokio::time::sleep(drain_timeout / 8 * QUEUE_EIGHTHS).await;
        };
        let drained = match select(serving.as_mut(), pin!(open)).await {
            Either::Left((drained, _)) => drained,
            Either::Right(((), serving)) => {
                self.gateway.close_queue();
                serving.await
            }
        };
        drop(queue);
        if tokio::time::timeout(SETTLE_TIMEOUT, self.gateway.settled()).await.is_err() {
            tracing::error!(
                leases = self.gateway.unsettled(),
                "leases were not settled before the server ended; what they reserved stays charged until it leaves its window"
            );
        }
        drained
    }
}

/// Refuses those that wait when it is dropped.
struct ClosesQueue<S: Backend>(Arc<Gateway<S>>);

impl<S: Backend> Drop for ClosesQueue<S> {
    fn drop(&mut self) {
        self.0.close_queue();
    }
}

struct Answers<S: Backend>(Arc<Gateway<S>>);

impl<S: Backend> RequestHandler for Answers<S> {
    const WAITS_FOR_STREAMS: bool = true;

    type Body = GatewayBody<S>;

    async fn handle(&self, request: Request<Incoming>, _: IpAddr) -> Response<GatewayBody<S>> {
        self.0.handle(request).await
    }
}

/// Counts the leases of the gateway like those of the other calls.
#[derive(Debug)]
pub(crate) struct LeaseMetrics {
    metrics: Arc<Metrics>,
    journals_to_disk: bool,
}

impl LeaseMetrics {
    /// The metrics of `app`.
    pub(crate) fn of<S>(app: &App<S>) -> Self {
        Self { metrics: Arc::clone(&app.metrics), journals_to_disk: app.journals_to_disk }
    }

    /// Counts a settlement that the store did not answer.
    pub(crate) fn count_unsettled(&self, unsettled: &Unsettled) {
        match unsettled.kept {
            Keeping::Not => _ = self.metrics.leases.dropped.inc(),
            Keeping::OnDisk | Keeping::InMemory => _ = self.metrics.leases.kept.inc(),
        }
        if self.journals_to_disk && unsettled.kept == Keeping::InMemory {
            tracing::error!(
                "a settlement could not be written to the journal; it is kept in memory only: is the disk full?"
            );
        }
    }
}

impl LeaseObserver for LeaseMetrics {
    fn reserved(&self, reservation: &Reservation) {
        self.metrics.decided(&reservation.decision);
        self.metrics.leases.reserved(reservation);
    }

    fn updated(&self, update: &LeaseUpdate, state: Option<&LeaseState>) {
        self.metrics.leases.updated(update, state);
    }

    fn unsettled(&self, unsettled: &Unsettled) {
        self.count_unsettled(unsettled);
    }
}
