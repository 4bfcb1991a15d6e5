//! The policy that applies to the subjects of a run: one that the deployment has, or one that is made for the run.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::timeout;
use tollgate_core::Timestamp;

use crate::args::VerifyArgs;
use crate::error::VerifyError;
use crate::experiments::Settings;
use crate::http_target::{ATTRIBUTE, HttpTarget, LimitShown};
use crate::judge::Rule;
use crate::timeline::Timeline;
use crate::token::TOKEN_VARIABLE;

/// How long a change of the catalog may take to reach every node; Tollgate needs 5 seconds at most.
const REACHES_NODES: Duration = Duration::from_secs(15);
/// The time between two attempts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many answers in a row must have the policy, in case several nodes are behind one address.
const IN_A_ROW: usize = 20;
/// The most time for cleaning up at the end of a run.
const CLEANING_UP: Duration = Duration::from_secs(5);
/// The part of it for clearing usage, so that time is left to delete the policy.
const CLEARING: Duration = Duration::from_secs(2);

/// The part of it for deleting the policy at one server, so that time is left to ask another.
const DELETING: Duration = Duration::from_secs(1);

/// A policy to test.
pub(crate) struct TestPolicy {
    pub(crate) settings: Settings,
    pub(crate) id: String,
    /// The policy as JSON, if it is made for the run.
    document: Option<String>,
    /// Whether it was made for the run, or may have been, so that it is deleted at the end.
    may_be_left: bool,
}

/// A call to `/admin` that failed.
struct Refused {
    problem: String,
    /// Whether the server refused it, so that it certainly had no effect.
    had_no_effect: bool,
}

impl TestPolicy {
    /// Takes the policy of the deployment that counts per [`ATTRIBUTE`], or describes one that must be created.
    pub(crate) async fn choose(
        target: &HttpTarget,
        args: &VerifyArgs,
        token: Option<&str>,
        run: &str,
    ) -> Result<Self, VerifyError> {
        let limits = target.limits(0, &format!("{run}-probe")).await?;
        let with = |rule, id, document| {
            let settings = Settings { rule, prefix: run.to_owned() };
            Self { settings, id, document, may_be_left: false }
        };
        if let [only] = &limits[..]
            && let Some(rule) = testable(only)
        {
            match args.other_than(rule) {
                None => return Ok(with(rule, only.policy_id.clone(), None)),
                Some(flag) if token.is_none() => {
                    return Err(has_another_rule(target, &only.policy_id, rule, &flag));
                }
                Some(_) => {}
            }
        }
        if token.is_none() {
            return Err(cannot_test(target, &limits, args));
        }
        let rule = args.rule();
        let id = format!("tollgate-verify-{run}");
        let overridden: Vec<_> = limits.iter().map(|limit| &limit.policy_id).collect();
        let mut policy = json!({
            "id": id,
            "per": [ATTRIBUTE],
            "match": { ATTRIBUTE: format!("{run}-*") },
            "limit": rule.limit,
            "windowSeconds": rule.window.as_secs(),
        });
        if !overridden.is_empty() {
            policy["overrides"] = json!(overridden);
        }
        Ok(with(rule, id, Some(policy.to_string())))
    }

    /// Creates the policy, unless it is one of the deployment. If this is cancelled, the policy may exist all the same.
    pub(crate) async fn create(
        &mut self,
        target: &HttpTarget,
        token: Option<&str>,
    ) -> Result<(), VerifyError> {
        let Some((document, token)) = self.document.clone().zip(token) else { return Ok(()) };
        self.may_be_left = true;
        let created = admin(target, 0, Method::POST, "/admin/policies", document, token).await;
        created.map_err(|Refused { problem, had_no_effect }| {
            self.may_be_left = !had_no_effect;
            let node = target.nodes[0].name.clone();
            VerifyError::Admin { node, action: "create a policy", problem }
        })
    }

    /// Returns when the policy applies on every node.
    pub(crate) async fn await_every_node(
        &self,
        target: &HttpTarget,
        time: &impl Timeline,
    ) -> Result<(), VerifyError> {
        let end = time.now().after(REACHES_NODES);
        for node in 0..target.nodes.len() {
            let mut in_a_row = 0;
            while in_a_row < IN_A_ROW {
                let limits =
                    target.limits(node, &format!("{}-probe", self.settings.prefix)).await?;
                let applies = matches!(&limits[..], [only] if only.policy_id == self.id);
                in_a_row = if applies { in_a_row + 1 } else { 0 };
                if !applies {
                    self.wait_for(target, node, &limits, time, end).await?;
                }
            }
        }
        Ok(())
    }

    async fn wait_for(
        &self,
        target: &HttpTarget,
        node: usize,
        limits: &[LimitShown],
        time: &impl Timeline,
        end: Timestamp,
    ) -> Result<(), VerifyError> {
        let now = time.now();
        if now >= end {
            let applying: Vec<_> = limits.iter().map(|limit| limit.policy_id.as_str()).collect();
            let applied = if applying.is_empty() {
                "no policy applies to its checks".to_owned()
            } else {
                format!("{} apply", applying.join(", "))
            };
            let (id, seconds) = (&self.id, REACHES_NODES.as_secs());
            return Err(VerifyError::Policies {
                node: target.nodes[node].name.clone(),
                problem: format!(
                    "does not apply the policy {id} alone {seconds} s after it was created: {applied}; all servers need the same \
                     catalog"
                ),
            });
        }
        time.sleep_until(now.after(LOOK_EVERY)).await;
        Ok(())
    }

