//! The policy that applies to the subjects of a run: one that the deployment has, or one that is made for the run.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tollgate_core::Timestamp;

use crate::args::VerifyArgs;
use crate::error::VerifyError;
use crate::experiments::Settings;
use crate::http_target::{ATTRIBUTE, HttpTarget, LimitShown};
use crate::judge::Rule;
use crate::timeline::Timeline;

/// How long a change of the catalog may take to reach every node; Tollgate needs 5 seconds at most.
const REACHES_NODES: Duration = Duration::from_secs(15);
/// The time between two attempts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many answers in a row must have the policy, in case several nodes are behind one address.
const IN_A_ROW: usize = 20;

/// A policy to test.
pub(crate) struct TestPolicy {
    pub(crate) settings: Settings,
    pub(crate) id: String,
    /// Whether it was made for the run, so that it is deleted at the end.
    is_ours: bool,
}

impl TestPolicy {
    /// Takes the policy of the deployment that counts per [`ATTRIBUTE`], or makes one.
    pub(crate) async fn find_or_make(
        target: &HttpTarget,
        args: &VerifyArgs,
        token: Option<&str>,
        run: &str,
    ) -> Result<Self, VerifyError> {
        let limits = target.limits(0, &format!("{run}-probe")).await?;
        if let [only] = &limits[..]
            && let Some(rule) = testable(only)
        {
            let settings = Settings { rule, prefix: run.to_owned() };
            return Ok(Self { settings, id: only.policy_id.clone(), is_ours: false });
        }
        let Some(token) = token else {
            return Err(cannot_test(target, &limits, args));
        };
        let rule = Rule { limit: args.limit, window: Duration::from_secs(args.window_seconds) };
        let id = format!("tollgate-verify-{run}");
        let overridden: Vec<_> = limits.iter().map(|limit| &limit.policy_id).collect();
        let mut policy = json!({
            "id": id,
            "per": [ATTRIBUTE],
            "match": { ATTRIBUTE: format!("{run}-*") },
            "limit": rule.limit,
            "windowSeconds": args.window_seconds,
        });
        if !overridden.is_empty() {
            policy["overrides"] = json!(overridden);
        }
        admin(
            target,
            "create a policy",
            (Method::POST, "/admin/policies", policy.to_string()),
            token,
        )
        .await?;
        Ok(Self { settings: Settings { rule, prefix: run.to_owned() }, id, is_ours: true })
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
            let applying: Vec<_> = limits.iter().map(|limit| &limit.policy_id).collect();
            return Err(VerifyError::Policies {
                node: target.nodes[node].name.clone(),
                problem: format!(
                    "the policy {} does not apply alone {} s after it was created: {applying:?} apply; do all nodes have the \
                     same catalog?",
                    self.id,
                    REACHES_NODES.as_secs(),
                ),
            });
        }
        time.sleep_until(now.after(LOOK_EVERY)).await;
        Ok(())
    }

    /// Clears the usage of the run and deletes its policy. The usage under a policy of the deployment leaves its window by
    /// itself.
    pub(crate) async fn clean_up(
        &self,
        target: &HttpTarget,
        token: Option<&str>,
    ) -> Result<(), VerifyError> {
        let Some(token) = token.filter(|_| self.is_ours) else { return Ok(()) };
        let mut outcome = Ok(());
        for subject in self.settings.subjects() {
            let check = json!({ "attributes": { ATTRIBUTE: subject } }).to_string();
            let reset = (Method::POST, "/admin/usage/reset", check);
            outcome = outcome.and(admin(target, "clear the usage of the run", reset, token).await);
        }
        let path = format!("/admin/policies/{}", self.id);
        let delete = (Method::DELETE, &*path, String::new());
        admin(target, "delete the policy of the run", delete, token).await.and(outcome)
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

fn cannot_test(target: &HttpTarget, limits: &[LimitShown], args: &VerifyArgs) -> VerifyError {
    let applying: Vec<_> = limits.iter().map(|limit| &limit.policy_id).collect();
    let (what, overrides) = if applying.is_empty() {
        ("no policy applies to a check with only this attribute".to_owned(), String::new())
    } else {
        let what = format!("{applying:?} apply to a check with only this attribute");
        (what, format!(", overrides: {applying:?}"))
    };
    VerifyError::Policies {
        node: target.nodes[0].name.clone(),
        problem: format!(
            "there is no limit to test: {what}; set TOLLGATE_ADMIN_TOKEN to a write token, so that a policy can be made for \
             the run, or add one to the deployment, such as {{id: tollgate-verify, per: [{ATTRIBUTE}], limit: {}, \
             windowSeconds: {}{overrides}}}; accepted: a sliding window of 1 to 60 s with a limit of 2 to 1,000 requests",
            args.limit, args.window_seconds,
        ),
    }
}

async fn admin(
    target: &HttpTarget,
    action: &'static str,
    (method, path, body): (Method, &str, String),
    token: &str,
) -> Result<(), VerifyError> {
    let base = &target.nodes[0];
    let failed = |problem| VerifyError::Admin { node: base.name.clone(), action, problem };
    let answer = target.client.call(method, base.at(path), Some(token), body).await;
    let answer = answer.map_err(failed)?;
    if answer.status.is_success()
        || answer.status == StatusCode::NOT_FOUND && action.starts_with("delete")
    {
        return Ok(());
    }
    Err(failed(answer.refusal()))
}
