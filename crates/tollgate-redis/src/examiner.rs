//! Finds out what is wrong with a server that does not behave as the URL says, and separates it from a server that is
//! only unavailable. Only a wrong configuration is a [`Misconfiguration`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value,
};
use tollgate_store::{Misconfiguration, StartProblem, StoreError, StoreErrorKind};

use crate::hello::{Hello, Mode};
use crate::link::{Failure, Link};
use crate::login::{Login, without_arguments};
use crate::rights::{Lack, is_unknown_command};
use crate::url::{Address, Deployment, RedisUrl, shown};

/// The minimum timeout of a connection for an examination,
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// and the maximum, if calls may take longer.
const MAX_LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of one answer. After it the connection is closed, so that the next examination uses a new one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn misconfigured(problem: String, remedy: impl Into<String>) -> StartProblem {
    StartProblem::Misconfigured(Misconfiguration::new(problem, remedy))
}

pub(crate) fn unavailable(context: String) -> StartProblem {
    StartProblem::Unavailable(StoreError::new(StoreErrorKind::Unavailable, context))
}

/// Examines servers and compares them with a URL.
#[derive(Debug)]
pub(crate) struct Examiner {
    pub(crate) url: RedisUrl,
    login: Login,
    sentinel_login: Login,
    look_timeout: Duration,
}

/// A server: its name in messages, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Place<'e> {
    address: &'e Address,
    login: &'e Login,
    is_sentinel: bool,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_sentinel { "the Sentinel" } else { "Redis" };
        write!(f, "{what} at {}", shown(self.address))
    }
}

impl Examiner {
    /// `deadline` is the deadline of calls.
    pub(crate) fn new(
        url: &RedisUrl,
        login: Login,
        sentinel_login: Login,
        deadline: Duration,
    ) -> Self {
        let look_timeout = deadline.clamp(LOOK_TIMEOUT, MAX_LOOK_TIMEOUT);
        Self { url: url.clone(), login, sentinel_login, look_timeout }
    }

    /// A data node.
    pub(crate) fn data_node<'e>(&'e self, link: &'e Link) -> Place<'e> {
        Place { address: &link.address, login: &self.login, is_sentinel: false }
    }

    /// A server that the URL names.
    pub(crate) fn seed<'e>(&'e self, link: &'e Link) -> Place<'e> {
        match self.url.deployment {
            Deployment::Sentinel { .. } => {
                Place { address: &link.address, login: &self.sentinel_login, is_sentinel: true }
            }
            Deployment::Single | Deployment::Cluster => self.data_node(link),
        }
    }

    /// Sends `HELLO` to the server of `link`, which is named by the URL or was found through it.
    pub(crate) async fn greet(
        &self,
        link: &Arc<Link>,
        place: &Place<'_>,
    ) -> Result<Hello, StartProblem> {
        let hello = match link.query_within::<Value>(ANSWER_TIMEOUT, &redis::cmd("HELLO")).await {
            Ok(answer) => Hello::read(&answer),
            Err(Failure::NotSent(error)) => return self.diagnose(place, error).await,
            // An old server, or a proxy that hides what the server is.
            Err(Failure::Redis(error)) if is_unknown_command(&error) => Hello::default(),
            Err(Failure::Redis(error)) if error.is_io_error() => {
                let context = format!("{place} did not answer: {}", without_arguments(&error));
                let lost = StoreError::new(StoreErrorKind::Unavailable, context);
                return self.diagnose(place, lost).await;
            }
            Err(Failure::Redis(error)) => return Err(self.refused(place, "hello", &error)),
        };
        self.judge(place, &hello)?;
        Ok(hello)
    }

