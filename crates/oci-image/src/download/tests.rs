use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::*;
use crate::credentials::Credentials;
use crate::limits::Patience;
use crate::manifest::Compression;
use crate::plain_http::PlainHttp;
use crate::progress::Silent;
use crate::testing::layers::Archive;
use crate::testing::registry::{FakeRegistry, Reply, quick};
use crate::tree::Kind;

struct Fixture {
    registry: FakeRegistry,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self { registry: FakeRegistry::start().await, folder: tempfile::tempdir().unwrap() }
    }

    async fn pull(&self, digest: &Digest) -> Result<Download> {
        self.pull_with(digest, quick()).await
    }

    async fn pull_with(&self, digest: &Digest, patience: Patience) -> Result<Download> {
        let reference = self.registry.reference(digest);
        let registry = Registry::new(&reference, None, PlainHttp::default(), patience)?;
        let cache = BlobCache::open(self.folder.path())?;
        download(&reference, &registry, &cache, &Limits::default(), &Silent).await
    }

    async fn refused(&self, digest: &Digest) -> Error {
        self.pull(digest).await.unwrap_err()
    }

    /// The only layer's blob of an image, and the image.
    fn one_layer(&self) -> (Vec<u8>, Digest) {
        let archive = Archive::default().file("a", &"text ".repeat(5000)).end();
        let image = self.registry.image(&[(archive.clone(), Compression::None)]);
        (archive, image)
    }

    fn names(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }
}

#[tokio::test]
async fn an_image_is_pulled_once_and_then_found() {
    let it = Fixture::new().await;
    let lower = Archive::default().folder("d").file("d/a", "1").file("b", "2").end();
    let upper = Archive::default().file("d/.wh.a", "").file("c", "3").end();
    let top = Archive::default().link("e", "b").end();
    let image = it.registry.image(&[
        (lower, Compression::Gzip),
        (upper, Compression::Zstd),
        (top, Compression::None),
    ]);
    for _ in 0..2 {
        let download = it.pull(&image).await.unwrap();
        assert_eq!((download.manifest, &download.config.env[..]), (image, &["A=b".to_owned()][..]));
        let cache = BlobCache::open(it.folder.path()).unwrap();
        let merged = crate::merge(download.layers, &cache, &Limits::default(), &Silent).unwrap();
        let paths: Vec<&str> = merged.tree.iter().map(|(path, _, _)| path).collect();
        assert_eq!(paths, ["", "b", "c", "d", "e"]);
        let Kind::File(content) = &merged.tree.get("c").unwrap().kind else { panic!() };
        let mut byte = [0];
        crate::ReadAt::read_exact_at(&merged.archives[content.layer], &mut byte, content.offset)
            .unwrap();
        assert_eq!(byte, *b"3");
    }
    assert_eq!(it.registry.requests().len(), 5, "a manifest, a configuration, three layers");
    assert_eq!(it.names(), 5);
}

#[tokio::test]
async fn an_index_leads_to_the_image() {
    let it = Fixture::new().await;
    let (_, image) = it.one_layer();
    let size = it
        .registry
        .image_document(&[(
            Archive::default().file("a", &"text ".repeat(5000)).end(),
            Compression::None,
        )])
        .to_string()
        .len();
    let index = |size: usize| {
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.to_string(), "size": size,
          "platform": { "os": "linux", "architecture": "amd64" } }] })
    };
    let digest = it.registry.manifest(&index(size));
    assert_eq!(it.pull(&digest).await.unwrap().manifest, image);
    let wrong = it.registry.manifest(&index(size + 1));
    let fresh = Fixture { folder: tempfile::tempdir().unwrap(), ..it };
    assert!(matches!(fresh.refused(&wrong).await, Error::Size { .. }));
}

