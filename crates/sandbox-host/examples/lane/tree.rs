//! A client that serves a mount from a tree in its memory. What has "hang" in its name is never
//! answered; "/ticks" is changed by the client itself, twice a second.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::v1;
use protocol::v1::filesystem_answer::Answer;
use protocol::v1::filesystem_call::Call;
use protocol::v1::filesystem_service_client::FilesystemServiceClient;
use protocol::v1::serve_filesystem_request::Request;
use protocol::v1::serve_filesystem_response::Response;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

const CREDITS: u32 = 64;

/// By path; a directory has no content.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// The mount that [`serve`] serves.
pub(crate) fn mount(target: &str) -> v1::Mount {
    use v1::FilesystemFeature as Feature;
    let features =
        [Feature::Writable, Feature::Mkdir, Feature::Unlink, Feature::Rmdir, Feature::Rename];
    let callbacks = v1::CallbackMount {
        id: "tree".to_owned(),
        features: features.iter().map(|feature| i32::from(*feature)).collect(),
        deadline_ms: 5000,
        ..v1::CallbackMount::default()
    };
    let source = Some(v1::mount::Source::Callbacks(callbacks));
    v1::Mount { target: target.to_owned(), source, ..v1::Mount::default() }
}

/// Attaches, and serves until the machine ends.
pub(crate) async fn serve(channel: Channel) -> Result<(), Status> {
    let (say, said) = mpsc::unbounded_channel();
    let send = move |request| {
        let _ = say.send(v1::ServeFilesystemRequest { request: Some(request) });
    };
    send(Request::Attach(v1::AttachFilesystem { id: "tree".to_owned(), credits: CREDITS }));
    let mut client = FilesystemServiceClient::new(channel);
    let mut questions =
        client.serve_filesystem(UnboundedReceiverStream::new(said)).await?.into_inner();
    questions.message().await?;
    tokio::spawn(async move {
        let mut tree = Tree::from([("/".to_owned(), None), ("/ticks".to_owned(), Some(vec![]))]);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            let message = tokio::select! {
                message = questions.message() => message,
                _ = tick.tick() => {
                    if let Some(Some(ticks)) = tree.get_mut("/ticks") {
                        ticks.push(b'.');
                    }
                    send(Request::Changed(v1::FilesystemChanged { paths: vec!["/ticks".into()] }));
                    continue;
                }
            };
            match message {
                Ok(Some(v1::ServeFilesystemResponse { response: Some(Response::Call(call)) })) => {
                    let path = String::from_utf8_lossy(&call.path).into_owned();
                    if path.contains("hang") {
                        continue;
                    }
                    let answer = answer(&mut tree, &path, call.call);
                    let answer = answer.unwrap_or_else(|errno| Answer::Errno(errno.to_owned()));
                    let (id, answer) = (call.id, Some(answer));
                    send(Request::Answer(v1::FilesystemAnswer {
                        id,
                        answer,
                        problem: String::new(),
                    }));
                }
                Ok(Some(other)) => eprintln!("the mount hears {other:?}"),
                Ok(None) => return eprintln!("the mount's stream has ended"),
                Err(status) => return eprintln!("the mount's stream: {status}"),
            }
        }
    });
    Ok(())
}

fn answer(tree: &mut Tree, path: &str, call: Option<Call>) -> Result<Answer, &'static str> {
    let done = Ok(Answer::Done(v1::FilesystemDone {}));
    match call.ok_or("EIO")? {
        Call::Stat(_) => tree.get(path).map(|node| Answer::Stat(stat(node))).ok_or("ENOENT"),
        Call::List(_) => {
            let inside = tree.iter().filter_map(|(below, node)| {
                let name = below.strip_prefix(path.trim_end_matches('/'))?.strip_prefix('/')?;
                let plain = !name.is_empty() && !name.contains('/');
                plain.then(|| v1::DirectoryEntry {
                    name: name.to_owned().into(),
                    stat: Some(stat(node)),
                })
            });
            Ok(Answer::Entries(v1::DirectoryEntries { entries: inside.collect(), more: false }))
        }
        Call::Read(read) => {
            let content = file(tree, path)?;
            let from = usize::try_from(read.offset).unwrap_or(usize::MAX).min(content.len());
            let to = from.saturating_add(read.length as usize).min(content.len());
            Ok(Answer::Data(content[from..to].to_vec().into()))
        }
        Call::CreateFile(_) if tree.contains_key(path) => Err("EEXIST"),
        Call::CreateFile(_) => {
            tree.insert(path.to_owned(), Some(Vec::new()));
            Ok(Answer::Stat(stat(&Some(Vec::new()))))
        }
        Call::Write(write) => {
            let content = file(tree, path)?;
            let from = usize::try_from(write.offset).map_err(|_| "EFBIG")?;
            content.resize(content.len().max(from + write.contents.len()), 0);
            content[from..from + write.contents.len()].copy_from_slice(&write.contents);
            Ok(Answer::Written(write.contents.len() as u64))
        }
        Call::Truncate(cut) => {
            file(tree, path)?.resize(usize::try_from(cut.size).map_err(|_| "EFBIG")?, 0);
            Ok(Answer::Stat(stat(&tree[path])))
        }
        Call::Mkdir(_) => {
            tree.insert(path.to_owned(), None);
            done
        }
        Call::Unlink(_) | Call::Rmdir(_) => tree.remove(path).map_or(Err("ENOENT"), |_| done),
        Call::Rename(rename) => {
            let to = String::from_utf8_lossy(&rename.to).into_owned();
            let node = tree.remove(path).ok_or("ENOENT")?;
            tree.insert(to, node);
            done
        }
        _ => Err("EOPNOTSUPP"),
    }
}

fn file<'a>(tree: &'a mut Tree, path: &str) -> Result<&'a mut Vec<u8>, &'static str> {
    tree.get_mut(path).ok_or("ENOENT")?.as_mut().ok_or("EISDIR")
}

fn stat(node: &Option<Vec<u8>>) -> v1::FileStat {
    let (kind, size) = match node {
        Some(content) => (v1::FileType::File, Some(content.len() as u64)),
        None => (v1::FileType::Directory, None),
    };
    v1::FileStat { r#type: kind.into(), size, ..v1::FileStat::default() }
}
