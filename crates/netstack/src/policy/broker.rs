//! Between the data path and everything that may take its time: verdicts, dialling, services.
//!
//! ```text
//! data path ──Question──► Broker ──► a task each: Policy, Egress, Resolver, Interceptor
//!     ▲                                   │
//!     └───────────── Answer ──────────────┘
//! ```
//!
//! Every question about a flow gets exactly one answer, unless the flow is given up before.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::{Decision, Grants, Policy};
use crate::egress::{DialError, Egress};
use crate::event::DenyReason;
use crate::flow::{Flow, FlowId, Transport};
use crate::service::{Intercepted, Resolver};
use crate::stream::{GuestStream, Resets};

/// What the data path wants to know.
pub(crate) enum Question {
    /// What is to become of this flow? The verdict may be there already.
    Flow(Flow, Option<Decision>),
    /// Nobody waits for the answer any more.
    GivenUp(FlowId),
    /// What is the answer to this query?
    Query(Flow, Arc<dyn Resolver>, Bytes),
}

/// What it is told.
pub(crate) enum Answer {
    Opened(FlowId, Opened),
    Denied(FlowId, DenyReason, String),
    Failed(FlowId, DialError),
    Reply(FlowId, Option<Bytes>),
}

/// What stands behind an accepted flow.
pub(crate) enum Opened {
    /// A connected host socket, of the flow's transport.
    Socket(OwnedFd),
    /// A service of this process.
    Service(OwnedFd, Resets),
    /// The resolver, query by query.
    Resolver(Arc<dyn Resolver>),
}

/// The policy in force, which may change.
pub(crate) type CurrentPolicy = Arc<RwLock<Arc<dyn Policy>>>;

#[derive(Clone)]
pub(crate) struct BrokerOptions {
    pub(crate) policy: CurrentPolicy,
    pub(crate) egress: Egress,
    pub(crate) deadline: Duration,
    /// Connections that services may hold at once.
    pub(crate) services: usize,
}

/// Runs the tasks.
pub(crate) struct Broker {
    shared: Shared,
    asked: JoinSet<(FlowId, Option<BoxFuture<'static, ()>>)>,
    waiting: HashMap<FlowId, AbortHandle>,
    services: JoinSet<()>,
    queries: JoinSet<()>,
}

#[derive(Clone)]
struct Shared {
    options: BrokerOptions,
    room: Arc<Semaphore>,
    tell: Arc<dyn Fn(Answer) + Send + Sync>,
}

impl Broker {
    pub(crate) fn new(
        options: BrokerOptions,
        tell: impl Fn(Answer) + Send + Sync + 'static,
    ) -> Self {
        let room = Arc::new(Semaphore::new(options.services.min(Semaphore::MAX_PERMITS)));
        Self {
            shared: Shared { options, room, tell: Arc::new(tell) },
            asked: JoinSet::new(),
            waiting: HashMap::new(),
            services: JoinSet::new(),
            queries: JoinSet::new(),
        }
    }

    /// Answers questions until nobody is left to ask them. Tasks that are left are ended then.
    pub(crate) async fn run(mut self, mut questions: UnboundedReceiver<Question>) {
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => self.take(question),
                    None => break,
                },
                Some(done) = self.asked.join_next(), if !self.asked.is_empty() => {
                    // A task that was aborted has nothing to say; panics are caught inside.
                    if let Ok((id, service)) = done {
                        self.waiting.remove(&id);
                        if let Some(service) = service {
                            self.services.spawn(service);
                        }
                    }
                }
                Some(_) = self.services.join_next(), if !self.services.is_empty() => {}
                Some(_) = self.queries.join_next(), if !self.queries.is_empty() => {}
            }
        }
        self.asked.shutdown().await;
        self.queries.shutdown().await;
        self.services.shutdown().await;
    }

    fn take(&mut self, question: Question) {
        match question {
            Question::Flow(flow, decision) => {
                let id = flow.id;
                let shared = self.shared.clone();
                let task = async move { (id, shared.settle(flow, decision).await) };
                self.waiting.insert(id, self.asked.spawn(task));
            }
            Question::GivenUp(id) => {
                if let Some(task) = self.waiting.remove(&id) {
                    task.abort();
                }
            }
            Question::Query(flow, resolver, query) => {
                let shared = self.shared.clone();
                self.queries.spawn(async move {
                    let answer = AssertUnwindSafe(resolver.answer(&flow, query)).catch_unwind();
                    let answer = timeout(shared.options.deadline, answer).await;
                    let reply = answer.ok().and_then(Result::ok).flatten();
                    (shared.tell)(Answer::Reply(flow.id, reply));
                });
            }
        }
    }
}

