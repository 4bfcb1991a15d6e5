//! How to connect to servers: transport, login and database. Nothing here shows a user or a password.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::link::Pacer;
use crate::tls;
use crate::url::{Address, Credentials, RedisUrl, Transport, shown};

/// How to connect to servers.
#[derive(Clone)]
pub(crate) struct Login {
    over: Over,
    redis: RedisConnectionInfo,
    pub(crate) pacer: Arc<Pacer>,
}

/// The transport of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The transport and TLS settings of servers.
#[derive(Clone)]
enum Over {
    Tcp,
    Tls(Arc<TlsCertificates>),
    Unix,
}

/// The user is not shown: it may be a password in the wrong place.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    /// How to connect to the data nodes of `url`, and how to connect to its Sentinels, which have their own users and
    /// no databases.
    pub(crate) fn of(url: &RedisUrl) -> Result<(Self, Self), StoreError> {
        let over = match &url.transport {
            Transport::Tcp => Over::Tcp,
            Transport::Tls(files) => Over::Tls(Arc::new(tls::certificates(files)?)),
            Transport::Unix => Over::Unix,
        };
        let pacer = Arc::default();
        let login = |credentials: &Option<Credentials>, database: u32| {
            let mut redis = RedisConnectionInfo::default()
                .set_protocol(ProtocolVersion::RESP2)
                .set_skip_set_lib_name()
                .set_db(i64::from(database));
            if let Some(Credentials { user, password }) = credentials {
                redis = redis.set_password(password);
                if let Some(user) = user {
                    redis = redis.set_username(user);
                }
            }
            Self { over: over.clone(), redis, pacer: Arc::clone(&pacer) }
        };
        Ok((login(&url.credentials, url.database), login(&url.sentinel_credentials, 0)))
    }

    pub(crate) fn speaks_tls(&self) -> bool {
        matches!(self.over, Over::Tls(_))
    }

    /// The driver's settings for `address`.
    pub(crate) fn client(&self, address: &Address) -> Result<Client, StoreError> {
        self.open(address).map_err(|error| {
            let context = format!("Redis at {} cannot be used", shown(address));
            StoreError::new(StoreErrorKind::Unexpected, context).caused_by(error)
        })
    }

    fn open(&self, address: &Address) -> Result<Client, RedisError> {
        let (host, port) = address.clone();
        let place = match self.over {
            Over::Tcp => ConnectionAddr::Tcp(host, port),
            Over::Tls(_) => {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            }
            Over::Unix => ConnectionAddr::Unix(PathBuf::from(host)),
        };
        let info = place
            .into_connection_info()?
            .set_redis_settings(self.redis.clone())
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        match &self.over {
            Over::Tls(certificates) => Client::build_with_tls(info, (**certificates).clone()),
            Over::Tcp | Over::Unix => Client::open(info),
        }
    }

    /// Opens a stream to `address` whose end can be observed; `None` with TLS, because then the driver opens the
    /// stream.
    pub(crate) fn stream(
        &self,
        (host, port): &Address,
    ) -> Option<impl Future<Output = std::io::Result<Box<dyn Stream>>> + Send + use<>> {
        let is_unix = match self.over {
            Over::Tls(_) => return None,
            Over::Unix => true,
            Over::Tcp => false,
        };
        let (host, port) = (host.clone(), *port);
        Some(async move {
            if is_unix {
                return Ok(Box::new(UnixStream::connect(host).await?) as Box<dyn Stream>);
            }
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    /// Makes a separate connection to `address` and returns the driver's own error. It waits for its turn.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.pacer.admits_after_checks().await;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        self.open(address)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// The same without user, password and database.
    pub(crate) fn anonymous(&self) -> Self {
        let redis = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        Self { redis, ..self.clone() }
    }

    /// The same in the database 0.
    pub(crate) fn in_database_0(&self) -> Self {
        Self { redis: self.redis.clone().set_db(0), ..self.clone() }
    }

    /// The same with RESP3, which distinguishes messages from answers on one connection.
    pub(crate) fn for_subscriptions(&self) -> Self {
        Self { redis: self.redis.clone().set_protocol(ProtocolVersion::RESP3), ..self.clone() }
    }

    /// The same with TLS switched on or off.
    pub(crate) fn with_other_transport(&self) -> Self {
        let over = match self.over {
            Over::Tls(_) => Over::Tcp,
            Over::Tcp | Over::Unix => {
                let certificates = TlsCertificates { client_tls: None, root_cert: None };
                Over::Tls(Arc::new(certificates))
            }
        };
        Self { over, ..self.clone() }
    }
}

/// `error` without the command's arguments. Redis repeats the arguments of a command that it does not know; if AUTH or
/// HELLO is renamed, these contain the user and the password.
pub(crate) fn without_arguments(error: &RedisError) -> String {
    const REPEATED: &str = ", with args beginning with:";
    let text = error.to_string();
    match text.find(REPEATED) {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
