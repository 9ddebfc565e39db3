//! The stream of the client that serves a mount.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use protocol::v1;
use protocol::v1::filesystem_call::Call;
use protocol::v1::serve_filesystem_request::Request;
use protocol::v1::serve_filesystem_response::Response;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vfs::callbacks::FilePath;

use super::answer::{Expected, Gathering, Outcome};
use super::report::{Problem, Reporter};
use crate::callback::{
    Attached, Breach, CallbackStream, Dialogue, Exchange, Gone, Trouble, check_credits, check_id,
};
use crate::error::Error;
use crate::limits::{FILESYSTEM_CHANGES, FILESYSTEM_GATHERED, FILESYSTEM_WRITE_BYTES, MAX_MOUNTS};

/// What a mounted link reports to.
pub(super) struct Mounted {
    pub(super) reporter: Arc<Reporter>,
    pub(super) changed: Box<dyn Fn(&FilePath) + Send + Sync>,
}

/// What `ServeFilesystem` says and hears.
pub struct FilesystemDialogue;

impl Dialogue for FilesystemDialogue {
    type Call = (Vec<u8>, Call);
    type Answer = v1::FilesystemAnswer;
    type Gathering = Gathering;
    type Outcome = Outcome;
    type Said = v1::ServeFilesystemResponse;

    const WRITE_BYTES: u32 = FILESYSTEM_WRITE_BYTES;
    const HELD: usize = FILESYSTEM_GATHERED;

    fn attached() -> Self::Said {
        said(Response::Attached(v1::FilesystemAttached {}))
    }

    fn call(id: u64, (path, call): Self::Call) -> Self::Said {
        said(Response::Call(v1::FilesystemCall { id, path: path.into(), call: Some(call) }))
    }

    fn cancel(id: u64) -> Self::Said {
        said(Response::Cancel(v1::CancelFilesystemCall { id }))
    }

    fn id(answer: &Self::Answer) -> u64 {
        answer.id
    }

    fn has_more(answer: &Self::Answer) -> bool {
        use v1::filesystem_answer::Answer;
        matches!(&answer.answer, Some(Answer::Entries(piece)) if piece.more)
    }

    fn too_much() -> Outcome {
        Outcome::Wrong(format!("More than {FILESYSTEM_GATHERED} entries in lists under way"))
    }
}

fn said(response: Response) -> v1::ServeFilesystemResponse {
    v1::ServeFilesystemResponse { response: Some(response) }
}

/// One mount's stream.
pub struct Link {
    exchange: Exchange<FilesystemDialogue>,
    mounted: OnceLock<Mounted>,
}

impl Link {
    /// A link with so many credits, and what it says to the client.
    #[must_use]
    pub fn new(credits: u16) -> (Arc<Self>, mpsc::Receiver<v1::ServeFilesystemResponse>) {
        let (exchange, said) = Exchange::new(credits);
        (Arc::new(Self { exchange, mounted: OnceLock::new() }), said)
    }

    /// Asks. The caller has the deadline: dropping the future takes the question back.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn ask(
        &self,
        path: &FilePath,
        call: Call,
        expected: Expected,
        writes: u32,
    ) -> Result<Outcome, Gone> {
        let call = (path.as_bytes().to_vec(), call);
        let began = tracing::enabled!(tracing::Level::TRACE).then(Instant::now);
        let outcome = self.exchange.ask(call, Gathering::new(expected), writes).await;
        if let Some(began) = began {
            // scripts/bench reads this.
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::trace!(?expected, micros, "a question was answered");
        }
        outcome
    }

    /// The VM is closing: what is not answered soon is not waited for.
    pub(super) fn hurry(&self) {
        self.exchange.hurry();
    }

    /// The mount is made; `false` when it was before.
    pub(super) fn mount(&self, mounted: Mounted) -> bool {
        let reporter = Arc::clone(&mounted.reporter);
        self.exchange.tell_to(move |trouble, message| {
            let problem = match trouble {
                Trouble::Detached => Problem::Detached,
                Trouble::WrongAnswer => Problem::WrongAnswer,
            };
            reporter.tell(problem, Vec::new(), message);
        }) && self.mounted.set(mounted).is_ok()
    }

    fn changed(&self, changed: &v1::FilesystemChanged) -> Result<(), Breach> {
        if changed.paths.len() > FILESYSTEM_CHANGES {
            return Err(Breach::Changes(changed.paths.len()));
        }
        for path in &changed.paths {
            match (FilePath::new(path), self.mounted.get()) {
                (Some(path), Some(mounted)) => (mounted.changed)(&path),
                // Nothing is cached yet.
                (Some(_), None) => {}
                (None, _) => {
                    let path = String::from_utf8_lossy(path);
                    let problem = format!("watch told of {path:?}, which is no path of a mount");
                    self.exchange.tell(Trouble::WrongAnswer, problem);
                }
            }
        }
        Ok(())
    }
}

impl CallbackStream for Link {
    type Request = v1::ServeFilesystemRequest;
    type Response = v1::ServeFilesystemResponse;

    const FIRST: &'static str = "The first request of ServeFilesystem must be attach";
    const TOO_LATE: &'static str = "Filesystems are attached before Boot, not after it";
    const UNREADABLE: &'static str = "A message of ServeFilesystem cannot be read";
    const MOST: usize = MAX_MOUNTS;

    fn attach(first: Self::Request) -> Result<Attached<Self>, Error> {
        let Some(Request::Attach(attach)) = first.request else {
            return Err(Error::Sequence(Self::FIRST));
        };
        check_id("attach.id", &attach.id)?;
        let (link, said) = Self::new(check_credits(attach.credits)?);
        Ok(Attached { id: attach.id, link, said })
    }

    fn hear(&self, request: Self::Request) -> Result<(), Breach> {
        match request.request {
            Some(Request::Answer(answer)) => self.exchange.answered(answer),
            Some(Request::Changed(changed)) => self.changed(&changed),
            Some(Request::Attach(_)) => {
                Err(Breach::Sequence("ServeFilesystem takes one attach, and it comes first"))
            }
            None => Err(Breach::Sequence("ServeFilesystem takes no empty requests")),
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