#[tokio::test]
async fn a_tag_alone_is_refused_with_the_digest_of_today() {
    let it = Fixture::new().await;
    let (_, image) = it.one_layer();
    let reference = Reference::parse(&format!("{}/team/tool:1", it.registry.address)).unwrap();
    let registry = it.registry.client(&reference);
    let cache = BlobCache::open(it.folder.path()).unwrap();
    let error =
        download(&reference, &registry, &cache, &Limits::default(), &Silent).await.unwrap_err();
    assert!(error.to_string().ends_with(&format!("today the tag is {image}")), "{error}");
    let unknown = Reference::parse(&format!("{}/team/tool:2", it.registry.address)).unwrap();
    let error =
        download(&unknown, &registry, &cache, &Limits::default(), &Silent).await.unwrap_err();
    assert!(matches!(error, Error::Unpinned { now: None, .. }));
}

#[tokio::test]
async fn other_bytes_than_those_of_the_digest_are_refused() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    let mut other = blob.clone();
    other[600] ^= 1;
    it.registry.answer(&format!("blobs/{}", Digest::of(&blob)), move |_| Reply::ok(&other));
    assert!(
        matches!(it.refused(&image).await, Error::Digest { expected, .. } if expected == Digest::of(&blob))
    );
    it.registry.answer(&format!("manifests/{image}"), |_| Reply::ok(b"{\"schemaVersion\":2}"));
    let fresh = Fixture { folder: tempfile::tempdir().unwrap(), ..it };
    assert!(matches!(fresh.refused(&image).await, Error::Digest { .. }));
    assert_eq!(fresh.names(), 0, "nothing is kept");
}

#[tokio::test]
async fn blobs_of_another_length_are_refused() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    let path = format!("blobs/{}", Digest::of(&blob));
    let size = blob.len() as u64;
    let short = blob[..1000].to_vec();
    it.registry.answer(&path, move |_| Reply::ok(&short));
    let error = it.refused(&image).await;
    assert!(
        matches!(error, Error::Size { found: 1000, expected, .. } if expected == size),
        "{error}"
    );
    let long = [blob.clone(), b"x".to_vec()].concat();
    it.registry.answer(&path, move |_| Reply::ok(&long));
    assert!(matches!(it.refused(&image).await, Error::Size { found, .. } if found == size + 1));
    it.registry.answer(&path, |_| Reply::Endless);
    assert!(matches!(it.refused(&image).await, Error::Size { found, .. } if found > size));
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_was() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    let (path, whole) = (format!("blobs/{}", Digest::of(&blob)), blob.clone());
    it.registry.answer(&path, move |request| {
        let from = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let Some(from) = from else {
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", whole.len());
            return Reply::Raw([head.as_bytes(), &whole[..7000]].concat());
        };
        let from: usize = from.parse().unwrap();
        let range = format!("Content-Range: bytes {from}-{}/{}", whole.len() - 1, whole.len());
        Reply::Whole(206, vec![range], whole[from..].to_vec())
    });
    it.pull(&image).await.unwrap();
    let ranges: Vec<_> = it
        .registry
        .requests()
        .iter()
        .filter_map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["bytes=7000-"]);
}

#[tokio::test]
async fn a_registry_that_begins_anew_or_elsewhere_is_understood() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    let (path, whole, count) =
        (format!("blobs/{}", Digest::of(&blob)), blob.clone(), AtomicU32::new(0));
    it.registry.answer(&path, move |_| {
        let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", whole.len());
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Raw([head.as_bytes(), &whole[..7000]].concat()),
            _ => Reply::ok(&whole),
        }
    });
    it.pull(&image).await.unwrap();
    let fresh = Fixture { folder: tempfile::tempdir().unwrap(), ..it };
    let (whole, count) = (blob.clone(), AtomicU32::new(0));
    fresh.registry.answer(&path, move |_| {
        let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", whole.len());
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Raw([head.as_bytes(), &whole[..7000]].concat()),
            _ => Reply::Whole(
                206,
                vec!["Content-Range: bytes 0-9/10".to_owned()],
                whole[..10].to_vec(),
            ),
        }
    });
    assert!(matches!(fresh.refused(&image).await, Error::Document { .. }));
}

