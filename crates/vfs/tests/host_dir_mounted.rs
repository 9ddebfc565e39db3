//! A host directory under the host's own kernel, used by real programs.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[macro_use]
mod common;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::Mounted;
use tempfile::TempDir;
use vfs::Observer;
use vfs::host_dir::{Access, HostDir, HostDirOptions};

struct Fixture {
    mounted: Mounted<HostDir>,
    source: TempDir,
    _target: TempDir,
}

fn mount(change: impl FnOnce(&mut HostDirOptions)) -> Fixture {
    mount_of(TempDir::new().unwrap(), change)
}

fn mount_of(source: TempDir, change: impl FnOnce(&mut HostDirOptions)) -> Fixture {
    let target = TempDir::new().unwrap();
    let mut options = HostDirOptions::new(source.path(), Access::ReadWrite);
    change(&mut options);
    let fs = HostDir::new(options, &Observer::log()).unwrap();
    let mounted = Mounted::new(fs, target.path());
    Fixture { mounted, source, _target: target }
}

fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euc", script])
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@b")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@b")
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    out.into_owned()
}

#[test]
fn what_one_side_writes_the_other_reads() {
    needs_fuse!();
    let f = mount(|_| {});
    fs::write(f.source.path().join("from-host"), "host").unwrap();
    assert_eq!(fs::read_to_string(f.mounted.join("from-host")).unwrap(), "host");
    fs::create_dir(f.mounted.join("d")).unwrap();
    fs::write(f.mounted.join("d/from-guest"), "guest").unwrap();
    assert_eq!(fs::read_to_string(f.source.path().join("d/from-guest")).unwrap(), "guest");
    symlink("/nowhere/../else", f.mounted.join("l")).unwrap();
    assert_eq!(fs::read_link(f.source.path().join("l")).unwrap(), Path::new("/nowhere/../else"));
    fs::hard_link(f.mounted.join("d/from-guest"), f.mounted.join("second")).unwrap();
    let (a, b) = (
        fs::metadata(f.mounted.join("d/from-guest")).unwrap(),
        fs::metadata(f.mounted.join("second")).unwrap(),
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
}

#[test]
fn git_commits_and_finds_its_tree_clean() {
    needs_fuse!();
    let f = mount(|_| {});
    let out = shell(
        &f.mounted.path,
        "git init -q repo; cd repo; for i in $(seq 200); do mkdir -p d$((i % 7)); echo $i >d$((i % 7))/f$i; done
         git add -A; git commit -qm one; git status --porcelain; git gc -q; git clone -q . ../clone
         cd ../clone; git status --porcelain; git fsck 2>&1; git log --oneline | wc -l",
    );
    assert_eq!(out.lines().last(), Some("1"), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[test]
fn tar_and_rsync_bring_a_tree_through_unchanged() {
    needs_fuse!();
    let f = mount(|options| options.set_id = true);
    shell(
        &f.mounted.path,
        "mkdir -p in/a/b; head -c 3000000 /dev/urandom >in/big; echo x >in/a/x; chmod 751 in/a/x
         ln in/a/x in/a/b/hard; ln -s ../x in/a/b/soft; mkfifo in/fifo; touch -d '1999-01-02 03:04:05.678901234' in/a/b
         truncate -s 300M in/sparse; printf tail >>in/sparse
         tar --format=posix -C in -cSf t.tar .; mkdir out; tar -C out -xSpf t.tar
         rsync -aHS --exclude sparse in/ copy/
         diff -r --exclude=sparse --exclude=fifo in out; diff -r --exclude=sparse --exclude=fifo in copy; cmp in/sparse out/sparse
         for d in out copy; do
           [ $(stat -c %i $d/a/x) = $(stat -c %i $d/a/b/hard) ]; [ $(stat -c %a $d/a/x) = 751 ]
           [ \"$(stat -c %y in/a/b)\" = \"$(stat -c %y $d/a/b)\" ]; [ -p $d/fifo ]
         done
         [ $(stat -c %b out/sparse) -lt 1000 ]",
    );
}

/// 100,000 where making them costs nothing but memory, and as many as tell on the file system of
/// the other tests, whose positions in a directory are hashes.
#[test]
fn a_directory_of_many_entries_is_complete_and_without_duplicates() {
    needs_fuse!();
    let in_memory = TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap());
    for (source, count) in [(in_memory, 100_000), (TempDir::new().unwrap(), 10_000)] {
        let f = mount_of(source, |_| {});
        fs::create_dir(f.source.path().join("many")).unwrap();
        for i in 0..count {
            fs::File::create(f.source.path().join(format!("many/file-{i}"))).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(f.mounted.join("many")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), count);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

#[test]
fn a_directory_is_emptied_while_it_is_read() {
    needs_fuse!();
    let f = mount(|_| {});
    let many = f.mounted.join("many");
    fs::create_dir(&many).unwrap();
    // More than one reply holds.
    for i in 0..1_000 {
        fs::File::create(f.source.path().join(format!("many/file-{i}"))).unwrap();
    }
    let mut removed = 0;
    for entry in fs::read_dir(&many).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        removed += 1;
    }
    assert_eq!(removed, 1_000);
    fs::remove_dir(&many).unwrap();
}

#[test]
fn few_descriptors_serve_many_files() {
    needs_fuse!();
    let f = mount(|options| {
        options.limits.inode_descriptors = 16;
        options.cache = vfs::CacheTimes::of(std::time::Duration::from_secs(100));
    });
    shell(
        &f.mounted.path,
        "for i in $(seq 300); do mkdir -p a/b$((i % 9)); echo $i >a/b$((i % 9))/f$i; done
         cat a/*/* | wc -l; exec 7<a/b1/f1; rm a/b1/f1; for i in 1 2 3; do find . | xargs stat >/dev/null; done
         [ \"$(cat <&7)\" = 1 ]; mv a c; find c | xargs stat >/dev/null; cat c/b2/f2 c/b3/f300; rm -r c",
    );
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    needs_fuse!();
    let f = mount(|_| {});
    let path = f.mounted.join("gone");
    let mut file =
        fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"still").unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all(b" here").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
}

#[test]
fn a_file_without_a_name_can_be_made_and_given_one() {
    needs_fuse!();
    let f = mount(|_| {});
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&f.mounted.path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            eprintln!("SKIPPED: this kernel has no FUSE_TMPFILE");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    file.write_all(b"named").unwrap();
    assert_eq!(fs::read_dir(f.source.path()).unwrap().count(), 0);
    let by_fd = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
    let cwd = nix::fcntl::AT_FDCWD;
    nix::unistd::linkat(cwd, by_fd.as_str(), cwd, &f.mounted.join("t"), flags).unwrap();
    assert_eq!(fs::read_to_string(f.source.path().join("t")).unwrap(), "named");
}

#[test]
fn appends_of_two_descriptors_do_not_overwrite_each_other() {
    needs_fuse!();
    let f = mount(|_| {});
    let open = |path: &Path| fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    let mut guest = open(&f.mounted.join("log"));
    let mut host = open(&f.source.path().join("log"));
    for i in 0..50 {
        writeln!(guest, "guest {i}").unwrap();
        writeln!(host, "host {i}").unwrap();
    }
    assert_eq!(fs::read_to_string(f.source.path().join("log")).unwrap().lines().count(), 100);
}

#[test]
fn offsets_beyond_four_gib_holes_and_ranges_are_kept() {
    needs_fuse!();
    let f = mount(|_| {});
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(f.mounted.join("big"))
        .unwrap();
    let at = (5_u64 << 30) + 3;
    file.write_all_at(b"far", at).unwrap();
    let mut three = [0; 3];
    file.read_exact_at(&mut three, at).unwrap();
    assert_eq!(&three, b"far");
    assert!(file.metadata().unwrap().blocks() < 100);
    let mut same = &file;
    let data = nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekData).unwrap();
    assert_eq!(data.cast_unsigned() / 4096, at / 4096);
    same.seek(SeekFrom::Start(0)).unwrap();
    let mode = nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE
        | nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    nix::fcntl::fallocate(&file, mode, (at - 10).cast_signed(), 20).unwrap();
    file.read_exact_at(&mut three, at).unwrap();
    assert_eq!(three, [0; 3]);
}

#[test]
fn renames_and_unlinks_from_many_threads_leave_a_sound_tree() {
    needs_fuse!();
    let f = mount(|_| {});
    let root = f.mounted.path.clone();
    for d in 0..4 {
        fs::create_dir(root.join(format!("d{d}"))).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let root = &root;
            scope.spawn(move || {
                let mut seed = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let mut next = move |below: u64| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed % below
                };
                for _ in 0..800 {
                    let path = |a: u64, b: u64| root.join(format!("d{a}/f{b}"));
                    let (one, two) = (path(next(4), next(9)), path(next(4), next(9)));
                    let _ = match next(4) {
                        0 => fs::write(one, b"x"),
                        1 => fs::rename(one, two),
                        2 => fs::remove_file(one),
                        _ => fs::hard_link(one, two),
                    };
                }
            });
        }
    });
    let list = |root: &Path| shell(root, "find . | sort");
    assert_eq!(list(&f.mounted.path), list(f.source.path()));
    shell(&f.mounted.path, "rm -r d0 d1 d2 d3; [ -z \"$(ls -A)\" ]");
    drop(f);
}

#[test]
fn forgotten_inodes_and_closed_files_leave_nothing_behind() {
    needs_fuse!();
    let f = mount(|options| options.cache = vfs::CacheTimes::NONE);
    shell(&f.mounted.path, "for i in $(seq 100); do echo $i >f$i; done; cat f* >/dev/null; rm f*");
    let held = || f.mounted.server.file_system().held();
    // The kernel releases and forgets behind our back: wait until it has.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while (held().inodes > 1 || held().files > 0) && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!((held().inodes, held().files, held().directories), (1, 0, 0));
}

#[test]
fn a_read_only_mount_refuses_every_change_also_after_a_remount() {
    needs_fuse!();
    let f = mount(|options| options.access = Access::ReadOnly);
    fs::write(f.source.path().join("f"), "x").unwrap();
    let path = f.mounted.join("f");
    let is_ro = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    };
    is_ro(fs::write(&path, "y"));
    is_ro(fs::OpenOptions::new().append(true).open(&path).map(drop));
    is_ro(fs::create_dir(f.mounted.join("d")));
    is_ro(fs::remove_file(&path));
    is_ro(fs::rename(&path, f.mounted.join("g")));
    is_ro(fs::set_permissions(&path, fs::Permissions::from_mode(0o777)));
    is_ro(symlink("x", f.mounted.join("l")));
    is_ro(fs::hard_link(&path, f.mounted.join("h")));
    assert_eq!(fs::read_to_string(&path).unwrap(), "x");
}

#[test]
fn names_need_not_be_text() {
    needs_fuse!();
    use std::os::unix::ffi::OsStrExt;
    let f = mount(|_| {});
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\n*");
    fs::write(f.mounted.join(name), "x").unwrap();
    assert_eq!(
        fs::read_dir(f.mounted.path.clone()).unwrap().next().unwrap().unwrap().file_name(),
        name
    );
    assert!(f.source.path().join(name).exists());
}

#[test]
fn memory_maps_private_and_shared_and_scripts_work() {
    needs_fuse!();
    let f = mount(|_| {});
    let out = shell(
        &f.mounted.path,
        "printf '#!/bin/sh\\necho ran\\n' >s; chmod +x s; ./s
         python3 - <<'P'
import mmap
open('m','wb').write(b'a'*8192)
with open('m','r+b') as f:
    m=mmap.mmap(f.fileno(),8192); m[4096:4100]=b'bbbb'; m.flush(); m.close()
    p=mmap.mmap(f.fileno(),8192,flags=mmap.MAP_PRIVATE); p[0:1]=b'z'; p.close()
print(open('m','rb').read().count(b'b'), open('m','rb').read()[:1])
P",
    );
    assert_eq!(out, "ran\n4 b'a'\n");
    let bytes = fs::read(f.source.path().join("m")).unwrap();
    assert_eq!(&bytes[4096..4101], b"bbbba");
}

#[test]
fn a_change_on_the_host_is_read_at_the_next_open_and_unchanged_data_stays_cached() {
    needs_fuse!();
    let f = mount(|_| {});
    let (inside, outside) = (f.mounted.join("f"), f.source.path().join("f"));
    for text in ["one", "two", "six"] {
        fs::write(&outside, text).unwrap();
        let read = fs::read_to_string(&inside).unwrap();
        assert_eq!(read, text);
    }
    // Long unchanged: the second and third open keep what the first one read.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    fs::File::options().write(true).open(&outside).unwrap().set_modified(old).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3100));
    for _ in 0..3 {
        assert_eq!(fs::read_to_string(&inside).unwrap(), "six");
    }
    fs::write(&outside, "ten").unwrap();
    assert_eq!(fs::read_to_string(&inside).unwrap(), "ten");
}
