//! Servers that are verified over HTTP.

use std::collections::HashSet;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::error::VerifyError;
use crate::http::{Base, HttpClient};
use crate::target::{Answer, Ask, CheckError, Target};

/// The attribute of all checks. Nobody else uses it, so no limit of anybody is spent.
pub(crate) const ATTRIBUTE: &str = "tollgate_verify";

/// The nodes of a deployment.
#[derive(Clone, Debug)]
pub(crate) struct HttpTarget {
    pub(crate) client: HttpClient,
    pub(crate) nodes: Vec<Base>,
    /// The policy that applies to the subjects, once it is known.
    pub(crate) policy_id: Option<String>,
}

/// The part of an answer to a check that is judged.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    allowed: bool,
    retry_after_ms: u64,
    count: u64,
    degraded: bool,
    reason: Option<String>,
    limits: Vec<LimitShown>,
}

/// A limit in an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitShown {
    pub(crate) policy_id: String,
    pub(crate) scope: String,
    pub(crate) unit: String,
    pub(crate) algorithm: String,
    pub(crate) mode: String,
    pub(crate) limit: Option<u64>,
    pub(crate) window_seconds: Option<u64>,
}

impl HttpTarget {
    pub(crate) fn new(servers: &[String]) -> Result<Self, VerifyError> {
        let nodes = servers.iter().map(|text| Base::parse(text)).collect::<Result<Vec<_>, _>>()?;
        // A server beside itself would prove only that it shares its counts with itself.
        let mut names = HashSet::new();
        if let Some(again) = nodes.iter().find(|node| !names.insert(node.name.as_str())) {
            let problem = format!("{} is given twice", again.name);
            return Err(VerifyError::Address { problem });
        }
        let needs_tls = nodes.iter().any(Base::needs_tls);
        let client = HttpClient::new(needs_tls)?;
        Ok(Self { client, nodes, policy_id: None })
    }

    /// The limits that `subject` meets at `node`.
    pub(crate) async fn limits(
        &self,
        node: usize,
        subject: &str,
    ) -> Result<Vec<LimitShown>, CheckError> {
        Ok(self.decision(node, subject, Ask::Peek).await?.limits)
    }

    async fn decision(&self, node: usize, subject: &str, ask: Ask) -> Result<Decision, CheckError> {
        let base = &self.nodes[node];
        let failed = |problem| CheckError { node: base.name.clone(), problem };
        let path = match ask {
            Ask::Charge => "/rate-limit/check",
            Ask::Peek => "/rate-limit/peek",
        };
        let body = json!({ "attributes": { ATTRIBUTE: subject } }).to_string();
        let answer = self.client.call(Method::POST, base.at(path), None, body).await;
        let answer = answer.map_err(failed)?;
        if answer.is_tollgates() {
            return Err(failed(format!("the server refused POST {path}: {}", answer.refusal())));
        }
        let other = |problem: String| {
            failed(format!(
                "this does not answer like a Tollgate server: POST {path} gave {}{problem}; accepted: the address at which \
                 `tollgate serve` answers HTTP, which is neither that of its gateway nor that of its gRPC",
                answer.shown()
            ))
        };
        if answer.status != StatusCode::OK {
            return Err(other(String::new()));
        }
        let decision = answer.json::<Decision>();
        let decision =
            decision.map_err(|error| other(format!(", which is not a decision ({error})")))?;
        if decision.degraded {
            let problem = "the store did not answer, so a check was decided without it; verify when the store works";
            return Err(failed(problem.to_owned()));
        }
        Ok(decision)
    }
}

impl Target for HttpTarget {
    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    async fn check(&self, node: usize, subject: &str, ask: Ask) -> Result<Answer, CheckError> {
        let decision = self.decision(node, subject, ask).await?;
        let applying: Vec<_> = decision.limits.iter().map(|limit| &limit.policy_id).collect();
        let is_expected = matches!(applying[..], [id] if self.policy_id.as_ref() == Some(id));
        if !is_expected {
            let problem = format!(
                "not only the policy of this run applies any more: {applying:?}{}",
                decision.reason.map(|reason| format!(", {reason}")).unwrap_or_default(),
            );
            return Err(CheckError { node: self.nodes[node].name.clone(), problem });
        }
        Ok(Answer {
            allowed: decision.allowed,
            retry_after: Duration::from_millis(decision.retry_after_ms),
            count: decision.count,
        })
    }
}