#[tokio::test]
async fn attempts_are_counted() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    let tries = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&tries);
    it.registry.answer(&format!("blobs/{}", Digest::of(&blob)), move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        Reply::status(503)
    });
    assert!(matches!(it.refused(&image).await, Error::Status { status: 503, .. }));
    assert_eq!(tries.load(Ordering::Relaxed), quick().attempts);
    let gone = Digest::of(b"gone");
    assert!(matches!(it.refused(&gone).await, Error::Status { status: 404, .. }));
    assert_eq!(
        it.registry.requests().iter().filter(|it| it.path.ends_with(&gone.hex())).count(),
        1
    );
}

#[tokio::test]
async fn documents_without_an_end_are_given_up() {
    let it = Fixture::new().await;
    let digest = Digest::of(b"x");
    it.registry.answer(&format!("manifests/{digest}"), |_| Reply::Endless);
    assert!(matches!(it.refused(&digest).await, Error::TooLarge { limit: 4_194_304, .. }));
    let head = b"HTTP/1.1 200 X\r\nContent-Length: 4194305\r\n\r\n".to_vec();
    it.registry.answer(&format!("manifests/{digest}"), move |_| Reply::Raw(head.clone()));
    assert!(matches!(it.refused(&digest).await, Error::TooLarge { .. }));
}

#[tokio::test]
async fn silence_ends_by_the_deadline() {
    let it = Fixture::new().await;
    let digest = Digest::of(b"x");
    it.registry.answer(&format!("manifests/{digest}"), |_| Reply::Silence);
    let short = Duration::from_millis(50);
    let patience = Patience { attempts: 2, exchange: short, ..quick() };
    assert!(matches!(it.pull_with(&digest, patience).await, Err(Error::Deadline { .. })));
    let patience = Patience { attempts: 2, idle: short, ..quick() };
    assert!(matches!(it.pull_with(&digest, patience).await, Err(Error::Request { .. })));
}

#[tokio::test]
async fn other_media_types_are_refused() {
    let it = Fixture::new().await;
    let (_, image) = it.one_layer();
    let document = it.registry.image_document(&[]).to_string().into_bytes();
    let digest = Digest::of(&document);
    it.registry.answer(&format!("manifests/{digest}"), move |_| {
        Reply::Whole(200, vec!["Content-Type: text/html".to_owned()], document.clone())
    });
    let error = it.refused(&digest).await;
    assert!(error.to_string().contains("'text/html'"), "{error}");
    it.pull(&image).await.unwrap();
}