    /// Runs `command`, called `name` in rights, on the server of `link`.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        link: &Arc<Link>,
        place: &Place<'_>,
        name: &str,
        command: &Cmd,
    ) -> Result<T, StartProblem> {
        let answer = link.query_within(ANSWER_TIMEOUT, command).await;
        answer.map_err(|failure| match failure {
            Failure::NotSent(error) => StartProblem::Unavailable(error),
            Failure::Redis(error) => self.refused(place, name, &error),
        })
    }

    /// Checks that the server is of the kind that the URL says.
    fn judge(&self, place: &Place<'_>, hello: &Hello) -> Result<(), StartProblem> {
        let Some(mode) = hello.mode else { return Ok(()) };
        let (at, url) = (shown(place.address), &self.url);
        let sentinels = Deployment::Sentinel { master: String::new() };
        let scheme = |deployment: &Deployment| url.scheme_for(deployment);
        let now = scheme(&url.deployment);
        match (mode, &url.deployment) {
            (Mode::Standalone, Deployment::Single) | (Mode::Cluster, Deployment::Cluster) => Ok(()),
            (Mode::Sentinel, Deployment::Sentinel { .. }) if place.is_sentinel => Ok(()),
            (Mode::Standalone, Deployment::Sentinel { .. }) if !place.is_sentinel => Ok(()),
            (Mode::Sentinel, _) => Err(misconfigured(
                format!("Redis at {at}: this is a Sentinel, which stores no data"),
                format!("use {}://{at}/MASTER in place of {now}://", scheme(&sentinels)),
            )),
            (_, Deployment::Sentinel { .. }) if place.is_sentinel => Err(misconfigured(
                format!("the Sentinel at {at}: this is a Redis server, not a Sentinel"),
                format!(
                    "name the Sentinels (their usual port is 26379), or use {}://{at} in place of {now}://",
                    scheme(if mode == Mode::Cluster {
                        &Deployment::Cluster
                    } else {
                        &Deployment::Single
                    })
                ),
            )),
            (Mode::Cluster, _) => Err(misconfigured(
                format!("Redis at {at}: this is a Cluster"),
                format!("use {}://{at} in place of {now}://", scheme(&Deployment::Cluster)),
            )),
            (Mode::Standalone, _) => Err(misconfigured(
                format!("Redis at {at}: Cluster mode is off (cluster-enabled no)"),
                format!("use {}://{at} in place of {now}://", scheme(&Deployment::Single)),
            )),
        }
    }

    /// Classifies `error`, with which the server at `place` refused `command`.
    pub(crate) fn refused(
        &self,
        place: &Place<'_>,
        command: &str,
        error: &RedisError,
    ) -> StartProblem {
        match self.lack(place, command, error) {
            Ok(lack) => self.lacking(place, &[lack]),
            Err(problem) => problem,
        }
    }

    /// The right that is missing to run `command`, if `error` says so; otherwise the problem.
    pub(crate) fn lack(
        &self,
        place: &Place<'_>,
        command: &str,
        error: &RedisError,
    ) -> Result<Lack, StartProblem> {
        let text = without_arguments(error);
        if error.code() == Some("NOAUTH") {
            let problem = format!("{place} requires a password (NOAUTH)");
            return Err(misconfigured(problem, self.login_remedy(place)));
        }
        let no_perm = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm);
        if no_perm && let Some(lack) = Lack::of(command, &format!("NOPERM {text}")) {
            return Ok(lack);
        }
        if is_unknown_command(error) {
            return Err(Self::unknown_commands(place, &[command.to_owned()]));
        }
        Err(unavailable(format!("{place} refused {}: {text}", command.to_uppercase())))
    }

    /// A server on which commands were renamed, or which is neither Redis nor Valkey.
    pub(crate) fn unknown_commands(place: &Place<'_>, names: &[String]) -> StartProblem {
        let names: Vec<_> =
            names.iter().map(|name| name.to_uppercase().replace('|', " ")).collect();
        misconfigured(
            format!("{place} does not know the command {}", names.join(", ")),
            "enable it (see `rename-command` and the other settings that disable commands), or use a server that has it (Redis 7.0 or later, or Valkey)",
        )
    }

    /// A user who lacks rights.
    pub(crate) fn lacking(&self, place: &Place<'_>, lacks: &[Lack]) -> StartProblem {
        let what: Vec<_> = lacks.iter().map(Lack::to_string).collect();
        let rights: Vec<_> = lacks.iter().map(|lack| lack.right(&self.url.prefix)).collect();
        let credentials =
            if place.is_sentinel { &self.url.sentinel_credentials } else { &self.url.credentials };
        // The server accepted this user name, so it cannot be a misplaced password.
        let user =
            credentials.as_ref().and_then(|known| known.user.as_deref()).unwrap_or("default");
        misconfigured(
            format!("{place} does not allow its user {} (NOPERM)", what.join(", ")),
            format!("run on it: ACL SETUSER {user} {}", rights.join(" ")),
        )
    }

    fn login_remedy(&self, place: &Place<'_>) -> String {
        if place.is_sentinel {
            "add the option sentinel_password=PASSWORD to the URL, and sentinel_user=USER if the Sentinels have users".to_owned()
        } else {
            let scheme = self.url.scheme_for(&self.url.deployment);
            format!("put it into the URL: {scheme}://[USER]:PASSWORD@…")
        }
    }

    fn where_login_is(&self, place: &Place<'_>) -> String {
        if place.is_sentinel {
            "the options sentinel_user and sentinel_password of the URL".to_owned()
        } else {
            let scheme = self.url.scheme_for(&self.url.deployment);
            format!("the user or the password in the URL: {scheme}://[USER]:PASSWORD@…")
        }
    }

    /// Connects to the server at `place` again, to find out why the first connection failed with `error`.
    async fn diagnose(&self, place: &Place<'_>, error: StoreError) -> Result<Hello, StartProblem> {
        let told = match self.hello_by(place.login, place.address).await {
            Ok(hello) => {
                self.judge(place, &hello)?;
                return Ok(hello);
            }
            Err(told) => told,
        };
        // Sentinels have no databases, so check this before unknown commands.
        let of_database = told.to_string().contains("switch database");
        if is_unknown_command(&told) && !of_database {
            return Ok(Hello::default());
        }
        let found = if told.kind() == ErrorKind::AuthenticationFailed {
            Some(self.refused_login(place).await)
        } else if of_database {
            Some(self.refused_database(place, &told).await)
        } else if told.code().is_some() {
            Some(self.refused(place, "hello", &told))
        } else if told.is_connection_refusal() {
            None
        } else {
            let mut causes = format!("{error}: {}", without_arguments(&told));
            if place.login.speaks_tls() && !told.is_timeout() {
                let refusal = place.login.refusal_of_certificate(place.address, self.look_timeout);
                causes.extend(refusal.await.map(|refusal| format!(": {refusal}")));
            }
            self.wrong_transport(place, &causes).await
        };
        Err(found.unwrap_or(StartProblem::Unavailable(error)))
    }

    async fn connect(
        &self,
        login: &Login,
        address: &Address,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new();
        login.connect_after_checks(address, self.look_timeout, config).await
    }

    async fn hello_by(&self, login: &Login, address: &Address) -> Result<Hello, RedisError> {
        let mut connection = self.connect(login, address).await?;
        let answer: Value = redis::cmd("HELLO").query_async(&mut connection).await?;
        Ok(Hello::read(&answer))
    }

    /// Subscribes once to `channel` on a separate connection, as nodes do.
    pub(crate) async fn subscribe(
        &self,
        place: &Place<'_>,
        channel: &str,
    ) -> Result<(), RedisError> {
        let login = place.login.for_subscriptions();
        let mut connection = self.connect(&login, place.address).await?;
        redis::cmd("SUBSCRIBE").arg(channel).query_async(&mut connection).await
    }

    async fn refused_login(&self, place: &Place<'_>) -> StartProblem {
        let anonymous = self.hello_by(&place.login.anonymous(), place.address).await;
        let Ok(hello) = anonymous else {
            return misconfigured(
                format!("{place} refuses the user or the password (WRONGPASS)"),
                format!("correct {}", self.where_login_is(place)),
            );
        };
        if let Err(problem) = self.judge(place, &hello) {
            return problem;
        }
        misconfigured(
            format!(
                "{place} refuses the user or the password (WRONGPASS), and accepts connections without a login"
            ),
            format!("correct {}; or remove both", self.where_login_is(place)),
        )
    }

    async fn refused_database(&self, place: &Place<'_>, error: &RedisError) -> StartProblem {
        let hello = self.hello_by(&place.login.in_database_0(), place.address).await;
        if let Ok(hello) = hello
            && let Err(problem) = self.judge(place, &hello)
        {
            return problem;
        }
        let text = without_arguments(error);
        if text.contains("no permissions") {
            return self.lacking(place, &[Lack::Command("select".to_owned())]);
        }
        misconfigured(
            format!("{place} has no database {}: {text}", self.url.database),
            "use a database from 0 to one less than its setting `databases`",
        )
    }

    /// TLS to a server without it, the other way round, and certificates.
    async fn wrong_transport(&self, place: &Place<'_>, told: &str) -> Option<StartProblem> {
        let other = place.login.anonymous().with_other_transport().ok()?;
        let now = self.url.scheme_for(&self.url.deployment);
        if place.login.speaks_tls() {
            if let Some(problem) = distrusted(place, told) {
                return Some(problem);
            }
            let answers = match self.hello_by(&other, place.address).await {
                Ok(_) => true,
                // Only a Redis reply shows that a Redis answers without TLS.
                Err(error) => error.code().is_some(),
            };
            return answers.then(|| {
                misconfigured(
                    format!("{place} does not use TLS"),
                    format!("use the scheme without TLS in place of {now}://, or the TLS port"),
                )
            });
        }
        let speaks_tls = match self.hello_by(&other, place.address).await {
            Ok(_) => true,
            Err(error) => error.code().is_some() || names_certificate(&error.to_string()),
        };
        speaks_tls.then(|| {
            misconfigured(
                format!("{place} uses TLS"),
                format!("use {}s in place of {}", self.url.name(), self.url.name()),
            )
        })
    }
}