impl Shared {
    /// Tells the verdict on a flow. What is returned serves it.
    async fn settle(
        &self,
        flow: Flow,
        decision: Option<Decision>,
    ) -> Option<BoxFuture<'static, ()>> {
        let id = flow.id;
        let outcome = AssertUnwindSafe(self.carry_out(flow, decision)).catch_unwind().await;
        let (answer, service) = outcome.unwrap_or_else(|panic| {
            let detail = format!("the policy panicked: {}", words(panic.as_ref()));
            (Answer::Denied(id, DenyReason::PolicyFailed, detail), None)
        });
        (self.tell)(answer);
        service
    }

    async fn decide(&self, flow: &Flow) -> Option<Decision> {
        let policy = {
            let current = self.options.policy.read().unwrap_or_else(PoisonError::into_inner);
            current.clone()
        };
        timeout(self.options.deadline, policy.decide(flow)).await.ok()
    }

    async fn carry_out(
        &self,
        flow: Flow,
        decision: Option<Decision>,
    ) -> (Answer, Option<BoxFuture<'static, ()>>) {
        let id = flow.id;
        let decision = match decision {
            None => self.decide(&flow).await,
            settled => settled,
        };
        let Some(decision) = decision else {
            let detail = "the policy did not answer in time".to_owned();
            return (Answer::Denied(id, DenyReason::Deadline, detail), None);
        };
        let result = match decision {
            Decision::Deny { reason } => Err(Refused::Because(DenyReason::Policy, reason)),
            Decision::Fail { reason, detail } => Err(Refused::Because(reason, detail)),
            Decision::Accept(grants) => self.open(&flow, grants).await.map(|open| (open, None)),
            Decision::Intercept(interceptor, grants) => {
                self.intercept(flow, grants, interceptor).await
            }
            Decision::Resolve(resolver) => self.resolve(flow, resolver),
        };
        match result {
            Ok((opened, service)) => (Answer::Opened(id, opened), service),
            Err(Refused::Because(reason, detail)) => (Answer::Denied(id, reason, detail), None),
            Err(Refused::Dial(DialError::Forbidden(why))) => {
                (Answer::Denied(id, DenyReason::Address, why.to_owned()), None)
            }
            Err(Refused::Dial(error)) => (Answer::Failed(id, error), None),
        }
    }

    async fn open(&self, flow: &Flow, grants: Grants) -> Result<Opened, Refused> {
        let egress = &self.options.egress;
        let socket: OwnedFd = match flow.transport {
            Transport::Tcp => egress.connect(flow.destination, grants).await?.into_std()?.into(),
            Transport::Udp => egress.udp(flow.destination, grants).await?.into_std()?.into(),
            Transport::Icmp => egress.ping(flow.destination.ip(), grants)?.into(),
        };
        Ok(Opened::Socket(socket))
    }

    async fn intercept(
        &self,
        flow: Flow,
        grants: Grants,
        interceptor: Arc<dyn crate::service::Interceptor>,
    ) -> Result<Served, Refused> {
        if flow.transport != Transport::Tcp {
            return Err(unsuitable("only TCP can be intercepted"));
        }
        let permit = self.permit()?;
        let egress = self.options.egress.clone();
        let upstream = egress.connect(flow.destination, grants).await?;
        let (guest, other, resets) = GuestStream::connected()?;
        let call = Intercepted { flow, grants, guest, upstream, egress };
        let service = guarded(permit, async move { interceptor.serve(call).await });
        Ok((Opened::Service(other, resets), Some(service)))
    }

    fn resolve(&self, flow: Flow, resolver: Arc<dyn Resolver>) -> Result<Served, Refused> {
        if !flow.is_to_resolver() {
            return Err(unsuitable("only the gateway's port 53 leads to the resolver"));
        }
        if flow.transport == Transport::Udp {
            return Ok((Opened::Resolver(resolver), None));
        }
        let permit = self.permit()?;
        let (guest, other, resets) = GuestStream::connected()?;
        let service = guarded(permit, async move { resolver.serve(flow, guest).await });
        Ok((Opened::Service(other, resets), Some(service)))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let detail = "too many connections are being served";
        self.room
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refused::Because(DenyReason::Limit, detail.to_owned()))
    }
}

type Served = (Opened, Option<BoxFuture<'static, ()>>);

enum Refused {
    Because(DenyReason, String),
    Dial(DialError),
}

impl From<DialError> for Refused {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Dial(error.into())
    }
}

fn unsuitable(detail: &str) -> Refused {
    Refused::Because(DenyReason::Unsuitable, detail.to_owned())
}

/// The service, holding its permit. A panic ends it and nothing else.
fn guarded(
    permit: OwnedSemaphorePermit,
    service: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, ()> {
    async move {
        let result = AssertUnwindSafe(service).catch_unwind().await;
        if let Err(panic) = result {
            tracing::error!(panic = words(panic.as_ref()), "A service panicked");
        }
        drop(permit);
    }
    .boxed()
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
