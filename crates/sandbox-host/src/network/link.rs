//! The stream of the client that decides about flows and requests.

use std::sync::Arc;

use protocol::v1;
use protocol::v1::network_call::Call;
use protocol::v1::serve_network_request::Request;
use protocol::v1::serve_network_response::Response;
use tokio_util::sync::CancellationToken;

use super::answer::{Gathering, Outcome};
use crate::callback::{
    Attached, Breach, CallbackStream, Dialogue, Exchange, check_credits, check_id,
};
use crate::error::Error;
use crate::limits::{MAX_NETWORK_STREAMS, NETWORK_NOTICES};

/// What `ServeNetwork` says and hears.
pub struct NetworkDialogue;

impl Dialogue for NetworkDialogue {
    type Call = Call;
    type Answer = v1::NetworkAnswer;
    type Gathering = Gathering;
    type Outcome = Outcome;
    type Said = v1::ServeNetworkResponse;

    // Questions write nothing, and answers have one piece.
    const WRITE_BYTES: u32 = 0;
    const HELD: usize = 0;
    const NOTICES: usize = NETWORK_NOTICES;

    fn attached() -> Self::Said {
        said(Response::Attached(v1::NetworkAttached {}))
    }

    fn call(id: u64, call: Call) -> Self::Said {
        said(Response::Call(v1::NetworkCall { id, call: Some(call) }))
    }

    fn cancel(id: u64) -> Self::Said {
        said(Response::Cancel(v1::CancelNetworkCall { id }))
    }

    fn id(answer: &Self::Answer) -> u64 {
        answer.id
    }

    fn has_more(_answer: &Self::Answer) -> bool {
        false
    }

    fn too_much() -> Outcome {
        Outcome::Wrong("it answered with too much".to_owned())
    }
}

fn said(response: Response) -> v1::ServeNetworkResponse {
    v1::ServeNetworkResponse { response: Some(response) }
}

/// One policy's stream.
pub struct Link {
    pub(super) exchange: Exchange<NetworkDialogue>,
}

impl Link {
    /// The client is not asked about this flow any more.
    pub(super) fn released(&self, flow_id: u64) {
        self.exchange.notify(said(Response::Released(v1::FlowReleased { flow_id })));
    }
}

impl CallbackStream for Link {
    type Request = v1::ServeNetworkRequest;
    type Response = v1::ServeNetworkResponse;

    const FIRST: &'static str = "The first request of ServeNetwork must be attach";
    const TOO_LATE: &'static str = "This VM has no network whose policy could be served";
    const UNREADABLE: &'static str = "A message of ServeNetwork cannot be read";
    const MOST: usize = MAX_NETWORK_STREAMS;

    fn attach(first: Self::Request) -> Result<Attached<Self>, Error> {
        let Some(Request::Attach(attach)) = first.request else {
            return Err(Error::Sequence(Self::FIRST));
        };
        check_id("attach.id", &attach.id)?;
        let (exchange, said) = Exchange::new(check_credits(attach.credits)?);
        Ok(Attached { id: attach.id, link: Arc::new(Self { exchange }), said })
    }

    fn hear(&self, request: Self::Request) -> Result<(), Breach> {
        match request.request {
            Some(Request::Answer(answer)) => self.exchange.answered(answer),
            Some(Request::Attach(_)) => {
                Err(Breach::Sequence("ServeNetwork takes one attach, and it comes first"))
            }
            None => Err(Breach::Sequence("ServeNetwork takes no empty requests")),
        }
    }

    fn ended(&self) -> &CancellationToken {
        self.exchange.ended()
    }

    fn end(&self, problem: Option<&str>) {
        self.exchange.end(problem);
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pending = self.exchange.pending();
        f.debug_struct("Link").field("pending", &pending).finish_non_exhaustive()
    }
}
