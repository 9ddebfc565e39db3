use tar::EntryType;

use super::*;
use crate::testing::layers::Archive;

fn members(bytes: &[u8]) -> Result<Vec<Member>, Damage> {
    Members::new(bytes).unwrap().collect()
}

fn one(bytes: &[u8]) -> Result<Member, EntryProblem> {
    let mut all = members(bytes).map_err(|damage| damage.problem)?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

#[test]
fn metadata_is_kept() {
    let su = Archive::default().member(EntryType::Regular, b"bin/su", b"", b"abc", |header| {
        header.set_mode(0o10_4755);
        header.set_uid(5);
        header.set_gid(3_000_000_000);
    });
    let all = members(
        &su.member(EntryType::Char, b"dev/null", b"", b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .link("bin/su2", "bin/su")
        .end(),
    )
    .unwrap();
    let su = &all[0];
    assert_eq!((su.mode, su.uid, su.gid, su.mtime), (0o4755, 5, 3_000_000_000, 1000));
    assert_eq!(su.kind, MemberKind::File { offset: 512, size: 3, pieces: None });
    assert_eq!(all[1].kind, MemberKind::Character { major: 1, minor: 3 });
    assert_eq!((all[2].kind.clone(), &all[2].link[..]), (MemberKind::HardLink, &b"bin/su"[..]));
}

#[test]
fn headers_before_a_member_are_about_it_alone() {
    let long = "d/".repeat(200) + "f";
    let bytes = Archive::default()
        .member(
            EntryType::GNULongName,
            b"././@LongLink",
            b"",
            format!("{long}\0").as_bytes(),
            |_| (),
        )
        .member(EntryType::GNULongLink, b"././@LongLink", b"", b"target\0", |_| ())
        .symlink("short", "x")
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"7.5"),
            ("SCHILY.xattr.user.a", b"1\n"),
            ("uid", b"9"),
        ])
        .file("short", "data")
        .member(EntryType::XGlobalHeader, b"g", b"", b"13 comment=x\n", |_| ())
        .file("last", "")
        .end();
    let all = members(&bytes).unwrap();
    assert_eq!((&all[0].name[..], &all[0].link[..]), (long.as_bytes(), &b"target"[..]));
    assert_eq!(all[1].name, long.as_bytes());
    assert_eq!((all[1].mtime, all[1].uid), (7, 9));
    assert_eq!(all[1].records.xattrs["user.a"], b"1\n");
    assert_eq!((&all[2].name[..], all[2].mtime, all[2].uid), (&b"last"[..], 1000, 0));
    assert!(all[2].records.xattrs.is_empty());
}

#[test]
fn a_pax_size_is_the_size() {
    let bytes = Archive::default().pax(&[("size", b"1024")]).file("a", "").cut();
    assert_eq!(one(&bytes).map(|_| ()), Err(EntryProblem::Truncated));
    let mut whole = bytes;
    whole.resize(whole.len() + 1024, b'x');
    assert!(matches!(one(&whole).unwrap().kind, MemberKind::File { size: 1024, .. }));
}

#[test]
fn an_archive_may_end_without_its_blocks() {
    assert_eq!(members(&Archive::default().file("a", "b").cut()).unwrap().len(), 1);
    assert!(members(b"").unwrap().is_empty());
}

#[test]
fn what_is_damaged_is_refused() {
    let file = || Archive::default().file("a", "0123456789");
    let mut wrong_sum = file().end();
    wrong_sum[0] = b'b';
    let mut short_data = file().cut();
    short_data.truncate(515);
    let mut half_header = file().cut();
    half_header.truncate(700);
    half_header.resize(1024 + 100, b'x');
    let huge = Archive::default()
        .member(EntryType::Regular, b"a", b"", b"", |header| header.set_size(1 << 62));
    let long = Archive::default()
        .member(EntryType::XHeader, b"a", b"", b"", |header| header.set_size(2 << 20));
    let owner = Archive::default()
        .member(EntryType::Regular, b"a", b"", b"", |header| header.set_uid(1 << 40));
    let number = Archive::default().member(EntryType::Regular, b"a", b"", b"", |header| {
        header.as_old_mut().mode = *b"rwxr-xr-"
    });
    let sparse = Archive::default()
        .pax(&[
            ("GNU.sparse.size", b"9"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"0"),
        ])
        .file("a", "");
    for (bytes, problem) in [
        (wrong_sum, EntryProblem::Header),
        (short_data, EntryProblem::Truncated),
        (half_header, EntryProblem::Truncated),
        (huge.end(), EntryProblem::Truncated),
        (long.end(), EntryProblem::LongHeader),
        (owner.end(), EntryProblem::Header),
        (number.end(), EntryProblem::Header),
        (sparse.end(), EntryProblem::Sparse),
        (
            Archive::default().member(EntryType::new(b'Z'), b"a", b"", b"", |_| ()).end(),
            EntryProblem::Type(b'Z'),
        ),
        (
            Archive::default().member(EntryType::XHeader, b"a", b"", b"5 x", |_| ()).end(),
            EntryProblem::Header,
        ),
        (Archive::default().pax(&[("path", b"a")]).end(), EntryProblem::Truncated),
    ] {
        assert_eq!(members(&bytes).map(|_| ()).map_err(|damage| damage.problem), Err(problem));
    }
}

