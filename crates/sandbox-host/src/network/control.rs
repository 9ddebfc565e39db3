//! What can be done to a network while its VM runs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use netstack::http::Secrets;
use netstack::names::Names;
use netstack::policy::DenyAll;
use netstack::tls::{Authority, Trust};
use netstack::{Decision, Flow, GuestPorts, Policy};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::Registry;
use super::build::{Common, build};
use super::link::Link;
use super::ports::{Listening, Ports};
use super::report::Reporter;
use super::served::Served;
use crate::callback::CallbackStream;
use crate::error::{Error, chain};
use crate::limits::MAX_NETWORK_POLICIES;
use crate::request::{PolicyPlan, PublishPlan, RequestError};

/// A network, for those who change it.
pub struct Control {
    common: Common,
    current: Arc<Current>,
    rooms: Arc<Semaphore>,
    links: Mutex<Links>,
    /// There once the network runs.
    ports: OnceLock<Ports>,
}

/// The streams of policies that are in force or have flows.
#[derive(Default)]
struct Links {
    all: Vec<Weak<Link>>,
    /// The VM is closing.
    hurry: bool,
}

/// The policy in force.
pub(super) struct Current(RwLock<Arc<dyn Policy>>);

impl Current {
    fn set(&self, policy: Arc<dyn Policy>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // What is dropped here may end streams: not under the lock.
        let old = std::mem::replace(&mut *current, policy);
        drop(current);
        drop(old);
    }
}

#[async_trait]
impl Policy for Current {
    async fn decide(&self, flow: &Flow) -> Decision {
        let policy = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        policy.decide(flow).await
    }

    fn settle(&self, flow: &Flow) -> Option<Decision> {
        let policy = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        policy.settle(flow)
    }
}

impl Control {
    /// A network in which nothing is allowed yet.
    pub(super) fn new(authority: Authority, secrets: Secrets, reporter: Arc<Reporter>) -> Self {
        Self {
            common: Common {
                names: Arc::new(Names::new()),
                authority: Arc::new(authority),
                secrets: Arc::new(secrets),
                reporter,
            },
            current: Arc::new(Current(RwLock::new(Arc::new(DenyAll)))),
            rooms: Arc::new(Semaphore::new(MAX_NETWORK_POLICIES as usize)),
            links: Mutex::default(),
            ports: OnceLock::new(),
        }
    }

    pub(super) fn policy(&self) -> Arc<dyn Policy> {
        Arc::clone(&self.current) as _
    }

    pub(super) fn reporter(&self) -> &Arc<Reporter> {
        &self.common.reporter
    }

    /// Puts a policy in force for new flows; `at` is its field in the request. Those that have
    /// their verdict keep it, and the old policy's stream ends with the last of them.
    ///
    /// # Errors
    /// [`Error`] when the policy's stream is not attached, or there are too many policies.
    pub async fn set_policy(
        &self,
        at: &str,
        plan: PolicyPlan,
        registry: &Registry,
    ) -> Result<(), Error> {
        let callbacks = match plan.callbacks {
            None => None,
            Some(callbacks) => {
                let room = Arc::clone(&self.rooms).try_acquire_owned().map_err(|_| {
                    let what = "network policies with callbacks that have flows";
                    Error::Limit { what, limit: MAX_NETWORK_POLICIES }
                })?;
                let Some(link) = registry.take(&callbacks.id) else {
                    let reason = "no ServeNetwork is attached under this name";
                    let field = format!("{at}.callbacks.id");
                    return Err(RequestError::new(field, &callbacks.id, reason).into());
                };
                self.keep(&link);
                let reporter = Arc::clone(&self.common.reporter);
                let served = Served::new(link, callbacks.deadline, reporter, room);
                Some((served, callbacks.deadline))
            }
        };
        // The host's roots are files.
        let extra = plan.extra_roots;
        let trust = spawn_blocking(move || Trust::host_and(&extra)).await;
        let trust = trust.map_err(|_| Error::Defect("The thread that reads the host's roots"))?;
        let trust = trust.map_err(|error| {
            RequestError::new(format!("{at}.extra_roots"), chain(&error), "they must be roots")
        })?;
        let rules = plan.rules.len();
        let asks = callbacks.is_some();
        self.current.set(build(&self.common, plan.rules, trust, callbacks));
        tracing::info!(rules, callbacks = asks, "a network policy is in force");
        Ok(())
    }

    /// Listens on the host for a port of the guest.
    ///
    /// # Errors
    /// [`Error`] when the host does not let us, or there are too many.
    pub async fn publish(&self, plan: &PublishPlan) -> Result<Listening, Error> {
        self.ports()?.publish(plan).await
    }

    /// Stops listening. Connections that are open go on.
    ///
    /// # Errors
    /// [`Error`] when nothing is published under this number.
    pub async fn unpublish(&self, id: u64) -> Result<(), Error> {
        self.ports()?.unpublish(id).await
    }

    fn ports(&self) -> Result<&Ports, Error> {
        self.ports.get().ok_or(Error::Defect("A network without ports"))
    }

    /// The network runs.
    pub(super) fn lead_to(&self, guest: GuestPorts) {
        let _ = self.ports.set(Ports::new(guest));
    }

    /// Closes what is published.
    pub(super) async fn close_ports(&self) {
        if let Some(ports) = self.ports.get() {
            ports.end().await;
        }
    }

    fn keep(&self, link: &Arc<Link>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.all.retain(|link| link.upgrade().is_some_and(|link| !link.ended().is_cancelled()));
        links.all.push(Arc::downgrade(link));
        if links.hurry {
            link.exchange.hurry();
        }
    }

    /// The VM is closing: callbacks that hang are not waited for.
    pub(super) fn hurry(&self) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.hurry = true;
        links.all.iter().filter_map(Weak::upgrade).for_each(|link| link.exchange.hurry());
    }

    /// The network has ended: nothing is asked any more, and every stream ends.
    pub(super) fn end(&self) {
        self.current.set(Arc::new(DenyAll));
        let links =
            std::mem::take(&mut self.links.lock().unwrap_or_else(PoisonError::into_inner).all);
        links.iter().filter_map(Weak::upgrade).for_each(|link| link.end(None));
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("names", &self.common.names).finish_non_exhaustive()
    }
}
