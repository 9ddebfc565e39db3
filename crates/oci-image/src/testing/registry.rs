//! A registry in this process, on loopback: paths and what is answered, byte for byte.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::digest::Digest;
use crate::limits::Patience;
use crate::manifest::Compression;
use crate::plain_http::PlainHttp;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::testing::layers::packed;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: HashMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What to send.
pub(crate) enum Reply {
    /// A status, header lines, and the body, whose length is told.
    Whole(u16, Vec<String>, Vec<u8>),
    /// These bytes, then the connection ends.
    Raw(Vec<u8>),
    /// A head that promises nothing, and a body without an end.
    Endless,
    /// Nothing, and the connection stays.
    Silence,
}

impl Reply {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::Whole(200, Vec::new(), body.to_vec())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Whole(status, Vec::new(), Vec::new())
    }
}

type Answer = Box<dyn FnMut(&Request) -> Reply + Send>;

/// A registry that answers while this value lives.
pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (known, seen) = (Arc::clone(&answers), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&known), Arc::clone(&seen)));
            }
        });
        Self { address, answers, requests, task }
    }

    /// What a GET of this path below the repository gets from now on.
    pub(crate) fn answer(
        &self,
        path: &str,
        answer: impl FnMut(&Request) -> Reply + Send + 'static,
    ) {
        self.answer_at(&format!("/v2/team/tool/{path}"), answer);
    }

    pub(crate) fn answer_at(
        &self,
        path: &str,
        answer: impl FnMut(&Request) -> Reply + Send + 'static,
    ) {
        self.answers.lock().unwrap().insert(path.to_owned(), Box::new(answer));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn reference(&self, digest: &Digest) -> Reference {
        Reference::parse(&format!("{}/team/tool:1@{digest}", self.address)).unwrap()
    }

    pub(crate) fn client(&self, reference: &Reference) -> Registry {
        Registry::new(reference, None, PlainHttp::default(), quick()).unwrap()
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let bytes = bytes.to_vec();
        self.answer(&format!("blobs/{digest}"), move |_| Reply::ok(&bytes));
        digest
    }

    pub(crate) fn manifest(&self, document: &serde_json::Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let media_type = document["mediaType"].as_str().unwrap().to_owned();
        let header = format!("Content-Type: {media_type}; charset=utf-8");
        for name in [digest.to_string(), "1".to_owned()] {
            let (header, bytes) = (header.clone(), bytes.clone());
            self.answer(&format!("manifests/{name}"), move |_| {
                Reply::Whole(200, vec![header.clone()], bytes.clone())
            });
        }
        digest
    }

    /// An image of these archives; the digest of its manifest.
    pub(crate) fn image(&self, archives: &[(Vec<u8>, Compression)]) -> Digest {
        let document = self.image_document(archives);
        self.manifest(&document)
    }

    /// The manifest of an image whose blobs are here.
    pub(crate) fn image_document(&self, archives: &[(Vec<u8>, Compression)]) -> serde_json::Value {
        let diff_ids: Vec<String> =
            archives.iter().map(|(archive, _)| Digest::of(archive).to_string()).collect();
        let layers: Vec<serde_json::Value> = archives
            .iter()
            .map(|(archive, compression)| {
                let blob = packed(archive, *compression);
                let end = match compression {
                    Compression::None => "",
                    Compression::Gzip => "+gzip",
                    Compression::Zstd => "+zstd",
                };
                json!({ "mediaType": format!("application/vnd.oci.image.layer.v1.tar{end}"),
                    "digest": self.blob(&blob).to_string(), "size": blob.len() })
            })
            .collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Env": ["A=b"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string();
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(config.as_bytes()).to_string(), "size": config.len() },
            "layers": layers })
    }
}

/// For failures that are meant to happen.
pub(crate) fn quick() -> Patience {
    Patience { pause: Duration::from_millis(1), attempts: 3, ..Patience::default() }
}

async fn serve(
    stream: TcpStream,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        requests.lock().unwrap().push(request.clone());
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        let reply = answers
            .lock()
            .unwrap()
            .get_mut(&path)
            .map_or_else(|| Reply::status(404), |answer| answer(&request));
        match reply {
            Reply::Whole(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
                for header in headers {
                    head.push_str(&format!("{header}\r\n"));
                }
                head.push_str("\r\n");
                let mut bytes = head.into_bytes();
                bytes.extend(body);
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n").await;
                while stream.write_all(&[b' '; 65536]).await.is_ok() {}
                return;
            }
            Reply::Silence => {
                let _ = stream.read(&mut [0]).await;
                return;
            }
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Request { path, headers })
}
