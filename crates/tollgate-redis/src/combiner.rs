//! Many checks in one script call. While many calls are in flight, the next checks wait and are sent together, so that
//! Redis spends its time on counting and not on calls.
//!
//! Invariant: checks that share a key are decided in the order in which they came, as a call is sent only when none that is
//! under way has one of its keys. A check that waits here is not sent yet, so it charges nothing if its caller gives up.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tollgate_store::{StoreError, is_ordered};

use crate::call::{Answered, Progress};
use crate::check::{ChargeCall, GroupReply, Question, late, unreadable};
use crate::link::Link;
use crate::store::RedisStore;
use crate::wire::{self, MAX_CHECKS, ScriptReply};

/// The number of calls in flight from which checks are combined. With fewer, each check is sent at once, because
/// combining would gain nothing.
const MAX_ALONE: usize = 8;

/// The calls of many checks that are under way at once: while Redis runs one, this node reads the answers to the other and
/// packs the next.
const MAX_TOGETHER: usize = 2;

/// The checks of one server that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Combiner(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    alone: usize,
    queue: VecDeque<Waiting>,
    /// Whether a task is sending the queue.
    is_sending: bool,
}

/// The keys of the calls that are under way, as hashes: if two are the same by chance, one call waits for the other.
#[derive(Debug, Default)]
struct Busy {
    calls: VecDeque<(u64, HashSet<u64>)>,
    next_call: u64,
    hasher: RandomState,
}

impl Busy {
    fn keys_of<'a>(&'a self, question: &'a Question) -> impl Iterator<Item = u64> + 'a {
        question.keys().map(|key| self.hasher.hash_one(key))
    }

    fn has_none_of(&self, question: &Question) -> bool {
        self.keys_of(question).all(|key| self.calls.iter().all(|(_, keys)| !keys.contains(&key)))
    }

    /// Notes that `waiting` is under way; the number of that call.
    fn begin(&mut self, waiting: &[Waiting]) -> u64 {
        let keys = waiting.iter().flat_map(|one| self.keys_of(&one.question)).collect();
        self.next_call += 1;
        self.calls.push_back((self.next_call, keys));
        self.next_call
    }

    fn end(&mut self, call: u64) {
        self.calls.retain(|(number, _)| *number != call);
    }
}

/// A check that waits.
#[derive(Debug)]
struct Waiting {
    question: Question,
    progress: Arc<Progress>,
    answer: oneshot::Sender<Result<GroupReply, Unanswered>>,
}

/// Why a combined check has no answer yet.
#[derive(Debug)]
enum Unanswered {
    /// The check itself caused an error and was not charged. Sent alone, it gets its own error.
    AskAlone,
    /// The call failed.
    Failed(StoreError),
}

/// How a check is sent.
pub(crate) enum Entrance<'a> {
    /// At once, in a separate call, which counts as in flight until this is dropped.
    Alone(Alone<'a>),
    /// Together with the others that wait.
    Together,
}

/// A separate call of one check.
pub(crate) struct Alone<'a>(&'a Combiner);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.state().alone -= 1;
    }
}

impl Combiner {
    /// A poisoned lock is fine: every change is a single assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self) -> Entrance<'_> {
        let mut state = self.state();
        // Checks of separate calls can overtake each other while a script is loaded or a connection is made.
        if is_ordered() || state.is_sending || state.alone >= MAX_ALONE {
            return Entrance::Together;
        }
        state.alone += 1;
        Entrance::Alone(Alone(self))
    }

    /// Adds a check; returns whether the caller must start the sending task.
    fn add(&self, waiting: Waiting) -> bool {
        let mut state = self.state();
        state.queue.push_back(waiting);
        !std::mem::replace(&mut state.is_sending, true)
    }

    /// The next checks to send while `busy` calls are under way; nobody sends any more if there is none of either. Beside
    /// a call that is under way only a full one is sent: a smaller one would cost more than it gains.
    fn next(&self, busy: &Busy) -> Vec<Waiting> {
        let mut state = self.state();
        let waiting = state.queue.len().min(MAX_CHECKS);
        if busy.calls.is_empty() {
            state.is_sending = waiting > 0;
            return state.queue.drain(..waiting).collect();
        }
        let is_free = |one: &Waiting| busy.has_none_of(&one.question);
        if waiting < MAX_CHECKS || !state.queue.iter().take(waiting).all(is_free) {
            return Vec::new();
        }
        state.queue.drain(..waiting).collect()
    }
}