/// The file with its holes, as a program would read it.
fn whole(bytes: &[u8], member: &Member) -> String {
    let MemberKind::File { size, pieces: Some(pieces), .. } = &member.kind else {
        panic!("{member:?}")
    };
    let mut file = vec![b'.'; usize::try_from(*size).unwrap()];
    for piece in &**pieces {
        let [at, from, count] =
            [piece.at, piece.offset, piece.size].map(|it| usize::try_from(it).unwrap());
        file[at..at + count].copy_from_slice(&bytes[from..from + count]);
    }
    String::from_utf8(file).unwrap()
}

fn old_sparse(runs: &[(u64, u64)], size: u64, data: &str) -> Vec<u8> {
    let mut blocks = Vec::new();
    let mut rest = runs.get(4..).unwrap_or_default();
    while !rest.is_empty() {
        let (these, after) = rest.split_at(rest.len().min(21));
        let mut block = tar::GnuExtSparseHeader::new();
        for (header, (at, count)) in block.sparse_mut().iter_mut().zip(these) {
            header.set_offset(*at);
            header.set_length(*count);
        }
        block.set_is_extended(!after.is_empty());
        blocks.extend_from_slice(block.as_bytes());
        rest = after;
    }
    let mut header = Header::new_gnu();
    header.set_path("holes").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(data.len() as u64);
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        set(&mut header, 0);
    }
    header.set_mode(0o644);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    gnu.set_is_extended(!blocks.is_empty());
    for (header, (at, count)) in gnu.sparse.iter_mut().zip(runs) {
        header.set_offset(*at);
        header.set_length(*count);
    }
    header.set_cksum();
    let mut archive = [header.as_bytes().as_slice(), &blocks, data.as_bytes()].concat();
    archive.resize(archive.len().next_multiple_of(512), 0);
    [archive, Archive::default().file("after", "x").end()].concat()
}

#[test]
fn files_with_holes_are_read_in_three_forms() {
    let old = old_sparse(&[(2, 3), (7, 1)], 10, "abcd");
    let all = members(&old).unwrap();
    assert_eq!((whole(&old, &all[0]).as_str(), &all[1].name[..]), ("..abc..d..", &b"after"[..]));
    let many: Vec<(u64, u64)> = (0..60).map(|number| (2 * number, 1)).collect();
    let old = old_sparse(&many, 120, &"x".repeat(60));
    let all = members(&old).unwrap();
    assert_eq!((whole(&old, &all[0]), all.len()), ("x.".repeat(60), 2));

    let name: (&str, &[u8]) = ("GNU.sparse.name", b"holes");
    let pax = Archive::default()
        .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"2,3,7,1"), name])
        .file("GNUSparseFile.0/holes", "abcd")
        .end();
    let member = one(&pax).unwrap();
    assert_eq!((whole(&pax, &member).as_str(), &member.name[..]), ("..abc..d..", &b"holes"[..]));

    let data = format!("{:\0<512}abcd", "2\n2\n3\n7\n1\n");
    let version: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")];
    let pax = Archive::default()
        .pax(&[version[0], version[1], ("GNU.sparse.realsize", b"10"), name])
        .file("GNUSparseFile.0/holes", &data)
        .end();
    let member = one(&pax).unwrap();
    assert_eq!((whole(&pax, &member).as_str(), &member.name[..]), ("..abc..d..", &b"holes"[..]));
}

#[test]
fn maps_that_cannot_be_true_are_refused() {
    for (runs, size, data) in [
        (&[(7, 1), (2, 3)][..], 10, "abcd"),
        (&[(2, 3), (4, 1)], 10, "abcd"),
        (&[(2, 3), (9, 2)], 10, "abcde"),
        (&[(2, 3)], 10, "abcd"),
        (&[(2, 5)], 10, "abcd"),
        (&[(1 << 62, 1 << 62), (2, 3)], 10, "abcd"),
    ] {
        assert_eq!(
            members(&old_sparse(runs, size, data)).unwrap_err().problem,
            EntryProblem::Header,
            "{runs:?}"
        );
    }
    for data in ["", "2\n2\n3\n", "x\n", "99999999\n", "-1\n"] {
        let data = format!("{data:\0<512}");
        let pax = Archive::default()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"10"),
            ])
            .file("a", &data)
            .end();
        assert_eq!(one(&pax).unwrap_err(), EntryProblem::Header, "{data:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_gnu_tar_writes_of_a_file_with_holes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("holes")).unwrap();
    file.set_len(3_000_000).unwrap();
    for number in 0..30u64 {
        file.write_all_at(b"data", number * 90_000).unwrap();
    }
    let expected = std::fs::read(folder.path().join("holes")).unwrap();
    for options in
        [&["--format=gnu"][..], &["--format=pax"], &["--format=pax", "--sparse-version=0.1"]]
    {
        let tar = std::process::Command::new("tar")
            .args(options)
            .args(["--sparse", "--create", "--directory"])
            .arg(folder.path())
            .arg("holes")
            .output()
            .unwrap();
        assert!(tar.status.success() && tar.stdout.len() < 1_000_000, "{options:?}");
        let member = one(&tar.stdout).unwrap();
        assert_eq!(member.name, b"holes");
        let read = whole(&tar.stdout, &member).into_bytes();
        let same = read
            .iter()
            .zip(&expected)
            .all(|(read, byte)| *read == *byte || (*read, *byte) == (b'.', 0));
        assert!(same && read.len() == expected.len(), "{options:?}");
    }
}
