//! `FileService` over the same connection, with real files of this machine.

use std::os::unix::fs::symlink;

use protocol::v1::tree_piece::Piece;
use protocol::v1::write_file_request::Request as Writing;
use protocol::v1::write_tree_request::Request as Making;
use protocol::v1::{
    FileType, OpenFile, ReadFileRequest, ReadTreeRequest, StatRequest, TreePiece, WriteFileRequest,
    WriteMode, WriteTreeRequest,
};

use super::*;

impl Bench {
    fn path(&self, name: &str) -> bytes::Bytes {
        self.folder.path().join(name).to_str().unwrap().to_owned().into()
    }

    async fn content(
        &self,
        name: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Vec<u8>, Status> {
        let request = ReadFileRequest { path: self.path(name), offset, length };
        let mut answers = self.files.clone().read_file(request).await?.into_inner();
        let mut content = Vec::new();
        while let Some(piece) = answers.message().await? {
            content.extend_from_slice(&piece.data);
        }
        Ok(content)
    }

    async fn write(&self, name: &str, mode: WriteMode, data: &[u8]) -> Result<(), Status> {
        let open = OpenFile { path: self.path(name), mode: mode.into(), ..OpenFile::default() };
        let data = data.to_vec().into();
        let requests = [Writing::Open(open), Writing::Data(data)]
            .map(|request| WriteFileRequest { request: Some(request) });
        self.files.clone().write_file(stream::iter(requests)).await.map(drop)
    }

    async fn tree(&self, name: &str) -> Result<Vec<TreePiece>, Status> {
        let request = ReadTreeRequest { path: self.path(name) };
        let mut answers = self.files.clone().read_tree(request).await?.into_inner();
        let mut pieces = Vec::new();
        while let Some(answer) = answers.message().await? {
            pieces.push(answer.piece.unwrap());
        }
        Ok(pieces)
    }
}

fn errno<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    let (code, errno, _) = refused(&result.unwrap_err());
    assert_eq!(code, ErrorCode::FileError);
    errno
}

#[tokio::test]
async fn content_is_written_and_read_back_in_whole_and_in_part() {
    let bench = bench().await;
    let data: Vec<u8> = (0..700_000u32).map(|index| (index % 251) as u8).collect();
    bench.write("file", WriteMode::New, &data).await.unwrap();
    assert_eq!(errno(bench.write("file", WriteMode::New, b"").await), "EEXIST");
    bench.write("file", WriteMode::Append, b"end").await.unwrap();
    let content = bench.content("file", 0, None).await.unwrap();
    assert!(content.starts_with(&data) && content.ends_with(b"end"));
    assert_eq!(content.len(), 700_003);
    assert_eq!(bench.content("file", 700_001, Some(9)).await.unwrap(), b"nd");
    bench.write("file", WriteMode::Unspecified, b"short").await.unwrap();
    assert_eq!(bench.content("file", 1, Some(3)).await.unwrap(), b"hor");
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_opened() {
    let bench = bench().await;
    nix::unistd::mkfifo(&bench.folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(errno(bench.content("fifo", 0, None).await), "EINVAL");
    assert_eq!(errno(bench.write("fifo", WriteMode::Append, b"x").await), "EINVAL");
    assert_eq!(errno(bench.content("", 0, None).await), "EISDIR");
    assert_eq!(errno(bench.content("missing", 0, None).await), "ENOENT");
}

#[tokio::test]
async fn tree_that_was_read_is_made_again_with_holes_links_and_times() {
    let bench = bench().await;
    let root = bench.folder.path();
    fs::create_dir_all(root.join("one/inner")).unwrap();
    bench.file("one/inner/run", b"#!/bin/sh", 0o751);
    symlink("/nowhere", root.join("one/link")).unwrap();
    let sparse = fs::File::create(root.join("one/sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    let pieces = bench.tree("one").await.unwrap();
    assert!(pieces.iter().any(|piece| piece.piece == Some(Piece::Hole(1 << 20))));
    let target = Making::Target(bench.path("two"));
    // Something that is in the way, and must not be followed.
    let requests: Vec<WriteTreeRequest> = std::iter::once(target)
        .chain(pieces.clone().into_iter().map(Making::Piece))
        .map(|request| WriteTreeRequest { request: Some(request) })
        .collect();
    bench.files.clone().write_tree(stream::iter(requests.clone())).await.unwrap();
    fs::remove_file(root.join("two/inner/run")).unwrap();
    symlink(root.join("kept"), root.join("two/inner/run")).unwrap();
    fs::write(root.join("kept"), "kept").unwrap();
    bench.files.clone().write_tree(stream::iter(requests)).await.unwrap();
    assert_eq!(fs::read(root.join("kept")).unwrap(), b"kept");
    let again = bench.tree("two").await.unwrap();
    let known = |pieces: &[TreePiece]| {
        let mut known: Vec<_> = pieces
            .iter()
            .map(|piece| match &piece.piece {
                Some(Piece::Entry(entry)) => {
                    let stat = entry.stat.unwrap();
                    let file = (stat.r#type() == FileType::File).then_some(stat.size);
                    format!("{:?} {:?} {:?} {file:?}", entry, stat.mode, stat.modified)
                        .split("stat:")
                        .next()
                        .map(|name| format!("{name} {:?} {:?} {file:?}", stat.mode, stat.modified))
                        .unwrap()
                }
                other => format!("{other:?}"),
            })
            .collect();
        known.sort();
        known
    };
    assert_eq!(known(&pieces), known(&again));
}

#[tokio::test]
async fn dropped_call_ends_its_worker() {
    let bench = bench().await;
    bench.file("large", &vec![1; 20_000_000], 0o644);
    let request = ReadFileRequest { path: bench.path("large"), ..ReadFileRequest::default() };
    let mut answers = bench.files.clone().read_file(request).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let all = crate::limits::MAX_FILE_CALLS;
    assert_eq!(bench.machine.file_calls.available_permits(), all - 1);
    drop(answers);
    while bench.machine.file_calls.available_permits() != all {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let request = StatRequest { path: bench.path("large") };
    let stat = bench.files.clone().stat(request).await.unwrap().into_inner().stat.unwrap();
    assert_eq!(
        (stat.r#type(), stat.size, stat.mode),
        (FileType::File, Some(20_000_000), Some(0o644))
    );
}
