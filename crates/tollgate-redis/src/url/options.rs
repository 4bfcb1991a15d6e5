//! The options of a URL, after its `?`.

use std::path::PathBuf;

use super::split::decoded;
use super::{Credentials, Form, Kind, TlsFiles, Transport, UrlProblem};

/// The longest prefix of keys, in bytes.
const MAX_PREFIX_BYTES: usize = 64;
/// The default prefix of keys.
const DEFAULT_PREFIX: &str = "tg:";

const PREFIX: &str = "prefix";
const DATABASE: &str = "db";
const AUTHORITIES: &str = "ca";
const CERTIFICATE: &str = "cert";
const KEY: &str = "key";
const SENTINEL_USER: &str = "sentinel_user";
const SENTINEL_PASSWORD: &str = "sentinel_password";
const NAMES: [&str; 7] =
    [PREFIX, DATABASE, AUTHORITIES, CERTIFICATE, KEY, SENTINEL_USER, SENTINEL_PASSWORD];

/// The options of a URL, decoded.
pub(super) struct Options([Option<String>; NAMES.len()]);

impl Options {
    /// Parses `query`. An unknown name is reported by its position, because it may be a part of a password.
    pub(super) fn read(query: &str) -> Result<Self, UrlProblem> {
        let mut values: [Option<String>; NAMES.len()] = Default::default();
        let given = query.split('&').filter(|option| !option.is_empty());
        for (index, option) in given.enumerate() {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let known = NAMES.iter().zip(&mut values).find(|(known, _)| **known == name);
            let Some((name, slot)) = known else {
                let (number, names) = (index + 1, NAMES.join(", "));
                let problem = format!("option {number} after its `?` is not one of {names}");
                return Err(UrlProblem::new(problem));
            };
            if slot.replace(decoded(value, &format!("option `{name}`"))?).is_some() {
                return Err(UrlProblem::new(format!("it has the option `{name}` twice")));
            }
        }
        Ok(Self(values))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let found = NAMES.iter().zip(&mut self.0).find(|(known, _)| **known == name);
        found.and_then(|(_, slot)| slot.take())
    }

    /// The database from `path` or from the option.
    pub(super) fn database(&mut self, path: &str) -> Result<u32, UrlProblem> {
        let option = self.take(DATABASE);
        let text = match (path, &option) {
            ("", None) => return Ok(0),
            ("", Some(option)) => option,
            (path, None) => path,
            _ => return Err(UrlProblem::new("it has its database in the path and as `db`")),
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.ok_or_else(|| UrlProblem::new("its database is not a number"))
    }

    pub(super) fn transport(&mut self, kind: Kind) -> Result<Transport, UrlProblem> {
        let mut files = [AUTHORITIES, CERTIFICATE, KEY].map(|name| (name, self.take(name)));
        if let Some((name, _)) = files.iter().find(|(_, file)| file.is_some())
            && !kind.tls
        {
            let with_tls = format!("{}s", kind.name);
            let problem = format!("it has `{name}` without TLS; use {with_tls}://…");
            return Err(UrlProblem::new(problem));
        }
        if let Some((name, _)) =
            files.iter().find(|(_, file)| file.as_ref().is_some_and(String::is_empty))
        {
            return Err(UrlProblem::new(format!("its `{name}` names no file")));
        }
        let [authorities, certificate, key] =
            [0, 1, 2].map(|index: usize| files[index].1.take().map(PathBuf::from));
        match (&certificate, &key) {
            (Some(_), None) => Err(UrlProblem::new("it has `cert` without `key`")),
            (None, Some(_)) => Err(UrlProblem::new("it has `key` without `cert`")),
            _ if kind.tls => Ok(Transport::Tls(TlsFiles { authorities, certificate, key })),
            _ if kind.form == Form::Unix => Ok(Transport::Unix),
            _ => Ok(Transport::Tcp),
        }
    }

    pub(super) fn sentinel_credentials(
        &mut self,
        kind: Kind,
    ) -> Result<Option<Credentials>, UrlProblem> {
        let (user, password) = (self.take(SENTINEL_USER), self.take(SENTINEL_PASSWORD));
        match (user, password) {
            (None, None) => Ok(None),
            _ if kind.form != Form::Sentinel => {
                let problem = "it has `sentinel_user` or `sentinel_password` without Sentinels";
                Err(UrlProblem::new(problem))
            }
            (Some(_), None) => {
                Err(UrlProblem::new("it has `sentinel_user` without `sentinel_password`"))
            }
            (user, Some(password)) => {
                Ok(Some(Credentials { user: user.filter(|user| !user.is_empty()), password }))
            }
        }
    }

    pub(super) fn prefix(&mut self) -> Result<String, UrlProblem> {
        let prefix = self.take(PREFIX).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        if prefix.len() > MAX_PREFIX_BYTES || prefix.contains(['{', '}']) {
            let problem =
                format!("its prefix is not 0 to {MAX_PREFIX_BYTES} bytes without {{ and }}");
            return Err(UrlProblem::new(problem));
        }
        Ok(prefix)
    }
}
