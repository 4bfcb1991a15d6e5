//! How far a stream may go on what its lease holds, by the count of the gateway.

use crate::config::OnLimit;

/// The bounds of a stream, in tokens of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamBounds {
    held: u64,
    most: u64,
    on_limit: OnLimit,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may ask for more.
    Holds,
    /// It has asked for so much.
    Asks(u64),
    /// It gets no more.
    Refused,
    /// It goes on whatever it uses.
    Unlimited,
}

/// What was counted may be off by this much before an upstream is taken to ignore its cap.
const SLACK_TOKENS: u64 = 64;

impl StreamBounds {
    /// A stream for which `held` tokens are reserved, of an upstream that was told to generate `most` at most.
    pub(super) fn new(held: u64, most: u64, on_limit: OnLimit) -> Self {
        Self { held, most, on_limit, state: State::Holds }
    }

    /// After how many counted tokens the stream must not go on. An upstream keeps its cap by itself and counts exactly, so if all
    /// of that is held, the count only matters if the upstream ignores its cap.
    fn end(&self) -> u64 {
        if self.held >= self.most {
            self.held.saturating_mul(2).saturating_add(SLACK_TOKENS)
        } else {
            self.held
        }
    }

    /// Whether it asks for more now: once, when 80 % is used.
    pub(super) fn asks(&mut self, observed: u64) -> bool {
        let asks = self.state == State::Holds && observed >= self.end() / 5 * 4;
        if asks {
            self.state = State::Asks(self.wanted());
        }
        asks
    }

    /// What it asks for: twice as much.
    pub(super) fn wanted(&self) -> u64 {
        let twice = self.end().saturating_mul(2);
        if self.held < self.most { twice.min(self.most) } else { twice }
    }

    /// Whether it gets what it asked for.
    pub(super) fn answered(&mut self, proceed: bool) {
        self.state = match (self.state, proceed, self.on_limit) {
            (State::Asks(wanted), true, _) => {
                self.held = wanted;
                State::Holds
            }
            (State::Asks(_), false, OnLimit::Cut) => State::Refused,
            (State::Asks(_), false, OnLimit::Finish) => State::Unlimited,
            (state, ..) => state,
        };
    }

    /// There is nothing to hold.
    pub(super) fn lift(&mut self) {
        self.state = State::Unlimited;
    }

    /// Whether it must wait for the answer.
    pub(super) fn waits(&self, observed: u64) -> bool {
        let asks = matches!(self.state, State::Asks(_));
        asks && self.on_limit == OnLimit::Cut && observed >= self.end()
    }

    /// Whether it ends here.
    pub(super) fn is_over(&self, observed: u64) -> bool {
        self.state == State::Refused && observed >= self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_asks_once_at_four_fifths_and_ends_when_it_gets_no_more() {
        let mut bounds = StreamBounds::new(100, 1_000, OnLimit::Cut);
        assert!(!bounds.asks(79) && bounds.asks(80) && !bounds.asks(90));
        assert_eq!(bounds.wanted(), 200);
        assert!(!bounds.waits(99) && bounds.waits(100) && !bounds.is_over(100));
        bounds.answered(true);
        assert!(!bounds.waits(100) && !bounds.asks(159) && bounds.asks(160));
        bounds.answered(false);
        assert!(!bounds.is_over(199) && bounds.is_over(200) && !bounds.asks(200));
    }

    #[test]
    fn it_asks_for_no_more_than_the_upstream_generates() {
        let mut bounds = StreamBounds::new(100, 150, OnLimit::Cut);
        assert!(bounds.asks(80));
        assert_eq!(bounds.wanted(), 150);
        bounds.answered(true);
        assert!(!bounds.asks(287) && bounds.asks(288), "the upstream ignores its cap");
        assert_eq!(bounds.wanted(), 728);
    }

    #[test]
    fn a_stream_that_may_finish_is_never_ended() {
        let mut bounds = StreamBounds::new(100, 1_000, OnLimit::Finish);
        assert!(bounds.asks(500) && !bounds.waits(500));
        bounds.answered(false);
        assert!(!bounds.is_over(5_000) && !bounds.asks(5_000));
    }
}
