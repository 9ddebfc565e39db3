//! A client's side of `ServeFilesystem`, one question at a time or by itself.

use protocol::v1;
use protocol::v1::filesystem_answer::Answer;
use protocol::v1::filesystem_call::Call;
use protocol::v1::serve_filesystem_request::Request;
use protocol::v1::serve_filesystem_response::Response;
use protocol::v1::watch_response::Event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{Helper, soon};
use crate::guest::Script;

/// One stream.
pub(crate) struct Attached {
    pub(crate) say: mpsc::UnboundedSender<v1::ServeFilesystemRequest>,
    pub(crate) hear: Streaming<v1::ServeFilesystemResponse>,
}

/// Everything that Watch has told, when it has ended.
pub(crate) type Events = JoinHandle<Vec<Event>>;

/// A helper whose machine has one callback mount at /data.
pub(crate) async fn mounted(
    script: Script,
    mount: v1::CallbackMount,
    credits: u32,
) -> (Helper, Attached, Events) {
    let mut helper = Helper::start(script).await;
    let attached = attach(&helper, &mount.id, credits).await.unwrap();
    let events = watch(&helper);
    let mut request = helper.files.request();
    request.mounts = vec![v1::Mount {
        target: "/data".to_owned(),
        source: Some(v1::mount::Source::Callbacks(mount)),
        ..v1::Mount::default()
    }];
    soon(helper.sandbox.boot(request)).await.unwrap();
    (helper, attached, events)
}

/// Callbacks that can write.
pub(crate) fn callbacks(id: &str) -> v1::CallbackMount {
    let features = vec![v1::FilesystemFeature::Writable.into()];
    v1::CallbackMount { id: id.to_owned(), features, ..v1::CallbackMount::default() }
}

/// What Watch tells from now on.
pub(crate) fn watch(helper: &Helper) -> Events {
    let mut sandbox = helper.sandbox.clone();
    tokio::spawn(async move {
        let mut events = sandbox.watch(v1::WatchRequest {}).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Ok(Some(event)) = events.message().await {
            seen.extend(event.event);
        }
        seen
    })
}

/// Ends the machine; the problems of its mounts.
pub(crate) async fn problems(helper: &Helper, events: Events) -> Vec<v1::MountEvent> {
    helper.shutdown(0).await.unwrap();
    let events = soon(events).await.unwrap();
    let problem = |event| if let Event::Mount(problem) = event { Some(problem) } else { None };
    events.into_iter().filter_map(problem).collect()
}

/// Opens a stream that begins with these.
pub(crate) async fn open(helper: &Helper, first: Vec<Request>) -> Result<Attached, Status> {
    let (say, said) = mpsc::unbounded_channel();
    for request in first {
        say.send(v1::ServeFilesystemRequest { request: Some(request) }).unwrap();
    }
    let mut client = helper.filesystem.clone();
    let hear =
        soon(client.serve_filesystem(UnboundedReceiverStream::new(said))).await?.into_inner();
    Ok(Attached { say, hear })
}

/// Attaches, and waits for `attached`.
pub(crate) async fn attach(helper: &Helper, id: &str, credits: u32) -> Result<Attached, Status> {
    let attach = v1::AttachFilesystem { id: id.to_owned(), credits };
    let mut attached = open(helper, vec![Request::Attach(attach)]).await?;
    let first = attached.next().await?;
    assert!(matches!(first, Some(Response::Attached(_))), "{first:?}");
    Ok(attached)
}

impl Attached {
    /// What comes next, if anything does.
    pub(crate) async fn next(&mut self) -> Result<Option<Response>, Status> {
        Ok(soon(self.hear.message()).await?.map(|message| message.response.unwrap()))
    }

    /// The next question: number, path, call.
    pub(crate) async fn question(&mut self) -> (u64, String, Call) {
        match self.next().await {
            Ok(Some(Response::Call(call))) => {
                (call.id, String::from_utf8(call.path.to_vec()).unwrap(), call.call.unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn answer(&self, id: u64, answer: Answer) {
        self.say(Request::Answer(said(id, Some(answer))));
    }

    pub(crate) fn say(&self, request: Request) {
        let request = v1::ServeFilesystemRequest { request: Some(request) };
        self.say.send(request).unwrap();
    }

    /// Answers from here on: "/" has "f", which holds "content"; what is asked of paths with
    /// "hang" in them is never answered.
    pub(crate) fn behave(mut self) -> JoinHandle<Result<(), Status>> {
        tokio::spawn(async move {
            while let Some(message) = self.hear.message().await? {
                let Some(Response::Call(call)) = message.response else { continue };
                let path = String::from_utf8(call.path.to_vec()).unwrap();
                if path.contains("hang") {
                    continue;
                }
                let answer = behaves(&path, call.call.unwrap());
                self.answer(call.id, answer);
            }
            Ok(())
        })
    }
}

fn behaves(path: &str, call: Call) -> Answer {
    match (path, call) {
        ("/", Call::Stat(_)) => Answer::Stat(stat(v1::FileType::Directory)),
        ("/", Call::List(_)) => entries(&["f"], false),
        ("/f", Call::Stat(_)) => {
            Answer::Stat(v1::FileStat { size: Some(7), ..stat(v1::FileType::File) })
        }
        ("/f", Call::Read(read)) => {
            let from = usize::try_from(read.offset).unwrap().min(7);
            let to = from.saturating_add(read.length as usize).min(7);
            Answer::Data(b"content"[from..to].to_vec().into())
        }
        ("/f", Call::Write(write)) => Answer::Written(write.contents.len() as u64),
        _ => Answer::Errno("ENOENT".to_owned()),
    }
}

pub(crate) fn said(id: u64, answer: Option<Answer>) -> v1::FilesystemAnswer {
    v1::FilesystemAnswer { id, answer, problem: String::new() }
}

pub(crate) fn stat(kind: v1::FileType) -> v1::FileStat {
    v1::FileStat { r#type: kind.into(), ..v1::FileStat::default() }
}

pub(crate) fn entries(names: &[&str], more: bool) -> Answer {
    let entry = |name: &&str| v1::DirectoryEntry {
        name: (*name).to_owned().into(),
        stat: Some(stat(v1::FileType::File)),
    };
    Answer::Entries(v1::DirectoryEntries { entries: names.iter().map(entry).collect(), more })
}
