//! The body of a stream of a mock model.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::answers::Answer;
use super::{Behaviour, Failure, Record};

/// One token after the other, at a pace.
#[derive(Debug)]
pub(super) struct Pieces {
    answer: Answer,
    behaviour: Behaviour,
    record: Arc<Record>,
    timer: Pin<Box<Sleep>>,
    next: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Beginning,
    Token(u64),
    Ending,
    Last,
    Over,
}

impl Pieces {
    pub(super) fn new(answer: Answer, behaviour: Behaviour, record: Arc<Record>) -> Self {
        record.active.fetch_add(1, Ordering::Relaxed);
        let timer = Box::pin(tokio::time::sleep(behaviour.pace));
        Self { answer, behaviour, record, timer, next: Step::Beginning }
    }

    /// The text of the current step, and the next one; an error breaks the connection.
    fn step(&mut self) -> Result<String, io::Error> {
        let all = self.answer.output();
        let failure = self.behaviour.failure;
        let (text, next) = match self.next {
            Step::Beginning => (self.answer.beginning(), Step::Token(0)),
            Step::Token(number) if failure == Some(Failure::Cut) && number * 2 >= all => {
                return Err(io::Error::other("as asked"));
            }
            Step::Token(number) if number < all => {
                self.record.output_tokens.fetch_add(1, Ordering::Relaxed);
                (self.answer.token(number), Step::Token(number + 1))
            }
            Step::Token(_) => (String::new(), Step::Ending),
            Step::Ending => (self.answer.ending(), Step::Last),
            Step::Last if failure == Some(Failure::NoFinal) => (String::new(), Step::Over),
            Step::Last => (self.answer.last(), Step::Over),
            Step::Over => (String::new(), Step::Over),
        };
        self.next = next;
        Ok(text)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.behaviour.failure == Some(Failure::CloseAfterHead) {
            if self.next != Step::Beginning {
                return Poll::Ready(Some(Err(io::Error::other("as asked"))));
            }
            // The server sends the head when the body has nothing yet.
            self.next = Step::Token(0);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.next != Step::Over {
            if matches!(self.next, Step::Token(_)) && !self.behaviour.pace.is_zero() {
                ready!(self.timer.as_mut().poll(context));
                let next = Instant::now() + self.behaviour.pace;
                self.timer.as_mut().reset(next);
            }
            let text = self.step()?;
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.record.active.fetch_sub(1, Ordering::Relaxed);
        if self.next != Step::Over {
            self.record.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }
}
