//! How to connect to servers: transport, login and database. Nothing here shows a user or a password.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tollgate_store::StoreError;

use crate::link::Pacer;
use crate::tls;
use crate::url::{Address, Credentials, RedisUrl, Transport};

/// How to connect to servers.
#[derive(Clone)]
pub(crate) struct Login {
    over: Over,
    redis: RedisConnectionInfo,
    pub(crate) pacer: Arc<Pacer>,
}

/// A stream to a server, whatever its transport.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The transport and TLS settings of servers.
#[derive(Clone)]
enum Over {
    Tcp,
    Tls(Arc<ClientConfig>),
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
            Transport::Tls(files) => Over::Tls(tls::client_config(files)?),
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

    /// Connects to `address`. The flag is set when the connection has ended, even if nothing is being sent on it.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        connect_timeout: Duration,
        config: AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Arc<AtomicBool>), RedisError> {
        let config = config.set_connection_timeout(None);
        let made = async {
            let stream = self.stream(address).await?;
            MultiplexedConnection::new_with_config(&self.redis, stream, config).await
        };
        let (connection, driver) = timeout(connect_timeout, made)
            .await
            .map_err(|_| RedisError::from(Error::from(ErrorKind::TimedOut)))??;
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        tokio::spawn(async move {
            driver.await;
            ended.store(true, Ordering::Relaxed);
        });
        Ok((connection, has_ended))
    }

    /// The same after the connections for checks. Connecting and each answer may take up to `timeout`.
    pub(crate) async fn connect_after_checks(
        &self,
        address: &Address,
        timeout: Duration,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.pacer.admits_after_checks().await;
        let config = config.set_response_timeout(Some(timeout));
        Ok(self.connect(address, timeout, config).await?.0)
    }

    /// Connects with TLS, sends nothing, and returns what the server has against the client's certificate. With TLS 1.3
    /// a server says so only after the handshake, and closes the connection. If the client sends a command at once, it
    /// may lose that message and see only a broken connection.
    pub(crate) async fn refusal_of_certificate(
        &self,
        address: &Address,
        wait: Duration,
    ) -> Option<Error> {
        self.pacer.admits_after_checks().await;
        let refusal = async { self.stream(address).await?.read_u8().await };
        timeout(wait, refusal).await.ok()?.err()
    }

    async fn stream(&self, (host, port): &Address) -> std::io::Result<Box<dyn Stream>> {
        if let Over::Unix = self.over {
            return Ok(Box::new(UnixStream::connect(host).await?));
        }
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let Over::Tls(config) = &self.over else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.clone())
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Box::new(connector.connect(name, stream).await?))
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
    pub(crate) fn with_other_transport(&self) -> Result<Self, StoreError> {
        let over = match self.over {
            Over::Tls(_) => Over::Tcp,
            Over::Tcp | Over::Unix => Over::Tls(tls::client_config_without_trust()?),
        };
        Ok(Self { over, ..self.clone() })
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