    /// Clears the usage of the run and deletes its policy, within [`CLEANING_UP`]. Ends at once when `given_up` returns.
    /// The usage under a policy of the deployment leaves its window by itself.
    pub(crate) async fn clean_up(
        &self,
        target: &HttpTarget,
        token: Option<&str>,
        given_up: impl Future<Output = ()>,
    ) -> Result<(), VerifyError> {
        let Some(token) = token.filter(|_| self.may_be_left) else { return Ok(()) };
        let deleting = timeout(CLEANING_UP, self.clear_and_delete(target, token));
        let problem = match select(pin!(deleting), pin!(given_up)).await {
            Either::Left((Ok(Ok(())), _)) => return Ok(()),
            Either::Left((Ok(Err(refused)), _)) => refused.problem,
            Either::Left((Err(_), _)) => {
                format!("it was not deleted within {} s", CLEANING_UP.as_secs())
            }
            Either::Right(((), _)) => "a second signal came before it was deleted".to_owned(),
        };
        let node = target.nodes[0].name.clone();
        Err(VerifyError::PolicyLeft { node, id: self.id.clone(), problem })
    }

    async fn clear_and_delete(&self, target: &HttpTarget, token: &str) -> Result<(), Refused> {
        let resets = self.settings.subjects().map(|subject| {
            let check = json!({ "attributes": { ATTRIBUTE: subject } }).to_string();
            admin(target, 0, Method::POST, "/admin/usage/reset", check, token)
        });
        // Usage that is not cleared leaves its window by itself.
        _ = timeout(CLEARING, join_all(resets)).await;
        let path = format!("/admin/policies/{}", self.id);
        let mut failed = None;
        // The policy was made at the first server; if that is gone, the others have the same catalog.
        let last = target.nodes.len() - 1;
        for node in 0..=last {
            let deleted = admin(target, node, Method::DELETE, &path, String::new(), token);
            let at_most = if node == last { CLEANING_UP } else { DELETING };
            let refused = match timeout(at_most, deleted).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refused)) => refused,
                Err(_) => Refused {
                    problem: format!("no answer within {} s", DELETING.as_secs()),
                    had_no_effect: false,
                },
            };
            failed.get_or_insert(refused);
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The rule of a limit that the experiments can test.
fn testable(shown: &LimitShown) -> Option<Rule> {
    let is_exact = shown.algorithm == "sliding_window_log"
        && shown.mode == "enforce"
        && shown.unit == "requests"
        && shown.scope != "GLOBAL";
    let (limit, window) = (shown.limit?, Duration::from_secs(shown.window_seconds?));
    let is_small = (2..=1_000).contains(&limit) && (1..=60).contains(&window.as_secs());
    (is_exact && is_small).then_some(Rule { limit, window })
}

/// A flag asks for another rule than that of the deployment's policy, and there is no token to make a policy with.
fn has_another_rule(target: &HttpTarget, id: &str, rule: Rule, flag: &str) -> VerifyError {
    VerifyError::Policies {
        node: target.nodes[0].name.clone(),
        problem: format!(
            "{flag} is not what the policy {id} of the deployment says, which has {} requests in {} s; accepted: neither \
             --limit nor --window-seconds, to test that policy, or a write token in {TOKEN_VARIABLE}, so that a policy is made \
             for the run",
            rule.limit,
            rule.window.as_secs(),
        ),
    }
}

fn cannot_test(target: &HttpTarget, limits: &[LimitShown], args: &VerifyArgs) -> VerifyError {
    let applying: Vec<_> = limits.iter().map(|limit| &limit.policy_id).collect();
    let (what, overrides) = if applying.is_empty() {
        ("no policy applies to a check with only this attribute".to_owned(), String::new())
    } else {
        let what = format!("{applying:?} apply to a check with only this attribute");
        (what, format!(", overrides: {applying:?}"))
    };
    let Rule { limit, window } = args.rule();
    let seconds = window.as_secs();
    VerifyError::Policies {
        node: target.nodes[0].name.clone(),
        problem: format!(
            "there is no limit to test: {what}; set {TOKEN_VARIABLE} to a write token, so that a policy can be made for the \
             run, or add one to the deployment, such as {{id: tollgate-verify, per: [{ATTRIBUTE}], limit: {limit}, \
             windowSeconds: {seconds}{overrides}}}; accepted: a sliding window of 1 to 60 s with a limit of 2 to 1,000 \
             requests",
        ),
    }
}

/// Calls `/admin` of a server. What is to be deleted at the first may be absent; another may have another catalog.
async fn admin(
    target: &HttpTarget,
    node: usize,
    method: Method,
    path: &str,
    body: String,
    token: &str,
) -> Result<(), Refused> {
    let may_be_absent = method == Method::DELETE && node == 0;
    let answer = target.client.call(method, target.nodes[node].at(path), Some(token), body).await;
    let answer = answer.map_err(|problem| Refused { problem, had_no_effect: false })?;
    if answer.status.is_success() || may_be_absent && answer.status == StatusCode::NOT_FOUND {
        return Ok(());
    }
    let had_no_effect = answer.status.is_client_error();
    Err(Refused { problem: advised(answer.status, answer.refusal()), had_no_effect })
}

/// What a call to `/admin` was refused with, and what to do about it.
fn advised(status: StatusCode, refusal: String) -> String {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            format!(
                "the token in {TOKEN_VARIABLE} is refused: {refusal}; accepted: an admin token of this server that may write"
            )
        }
        StatusCode::METHOD_NOT_ALLOWED => format!(
            "{refusal}; accepted: a policy in that catalog, such as {{id: tollgate-verify, per: [{ATTRIBUTE}], limit: 40, \
             windowSeconds: 2}}, which is tested without a token"
        ),
        _ => refusal,
    }
}
