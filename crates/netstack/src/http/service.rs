//! Interception as a service of the network.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::connection::Call;
use super::middleware::Middleware;
use super::options::{Options, Target};
use super::pool::Pool;
use crate::service::{Intercepted, Interceptor};

/// Intercepts HTTP and TLS. Makes an [`Interceptor`] for each target; they share the limits and the
/// connections to upstreams.
pub struct Http {
    pub(super) options: Options,
    pub(super) pool: Arc<Pool>,
    slots: Semaphore,
}

impl Http {
    /// A service.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let slots = Semaphore::new(options.limits.connections.min(Semaphore::MAX_PERMITS));
        Arc::new(Self { options, pool: Arc::default(), slots })
    }

    /// Lets connections to the target through: as they are without a middleware and secrets,
    /// otherwise opened.
    #[must_use]
    pub fn interceptor(
        self: &Arc<Self>,
        target: Target,
        middleware: Option<Arc<dyn Middleware>>,
    ) -> Arc<dyn Interceptor> {
        Arc::new(Intercept { http: Arc::clone(self), target, middleware })
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("options", &self.options).finish_non_exhaustive()
    }
}

struct Intercept {
    http: Arc<Http>,
    target: Target,
    middleware: Option<Arc<dyn Middleware>>,
}

#[async_trait]
impl Interceptor for Intercept {
    async fn serve(&self, call: Intercepted) {
        let slot = self.http.slots.try_acquire();
        let (call, upstream) = Call::new(&self.http, &self.target, self.middleware.clone(), call);
        match slot {
            Ok(_slot) => call.serve(upstream).await,
            Err(_) => call.refuse_for_limit(),
        }
    }
}