#[tokio::test]
async fn a_token_is_got_and_used() {
    let it = Fixture::new().await;
    let (_, image) = it.one_layer();
    guard(&it, &image, "Bearer good");
    it.registry.answer_at("/token", |request| {
        assert!(request.path.contains("scope=repository%3Ateam%2Ftool%3Apull"), "{}", request.path);
        assert_eq!(request.header("authorization"), None);
        Reply::ok(br#"{"token":"good"}"#)
    });
    it.pull(&image).await.unwrap();
    let asked = it.registry.requests().iter().filter(|it| it.path.starts_with("/token")).count();
    assert_eq!(asked, 1, "the token is kept");
    it.registry.answer_at("/token", |_| Reply::Endless);
    let fresh = Fixture { folder: tempfile::tempdir().unwrap(), ..it };
    assert!(matches!(fresh.refused(&image).await, Error::TooLarge { .. }));
    fresh.registry.answer_at("/token", |_| Reply::status(401));
    assert!(matches!(fresh.refused(&image).await, Error::Unauthorized { .. }));
}

/// The manifest is shown to whoever has this authorization.
fn guard(it: &Fixture, image: &Digest, authorization: &'static str) {
    let archive = Archive::default().file("a", &"text ".repeat(5000)).end();
    let body = it.registry.image_document(&[(archive, Compression::None)]).to_string().into_bytes();
    let realm = format!(
        "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"it\"",
        it.registry.address
    );
    it.registry.answer(&format!("manifests/{image}"), move |request| {
        if request.header("authorization") == Some(authorization) {
            Reply::ok(&body)
        } else if authorization.starts_with("Basic") {
            Reply::Whole(401, vec!["WWW-Authenticate: Basic realm=\"x\"".to_owned()], Vec::new())
        } else {
            Reply::Whole(401, vec![realm.clone()], Vec::new())
        }
    });
}

#[tokio::test]
async fn a_user_name_and_a_password_are_sent_when_asked_for() {
    let it = Fixture::new().await;
    let (_, image) = it.one_layer();
    guard(&it, &image, "Basic bWU6cGE6c3M=");
    let config = it.folder.path().join("config.json");
    let reference = it.registry.reference(&image);
    std::fs::write(
        &config,
        format!(r#"{{"auths":{{"{}":{{"auth":"bWU6cGE6c3M="}}}}}}"#, it.registry.address),
    )
    .unwrap();
    let credentials = Credentials::find(&config, reference.registry()).unwrap();
    let registry = Registry::new(&reference, credentials, PlainHttp::default(), quick()).unwrap();
    let cache = BlobCache::open(it.folder.path()).unwrap();
    download(&reference, &registry, &cache, &Limits::default(), &Silent).await.unwrap();
    assert_eq!(it.registry.requests()[0].header("authorization"), None, "not before");
    let fresh = Fixture { folder: tempfile::tempdir().unwrap(), ..it };
    let error = fresh.refused(&image).await;
    assert!(error.to_string().contains("wants a user name and a password"), "{error}");
}

#[tokio::test]
async fn a_token_service_elsewhere_in_the_clear_is_not_asked() {
    let it = Fixture::new().await;
    let (_, image) = it.one_layer();
    for realm in ["http://192.0.2.1/token", "ftp://127.0.0.1/token", "nonsense"] {
        it.registry.answer(&format!("manifests/{image}"), move |_| {
            let header = format!("WWW-Authenticate: Bearer realm=\"{realm}\"");
            Reply::Whole(401, vec![header], Vec::new())
        });
        assert!(matches!(it.refused(&image).await, Error::Unauthorized { .. }), "{realm}");
    }
}

#[tokio::test]
async fn redirections_carry_no_credentials_and_stay_where_they_may_go() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    guard(&it, &image, "Bearer good");
    it.registry.answer_at("/token", |_| Reply::ok(br#"{"token":"good"}"#));
    let elsewhere = FakeRegistry::start().await;
    let (path, bytes) = (format!("blobs/{}", Digest::of(&blob)), blob.clone());
    elsewhere.answer_at("/store", move |_| Reply::ok(&bytes));
    // Another port is another host to a client that guards credentials.
    let target = format!("Location: http://{}/store?signature=secret", elsewhere.address);
    it.registry.answer(&path, move |request| {
        assert_eq!(request.header("authorization"), Some("Bearer good"));
        Reply::Whole(307, vec![target.clone()], Vec::new())
    });
    it.pull(&image).await.unwrap();
    assert_eq!(elsewhere.requests()[0].header("authorization"), None);
    let fresh = Fixture { folder: tempfile::tempdir().unwrap(), ..it };
    for target in ["http://192.0.2.1/store", "file:///etc/passwd"] {
        fresh.registry.answer(&path, move |_| {
            Reply::Whole(307, vec![format!("Location: {target}")], Vec::new())
        });
        let outcome = fresh.refused(&image).await;
        assert!(
            matches!(outcome, Error::Request { .. } | Error::Status { status: 307, .. }),
            "{outcome:?}"
        );
    }
    let own = format!("Location: http://{}/v2/team/tool/{path}", fresh.registry.address);
    fresh.registry.answer(&path, move |_| Reply::Whole(307, vec![own.clone()], Vec::new()));
    assert!(matches!(fresh.refused(&image).await, Error::Request { .. }), "a circle");
}

#[tokio::test]
async fn a_signature_in_an_address_is_not_told() {
    let it = Fixture::new().await;
    let (blob, image) = it.one_layer();
    let target = format!("Location: http://{}/store?signature=secret", it.registry.address);
    it.registry.answer(&format!("blobs/{}", Digest::of(&blob)), move |_| {
        Reply::Whole(307, vec![target.clone()], Vec::new())
    });
    it.registry.answer_at("/store", |_| {
        Reply::Raw(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n".to_vec())
    });
    let error = format!("{:?}", it.refused(&image).await);
    assert!(!error.contains("secret"), "{error}");
}