fn names_certificate(text: &str) -> bool {
    text.to_lowercase().contains("certificate")
}

/// Describes a problem with a certificate, if `error` is one. An expired certificate does not count, because it is not
/// a matter of this node's configuration.
fn distrusted(place: &Place<'_>, told: &str) -> Option<StartProblem> {
    let refusals = [
        "CertificateRequired",
        "UnknownCA",
        "BadCertificate",
        "CertificateUnknown",
        "HandshakeFailure",
    ];
    let refusal = refusals.iter().find(|refusal| told.contains(&format!("alert: {refusal}")));
    if let Some(refusal) = refusal {
        return Some(misconfigured(
            format!("{place} requires clients to present a certificate that it trusts ({refusal})"),
            "name a certificate and its key in the URL: ?cert=FILE&key=FILE",
        ));
    }
    let why = distrust(told)?;
    let remedy = if why.contains(AUTHORITY_AS_SERVER) {
        "a certificate of an authority is not accepted as that of a server: sign one for the server with it, and name the authority with ?ca=FILE"
    } else {
        "name its authority in the URL with ?ca=FILE, and write the host as in the certificate"
    };
    Some(misconfigured(format!("{place} has a certificate that is not trusted ({why})"), remedy))
}

/// How rustls calls a certificate that is self-signed as an authority.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Why a certificate is not trusted, if `told` says so. Its times are no matter of this node's configuration.
fn distrust(told: &str) -> Option<&str> {
    let (_, why) = told.split_once("invalid peer certificate: ")?;
    let is_of_time = ["Expired", "NotValidYet", "expired", "not valid yet"];
    (!is_of_time.iter().any(|of_time| why.contains(of_time))).then_some(why)
}

#[cfg(test)]
mod tests {
    use super::distrust;

    #[test]
    fn every_certificate_is_distrusted_but_for_its_times() {
        for why in ["UnknownIssuer", "BadSignature", "Other(OtherError(CaUsedAsEndEntity))"] {
            let told = format!("no connection: invalid peer certificate: {why}");
            assert_eq!(distrust(&told), Some(why));
        }
        for told in [
            "no connection: invalid peer certificate: Expired",
            "invalid peer certificate: certificate expired: verification time 1 (UNIX)",
            "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX)",
            "no connection: connection refused",
        ] {
            assert_eq!(distrust(told), None, "{told}");
        }
    }
}