impl RedisStore {
    /// Asks about one group of a check, combined with other waiting checks.
    pub(crate) async fn ask_together(
        &self,
        question: Question,
        progress: &Arc<Progress>,
    ) -> Result<GroupReply, StoreError> {
        let again = question.clone();
        progress.wait_in_line();
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { question, progress: Arc::clone(progress), answer: sender };
        if self.combiner.add(waiting) {
            let (store, running) = (self.clone(), self.background.begin());
            tokio::spawn(async move {
                store.send_all().await;
                drop(running);
            });
        }
        match receiver.await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(Unanswered::Failed(error))) => Err(error),
            // A check that was not sent was not charged.
            Ok(Err(Unanswered::AskAlone)) => self.ask_alone(&again, progress).await,
            Err(_) => Err(self.too_late(progress, again.charging)),
        }
    }

    /// Sends call after call until the queue is empty.
    async fn send_all(&self) {
        let (mut busy, mut calls) = (Busy::default(), FuturesUnordered::new());
        loop {
            while calls.len() < MAX_TOGETHER {
                let waiting = self.combiner.next(&busy);
                if waiting.is_empty() {
                    break;
                }
                let call = busy.begin(&waiting);
                calls.push(async move {
                    self.send_in_time(waiting).await;
                    call
                });
            }
            match calls.next().await {
                Some(call) => busy.end(call),
                None => return,
            }
        }
    }

    async fn send_in_time(&self, mut waiting: Vec<Waiting>) {
        let now = Instant::now();
        waiting.retain(|one| !one.answer.is_closed() && one.question.deadline > now);
        if let Some(latest) = waiting.iter().map(|one| one.question.deadline).max() {
            // When this times out, every caller has reached its deadline and given the connection up.
            let _ = tokio::time::timeout_at(latest, self.send(waiting)).await;
        }
    }

    async fn send(&self, waiting: Vec<Waiting>) {
        let asked: Vec<_> = waiting.iter().map(|one| (&one.question, &one.progress)).collect();
        let answers = self.invoke_together(&asked).await;
        drop(asked);
        match answers {
            Ok((link, answers)) => {
                for (one, answer) in waiting.into_iter().zip(answers) {
                    let read = answer.and_then(|answer| one.question.read(&answer));
                    let answer = match read {
                        Some(ScriptReply::LimitReply(said)) => Ok(said),
                        Some(ScriptReply::Late) => Err(Unanswered::Failed(late(&link))),
                        Some(ScriptReply::Undecided) => Err(Unanswered::AskAlone),
                        None => Err(Unanswered::Failed(unreadable(&link, &one.question))),
                    };
                    // The receiver is gone if the check has timed out.
                    let _ = one.answer.send(answer);
                }
            }
            Err(error) => {
                for one in waiting {
                    let _ = one.answer.send(Err(Unanswered::Failed(error.repeated())));
                }
            }
        }
    }

    /// Sends several checks in one call and returns the link and an answer for each; `None` for an answer that is not a
    /// string.
    pub(crate) async fn invoke_together(
        &self,
        asked: &[(&Question, &Arc<Progress>)],
    ) -> Result<(Arc<Link>, Vec<Option<Vec<u8>>>), StoreError> {
        let questions: Vec<&Question> = asked.iter().map(|(question, _)| *question).collect();
        let keys: Vec<&str> = questions.iter().flat_map(|question| question.keys()).collect();
        let waiting: Vec<_> = asked.iter().map(|(_, progress)| Arc::clone(progress)).collect();
        let call = ChargeCall {
            questions: &questions,
            keys: &keys,
            slot: questions.first().map_or(0, |question| question.slot()),
            deadline: asked.iter().map(|(question, _)| question.deadline).max(),
        };
        let answered = self.invoke_charge(&call, &waiting, |answer| match answer {
            Value::BulkString(bytes) => wire::time_of_other_period(bytes),
            _ => None,
        });
        let Answered { answer, link, sent } = answered.await?;
        let string = |answer| match answer {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        };
        let answers: Vec<_> = match answer {
            Value::Array(answers) if answers.len() == asked.len() => {
                answers.into_iter().map(string).collect()
            }
            answer => vec![string(answer)],
        };
        for (question, answer) in questions.iter().zip(&answers) {
            self.note_time(&link, question, answer.as_deref().unwrap_or_default(), sent);
        }
        Ok((link, answers))
    }
}
