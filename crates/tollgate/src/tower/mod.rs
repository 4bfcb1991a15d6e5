//! A tower layer that limits HTTP requests, for axum, hyper and any other tower service. Needs the feature `tower`.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tollgate::RateLimiter;
//! use tollgate::tower::{Caller, Parts, RateLimitLayer};
//!
//! let limiter = Arc::new(RateLimiter::new(100, Duration::from_secs(3600)));
//! // The caller: here from headers that earlier layers have set. `None` is not limited.
//! let layer = RateLimitLayer::new(limiter, |request: &Parts| {
//!     let user = request.headers.get("x-user")?.to_str().ok()?;
//!     Some(Caller::new(user, request.uri.path()))
//! });
//! # let _ = layer;
//! ```
//!
//! - An admitted request goes to the inner service, and its response gets the fields `RateLimit-Policy` and `RateLimit`
//!   ([`http_fields`](crate::http_fields)).
//! - A denied request never reaches the inner service. The answer is 429 with the same fields, `Retry-After` if waiting
//!   helps, and a problem document (RFC 9457) of the type `quota-exceeded` of the same draft.
//! - The layer trusts the caller that you return. Take the user from your authentication, never from a field that a
//!   client can set. Requests for which you return `None` are not limited; to limit anonymous requests, give them a
//!   common name. The body is not read, so the model and the cost must come from the path, a field or an extension.
//!
//! The check is synchronous and never waits, so the layer needs no task and no runtime.

mod problem;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tollgate_core::{Clock, Decision};
use tower_layer::Layer;
use tower_service::Service;

use crate::{MultiTierRateLimiter, RateLimiter};

/// The head of a request: method, path, fields and extensions.
pub use http::request::Parts;

/// The user, the model and the cost of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller<'a> {
    /// The user.
    pub user: Cow<'a, str>,
    /// The model.
    pub model: Cow<'a, str>,
    /// The cost in the limit's unit.
    pub cost: u32,
}

impl<'a> Caller<'a> {
    /// `user` requests `model`, at a cost of 1.
    pub fn new(user: impl Into<Cow<'a, str>>, model: impl Into<Cow<'a, str>>) -> Self {
        Self { user: user.into(), model: model.into(), cost: 1 }
    }

    /// The same at `cost`.
    #[must_use]
    pub fn at_cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }
}

/// The limiter behind a [`RateLimitLayer`]: one of this crate, or your own.
pub trait Limiter: Send + Sync + 'static {
    /// The input of a decision, made from a request.
    type Question<'a>;

    /// Decides, and charges if it admits.
    fn decide(&self, question: &Self::Question<'_>) -> Decision;
}

impl<C: Clock + 'static> Limiter for RateLimiter<C> {
    type Question<'a> = Caller<'a>;

    fn decide(&self, caller: &Caller<'_>) -> Decision {
        self.check_cost(&caller.user, &caller.model, caller.cost)
    }
}

impl<C: Clock + 'static> Limiter for MultiTierRateLimiter<C> {
    type Question<'a> = Caller<'a>;

    fn decide(&self, caller: &Caller<'_>) -> Decision {
        self.check_cost(&caller.user, &caller.model, caller.cost)
    }
}

#[cfg(feature = "policies")]
impl<C: Clock + 'static> Limiter for crate::PolicyLimiter<C> {
    type Question<'a> = tollgate_core::Check<'a>;

    fn decide(&self, check: &tollgate_core::Check<'_>) -> Decision {
        self.check(check)
    }
}

/// Wraps a service in a [`RateLimitService`].
pub struct RateLimitLayer<L, F> {
    limiter: Arc<L>,
    ask: F,
}

impl<L: Limiter, F> RateLimitLayer<L, F>
where
    F: for<'a> Fn(&'a Parts) -> Option<L::Question<'a>>,
{
    /// A layer with `limiter`; `ask` makes its input from a request's head, and `None` means not limited.
    ///
    /// Pass a function, or write the closure as the argument: a closure that was first stored in a variable is not
    /// generic over the lifetime of the request.
    pub fn new(limiter: Arc<L>, ask: F) -> Self {
        Self { limiter, ask }
    }
}

impl<S, L, F: Clone> Layer<S> for RateLimitLayer<L, F> {
    type Service = RateLimitService<S, L, F>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService { inner, limiter: Arc::clone(&self.limiter), ask: self.ask.clone() }
    }
}

/// Limits the requests to a service; made by a [`RateLimitLayer`].
pub struct RateLimitService<S, L, F> {
    inner: S,
    limiter: Arc<L>,
    ask: F,
}

impl<S, L, F, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimitService<S, L, F>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<String>,
    L: Limiter,
    F: for<'a> Fn(&'a Parts) -> Option<L::Question<'a>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    /// Ready when the inner service is. After a denial the inner service stays ready for the next call. An admitted
    /// request is passed on within `call` to the same service that was ready, so no readiness is lost and no clone is
    /// needed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let decision = (self.ask)(&parts).map(|question| self.limiter.decide(&question));
        let kind = match decision {
            Some(decision) if !decision.allowed() => {
                Kind::Denied { response: Some(problem::response(&decision)) }
            }
            decision => Kind::Admitted {
                response: self.inner.call(Request::from_parts(parts, body)),
                decision,
            },
        };
        ResponseFuture { kind }
    }
}

pin_project! {
    /// The answer of a [`RateLimitService`].
    pub struct ResponseFuture<F, ResBody> {
        #[pin]
        kind: Kind<F, ResBody>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, ResBody> {
        Admitted {
            #[pin]
            response: F,
            // `None` if the request is not limited.
            decision: Option<Decision>,
        },
        // Taken when it is polled.
        Denied { response: Option<Response<ResBody>> },
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F, ResBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Admitted { response, decision } => {
                let mut response = ready!(response.poll(cx))?;
                if let Some(decision) = decision {
                    tollgate_http::apply(decision, response.headers_mut());
                }
                Poll::Ready(Ok(response))
            }
            // A future that has ended must not be polled again.
            KindProjection::Denied { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}

// Written by hand, because a derived implementation would require `L: Clone`, although `L` is in an `Arc`.
impl<L, F: Clone> Clone for RateLimitLayer<L, F> {
    fn clone(&self) -> Self {
        Self { limiter: Arc::clone(&self.limiter), ask: self.ask.clone() }
    }
}

impl<S: Clone, L, F: Clone> Clone for RateLimitService<S, L, F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            limiter: Arc::clone(&self.limiter),
            ask: self.ask.clone(),
        }
    }
}

impl<L, F> fmt::Debug for RateLimitLayer<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, L, F> fmt::Debug for RateLimitService<S, L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<F, ResBody> fmt::Debug for ResponseFuture<F, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
