//! Callbacks under the host's own kernel, used by real programs.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[macro_use]
mod common;

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use common::Mounted;
use common::model::Model;
use tempfile::TempDir;
use vfs::Observer;
use vfs::callbacks::{CallbackFs, CallbackOptions, Features};

struct Fixture {
    mounted: Mounted<CallbackFs<Model>>,
    model: Model,
    _target: TempDir,
}

fn full() -> Features {
    Features::ALL.without(Features::STATFS).without(Features::FSYNC)
}

fn mount(features: Features) -> Fixture {
    let target = TempDir::new().unwrap();
    let model = Model::new(features);
    let fs = CallbackFs::new(model.clone(), CallbackOptions::default(), Observer::log());
    Fixture { mounted: Mounted::new(fs, target.path()), model, _target: target }
}

fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euc", script])
        .current_dir(directory)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_AUTHOR_NAME", "a")])
        .envs([("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "a")])
        .env("GIT_COMMITTER_EMAIL", "a@b")
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    out.into_owned()
}

#[test]
fn git_commits_and_finds_its_tree_clean() {
    needs_fuse!();
    let f = mount(full());
    let out = shell(
        &f.mounted.path,
        "git init -q repo; cd repo; for i in $(seq 60); do mkdir -p d$((i % 7)); echo $i >d$((i % 7))/f$i; done
         git add -A; git commit -qm one; git status --porcelain; git gc -q; git clone -q . ../clone
         cd ../clone; git status --porcelain; git fsck 2>&1; git log --oneline | wc -l",
    );
    assert_eq!(out, "1\n");
}

#[test]
fn tar_and_rsync_bring_a_tree_through_unchanged() {
    needs_fuse!();
    let f = mount(full());
    shell(
        &f.mounted.path,
        "mkdir -p in/a/b; head -c 3000000 /dev/urandom >in/big; echo x >in/a/x; chmod 751 in/a/x
         ln in/a/x in/a/b/hard; ln -s ../x in/a/b/soft; mkfifo in/fifo; touch -d '1999-01-02 03:04:05.678901234' in/a/b
         tar --format=posix -C in -cf t.tar .; mkdir out; tar -C out -xpf t.tar; rsync -aH in/ copy/
         diff -r --exclude=fifo in out; diff -r --exclude=fifo in copy
         for d in out copy; do
           [ $(stat -c %i $d/a/x) = $(stat -c %i $d/a/b/hard) ]; [ $(stat -c %a $d/a/x) = 751 ]
           [ \"$(stat -c %y in/a/b)\" = \"$(stat -c %y $d/a/b)\" ]; [ -p $d/fifo ]
         done",
    );
}

#[test]
fn a_directory_of_many_entries_is_complete_and_without_duplicates() {
    needs_fuse!();
    let f = mount(full());
    for i in 0..20_000 {
        f.model.put(&format!("/file-{i}"), b"");
    }
    let mut names: Vec<_> =
        fs::read_dir(&f.mounted.path).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 20_000);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20_000);
}

#[test]
fn an_unlinked_or_replaced_file_lives_while_it_is_open() {
    needs_fuse!();
    let f = mount(full());
    for replace in [false, true] {
        let path = f.mounted.join("gone");
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(b"still").unwrap();
        if replace {
            fs::write(f.mounted.join("other"), "new").unwrap();
            fs::rename(f.mounted.join("other"), &path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        }
        fs::remove_file(&path).unwrap();
        file.write_all(b" here").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.set_len(5).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
    assert_eq!(f.model.paths(), ["/"]);
}

#[test]
fn without_the_writable_group_nothing_can_be_changed() {
    needs_fuse!();
    let f = mount(Features::READLINK);
    f.model.put("/f", b"x");
    let refused = fs::write(f.mounted.join("f"), "y").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let refused = fs::create_dir(f.mounted.join("d")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::read_to_string(f.mounted.join("f")).unwrap(), "x");
}

#[test]
fn what_is_changed_on_the_host_side_is_seen_at_the_next_open() {
    needs_fuse!();
    let f = mount(full());
    f.model.put("/f", b"one");
    assert_eq!(fs::read_to_string(f.mounted.join("f")).unwrap(), "one");
    f.model.put("/f", b"two");
    // Attributes are believed for a tenth of a second; the data is read again at once.
    let file = fs::File::open(f.mounted.join("f")).unwrap();
    let mut three = [0; 3];
    file.read_exact_at(&mut three, 0).unwrap();
    assert_eq!(&three, b"two");
}

#[test]
fn numbers_and_times_stay_put_after_the_guest_forgot_them() {
    needs_fuse!();
    let f = mount(full());
    fs::create_dir(f.mounted.join("d")).unwrap();
    f.model.put("/d/f", b"x");
    let before = fs::metadata(f.mounted.join("d/f")).unwrap();
    shell(&f.mounted.path, "echo 2 >/proc/sys/vm/drop_caches");
    let after = fs::metadata(f.mounted.join("d/f")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}
