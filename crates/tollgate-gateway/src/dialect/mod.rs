//! The dialects: what requests and answers of OpenAI and Anthropic look like.
//!
//! Everything here is pure. A request is parsed only as far as the gateway needs it, and everything else in it is forwarded as
//! it was written. An answer is metered while it passes, in pieces of any size, and the pieces pass unchanged.

mod answer_text;
pub mod denial;
mod end;
mod estimate;
mod late;
mod members;
mod meter;
mod request;
mod sse;
mod top_level;
mod usage;

pub use crate::config::Dialect;

pub use self::estimate::{InputRatio, TextSize};
pub use self::late::late_answer;
pub use self::meter::{BodyMeter, FrameFate, Metered, StreamMeter};
pub use self::request::{MAX_COPIES, ModelRequest, RequestProblem, Rewrite};
pub use self::sse::{Framed, Framer, MAX_FRAME_BYTES};
pub use self::usage::Usage;

/// A path that the gateway serves, with the meaning of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// OpenAI's `/v1/chat/completions`.
    Chat,
    /// OpenAI's `/v1/completions`.
    Completions,
    /// OpenAI's `/v1/responses`.
    Responses,
    /// OpenAI's `/v1/embeddings`.
    Embeddings,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// Anthropic's `/v1/messages/count_tokens`.
    CountTokens,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 6] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
        Self::Messages,
        Self::CountTokens,
    ];

    /// The endpoint at `path`.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// The dialect of its requests and answers.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether its answers have tokens of their own.
    pub const fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens)
    }
}
