use std::fs;

use nix::sys::stat::Mode;
use tempfile::tempdir;

use super::*;

// `printf abc | sha256sum`
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn open(path: &Path) -> Result<Artifact, ArtifactError> {
    Artifact::open("kernel", path)
}

#[test]
fn digest_is_read_and_shown_in_the_same_form() {
    let digest: Digest = ABC.parse().unwrap();
    assert_eq!(digest.to_string(), ABC);
    assert_eq!(ABC.to_uppercase().replace("SHA256", "sha256").parse(), Ok(digest));
    for bad in ["", "sha256:", &ABC[7..], &ABC[..70], "sha256:zz", "sha512:00"] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
}

#[test]
fn right_file_behind_a_symbolic_link_passes() {
    let folder = tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "abc").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let artifact = open(&link).unwrap().expect_size(3).unwrap();
    artifact.verify(ABC.parse().unwrap(), &CancellationToken::new()).unwrap();
}

#[test]
fn verifying_checks_the_opened_file_and_leaves_its_position_alone() {
    use std::io::Read;
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "abc").unwrap();
    let artifact = open(&path).unwrap();
    fs::rename(&path, folder.path().join("old")).unwrap();
    fs::write(&path, "another").unwrap();
    artifact.verify(ABC.parse().unwrap(), &CancellationToken::new()).unwrap();
    let mut text = String::new();
    artifact.into_file().read_to_string(&mut text).unwrap();
    assert_eq!(text, "abc");
}

#[test]
fn wrong_digest_names_file_and_both_digests() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "abd").unwrap();
    let expected: Digest = ABC.parse().unwrap();
    let error = open(&path).unwrap().verify(expected, &CancellationToken::new()).unwrap_err();
    let Problem::Digest { found, .. } = &error.problem else { panic!("{error}") };
    let text = error.to_string();
    for part in [path.to_str().unwrap(), ABC, &found.to_string()] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn missing_folder_pipe_and_short_file_are_told_apart() {
    let folder = tempdir().unwrap();
    let missing = open(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing.problem, Problem::Missing));
    assert_eq!(missing.problem.errno(), Some(Errno::ENOENT));
    assert!(matches!(open(folder.path()).unwrap_err().problem, Problem::NotAFile));
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    assert!(matches!(open(&pipe).unwrap_err().problem, Problem::NotAFile));
    let short = folder.path().join("short");
    fs::write(&short, "ab").unwrap();
    let error = open(&short).unwrap().expect_size(3).unwrap_err();
    assert!(matches!(error.problem, Problem::Size { expected: 3, found: 2 }));
}

#[test]
fn checking_stops_when_the_boot_does() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "abc").unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = open(&path).unwrap().verify(ABC.parse().unwrap(), &cancel).unwrap_err();
    assert!(matches!(error.problem, Problem::GivenUp));
}
