//! How requests end.

use crate::dialect::denial::Denial;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// The client got its whole answer.
    Completed,
    /// The answer was cut, because its limits gave it no more tokens.
    Cut,
    /// The client went away before its answer ended.
    ClientLeft,
    /// The upstream broke off or fell silent.
    UpstreamBrokeOff,
    /// The upstream answered with an error, which the client got.
    UpstreamError,
    /// A limit denied it.
    Limited,
    /// The queue was full, or its wait too long.
    QueueFull,
    /// The provider of every upstream limits requests.
    ProviderLimited,
    /// No upstream was available, or the last one failed.
    NoUpstream,
    /// The upstream's answer did not begin in time.
    UpstreamTimeout,
    /// It had no valid API key.
    Unauthorized,
    /// It was not valid.
    Invalid,
    /// Its limits or its key could not be checked, or there was no memory for it.
    Unavailable,
}

impl RequestOutcome {
    /// Every outcome.
    pub const ALL: [Self; 13] = [
        Self::Completed,
        Self::Cut,
        Self::ClientLeft,
        Self::UpstreamBrokeOff,
        Self::UpstreamError,
        Self::Limited,
        Self::QueueFull,
        Self::ProviderLimited,
        Self::NoUpstream,
        Self::UpstreamTimeout,
        Self::Unauthorized,
        Self::Invalid,
        Self::Unavailable,
    ];

    /// Its name in metrics, in the access log and in the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cut => "cut",
            Self::ClientLeft => "client_left",
            Self::UpstreamBrokeOff => "upstream_broke_off",
            Self::UpstreamError => "upstream_error",
            Self::Limited => "limited",
            Self::QueueFull => "queue_full",
            Self::ProviderLimited => "provider_limited",
            Self::NoUpstream => "no_upstream",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Unauthorized => "unauthorized",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the gateway gave the client an error of its own in place of an answer.
    pub const fn is_denial(self) -> bool {
        !matches!(
            self,
            Self::Completed
                | Self::Cut
                | Self::ClientLeft
                | Self::UpstreamBrokeOff
                | Self::UpstreamError
        )
    }

    /// The outcome of a request that is answered with `denial`.
    pub(crate) fn of(denial: &Denial) -> Self {
        match denial {
            Denial::NoApiKey | Denial::ApiKey(_) => Self::Unauthorized,
            Denial::CatalogUnavailable
            | Denial::NoMemory
            | Denial::StoreUnavailable
            | Denial::Ending => Self::Unavailable,
            Denial::UnknownModel(_)
            | Denial::UnknownPath
            | Denial::Method
            | Denial::Invalid { .. }
            | Denial::TooLarge(_)
            | Denial::TooSlow => Self::Invalid,
            Denial::Limited(_) => Self::Limited,
            Denial::Busy { .. } => Self::QueueFull,
            Denial::UpstreamLimited { .. } => Self::ProviderLimited,
            Denial::NoUpstream => Self::NoUpstream,
            Denial::UpstreamTimeout => Self::UpstreamTimeout,
        }
    }
}
