//! The worker of a call: started, spoken to, and ended by PID 1; and what runs in it.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::Pid;
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::Status;

use super::frame::{self, Kind};
use super::operations::{Failure, Outcome};
use super::{content, operations, tree, tree_writer};
use crate::error::Error;
use crate::machine::Machine;
use crate::process::children;
use crate::sys::descriptors::close_others;
use crate::sys::signal::{Target, send};
use crate::sys::spawn::spawn;
use crate::sys::wait::Exit;

/// What a worker can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Method {
    Stat,
    ReadDirectory,
    ReadFile,
    WriteFile,
    MakeDirectory,
    Remove,
    Rename,
    ChangeMode,
    MakeSymlink,
    ReadLink,
    ReadTree,
    WriteTree,
}

/// PID 1's side. Dropping it kills the worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) stream: UnixStream,
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Worker {
    /// Starts one that does `method`.
    pub(crate) fn start(machine: &Machine, method: Method) -> Result<Self, Error> {
        let lane = machine.lane()?;
        let permit = Arc::clone(&machine.file_calls)
            .try_acquire_owned()
            .map_err(|_| Error::TooManyFileCalls)?;
        let failed = |errno| {
            let message = format!("Making a process for the call: {}", Errno::desc(errno));
            Error::File { message, errno }
        };
        let io = |error: std::io::Error| {
            failed(Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32)))
        };
        let (ours, theirs) = Blocking::pair().map_err(io)?;
        ours.set_nonblocking(true).map_err(io)?;
        let stream = UnixStream::from_std(ours).map_err(io)?;
        let body = || work(&theirs, method);
        let spawned = match &lane.workload {
            Some(workload) => workload.with_directory(|cgroup| spawn(Some(cgroup), body)),
            None => spawn(None, body),
        };
        let pid = spawned.map_err(failed)?;
        let exit = machine.children.register(pid, children::Kind::Helper);
        Ok(Self { stream, pid, exit, _permit: permit })
    }

    /// The next message of the worker; `None` after the last.
    pub(crate) async fn receive<R: Message + Default>(
        stream: &mut (impl tokio::io::AsyncRead + Unpin),
    ) -> Result<Option<R>, Error> {
        let killed = |_| Error::File {
            message: "The process that worked on the file was killed".to_owned(),
            errno: Errno::EIO,
        };
        match frame::receive(stream).await.map_err(killed)? {
            (Kind::Item, payload) => {
                R::decode(payload.as_slice()).map(Some).map_err(|_| Error::Defect)
            }
            (Kind::End, _) => Ok(None),
            (Kind::Failed, payload) => {
                let Failure { errno, message } = frame::decode(&payload);
                Err(Error::File { message, errno })
            }
            (Kind::Method(_), _) => Err(Error::Defect),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // While its end has not been told, its number is its own.
        if let Err(oneshot::error::TryRecvError::Empty) = self.exit.try_recv() {
            // It has ended and is not reaped yet: no signal is needed.
            let _ = send(Target::Process(self.pid), SIGKILL);
        }
    }
}

/// The answers of a call, as a stream.
pub(crate) type Items<R> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<R, Status>> + Send>>;

/// In a worker: where answers go.
pub(crate) struct Answers<'a>(&'a Blocking);

impl Answers<'_> {
    /// Sends one.
    pub(crate) fn send(&mut self, answer: &impl Message) -> Outcome {
        frame::write(&mut self.0, Kind::Item, &answer.encode_to_vec()).map_err(|_| gone())
    }
}

/// In a worker: where what is uploaded comes from.
pub(crate) struct Uploads<'a>(&'a Blocking, PhantomData<()>);

impl Uploads<'_> {
    /// The next; `None` after the last.
    pub(crate) fn next<Q: Message + Default>(&mut self) -> Outcome<Option<Q>> {
        match frame::read(&mut self.0).map_err(|_| gone())? {
            (Kind::Item, payload) => Q::decode(payload.as_slice()).map(Some).map_err(|_| gone()),
            _ => Ok(None),
        }
    }
}

fn gone() -> Failure {
    Failure { errno: Errno::EPIPE, message: "PID 1 does not answer".to_owned() }
}

/// In the worker: the whole of its life.
fn work(socket: &Blocking, method: Method) -> i32 {
    if close_others(socket.as_fd()).is_err()
        || sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).is_err()
    {
        return 1;
    }
    let told = match operate(socket, method) {
        Ok(()) => frame::write(&mut &*socket, Kind::End, &[]),
        Err(failure) => frame::write(&mut &*socket, Kind::Failed, &frame::encode(&failure)),
    };
    i32::from(told.is_err())
}

fn operate(socket: &Blocking, method: Method) -> Outcome {
    let mut answers = Answers(socket);
    let to = &mut answers;
    let mut uploads = Uploads(socket, PhantomData);
    match method {
        Method::Stat => to.send(&operations::stat(&request(socket)?)?),
        Method::ReadDirectory => operations::read_directory(&request(socket)?, to),
        Method::ReadFile => content::read_file(&request(socket)?, to),
        Method::WriteFile => content::write_file(&mut uploads),
        Method::MakeDirectory => operations::make_directory(&request(socket)?),
        Method::Remove => operations::remove(&request(socket)?),
        Method::Rename => operations::rename(&request(socket)?),
        Method::ChangeMode => operations::change_mode(&request(socket)?),
        Method::MakeSymlink => operations::make_symlink(&request(socket)?),
        Method::ReadLink => to.send(&operations::read_link(&request(socket)?)?),
        Method::ReadTree => tree::read_tree(&request(socket)?, to),
        Method::WriteTree => tree_writer::write_tree(&mut uploads),
    }
}

fn request<Q: Message + Default>(mut socket: &Blocking) -> Outcome<Q> {
    let (_, payload) = frame::read(&mut socket).map_err(|_| gone())?;
    Q::decode(payload.as_slice()).map_err(|_| gone())
}
