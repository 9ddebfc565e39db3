use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::name::NameProblem;
use crate::testing::layers::Archive;

fn layers(layers: &[Archive2]) -> std::result::Result<Tree, (Vec<u8>, EntryProblem)> {
    let bytes: Vec<Vec<u8>> = layers.iter().map(|layer| layer(Archive::default()).end()).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    Tree::of_archives(&slices, &Limits::default())
}

type Archive2<'a> = &'a dyn Fn(Archive) -> Archive;

/// Paths with what lies there: `/` a directory, `>` a link, the layer of a file.
fn listing(tree: &Tree) -> String {
    let lines = tree.iter().skip(1).map(|(path, _, node)| match &node.kind {
        Kind::Directory => format!("{path}/"),
        Kind::File(content) => format!("{path}={}", content.layer),
        Kind::Symlink(target) => format!("{path}>{target}"),
        other => format!("{path}?{other:?}"),
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn problem(given: &[Archive2]) -> EntryProblem {
    layers(given).map(|tree| listing(&tree)).unwrap_err().1
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    let base: Archive2 = &|it| {
        it.folder("d")
            .file("d/a", "1")
            .file("d/b", "2")
            .folder("d/e")
            .file("d/e/f", "3")
            .file("da", "4")
    };
    for (upper, expected) in [
        (&(|it: Archive| it.file("d/.wh.a", "")) as Archive2, "d/ d/b=0 d/e/ d/e/f=0 da=0"),
        // The whole of a directory.
        (&|it: Archive| it.file(".wh.d", ""), "da=0"),
        (&|it: Archive| it.file("d/.wh.e", ""), "d/ d/a=0 d/b=0 da=0"),
        // What is not there.
        (
            &|it: Archive| it.file("d/.wh.none", "").file("none/.wh.x", ""),
            "d/ d/a=0 d/b=0 d/e/ d/e/f=0 da=0",
        ),
        // Opaque: the directory stays, with what its own layer puts there, before or after.
        (
            &|it: Archive| it.folder("d").file("d/.wh..wh..opq", "").file("d/n", "5"),
            "d/ d/n=1 da=0",
        ),
        (&|it: Archive| it.file("d/n", "5").file("d/.wh..wh..opq", ""), "d/ d/n=1 da=0"),
        (&|it: Archive| it.file(".wh..wh..opq", "").file("n", ""), "n=1"),
        // A layer's own files are not hidden by its whiteouts, in either order.
        (
            &|it: Archive| it.file("d/.wh.a", "").file("d/a", "5"),
            "d/ d/a=1 d/b=0 d/e/ d/e/f=0 da=0",
        ),
        (
            &|it: Archive| it.file("d/a", "5").file("d/.wh.a", ""),
            "d/ d/a=1 d/b=0 d/e/ d/e/f=0 da=0",
        ),
        (&|it: Archive| it.file(".wh.d", "").folder("d").file("d/n", ""), "d/ d/n=1 da=0"),
    ] {
        assert_eq!(listing(&layers(&[base, upper]).unwrap()), expected);
    }
}

#[test]
fn a_whiteout_hides_a_link_and_not_what_it_leads_to() {
    let tree = layers(&[
        &|it| it.folder("usr/lib").file("usr/lib/x", "").symlink("lib", "usr/lib"),
        &|it| it.file(".wh.lib", ""),
    ]);
    assert_eq!(listing(&tree.unwrap()), "usr/ usr/lib/ usr/lib/x=0");
}

#[test]
fn upper_layers_replace_whatever_was_there() {
    let base: Archive2 = &|it| it.folder("d").file("d/a", "").file("f", "").symlink("l", "d");
    for (upper, expected) in [
        (&(|it: Archive| it.file("d", "")) as Archive2, "d=1 f=0 l>d"),
        (&|it: Archive| it.symlink("d", "/"), "d>/ f=0 l>d"),
        (&|it: Archive| it.folder("f").file("f/x", ""), "d/ d/a=0 f/ f/x=1 l>d"),
        (&|it: Archive| it.folder("l").file("l/x", ""), "d/ d/a=0 f=0 l/ l/x=1"),
        (&|it: Archive| it.folder("d"), "d/ d/a=0 f=0 l>d"),
        (&|it: Archive| it.file("d/a", "").file("./d//a", "x"), "d/ d/a=1 f=0 l>d"),
    ] {
        assert_eq!(listing(&layers(&[base, upper]).unwrap()), expected);
    }
}

#[test]
fn a_directory_given_again_has_the_new_metadata() {
    let tree = layers(&[&|it| it.folder("d").file("d/a", ""), &|it| {
        it.member(tar::EntryType::Directory, b"d", b"", b"", |header| header.set_mode(0o1777))
    }]);
    assert_eq!(tree.unwrap().get("d").unwrap().mode, 0o1777);
}

#[test]
fn hard_links_are_one_file_across_layers() {
    let tree = layers(&[&|it| it.file("a", "1"), &|it| it.link("b", "a"), &|it| it.file("a", "2")])
        .unwrap();
    assert_eq!(listing(&tree), "a=2 b=0", "the other name keeps the old file");
    let tree = layers(&[&|it| it.file("a", "1").link("b", "a"), &|it| {
        it.link("c", "b").file(".wh.a", "")
    }])
    .unwrap();
    let numbers: Vec<usize> = tree.iter().skip(1).map(|(_, number, _)| number).collect();
    assert_eq!(listing(&tree), "b=0 c=0");
    assert_eq!(numbers[0], numbers[1]);
}

#[test]
fn hard_links_that_lead_nowhere_or_outside_are_refused() {
    use EntryProblem::{Dangling, DirectoryLink, SelfLink, Target, Through};
    let hidden: &[Archive2] = &[&|it| it.file("a", ""), &|it| it.file(".wh.a", "").link("b", "a")];
    for (given, expected) in [
        (
            &[&(|it: Archive| it.link("b", "../../etc/shadow")) as Archive2] as &[Archive2],
            Target(NameProblem::Climbs),
        ),
        (&[&|it: Archive| it.link("b", "/etc/shadow")], Target(NameProblem::Absolute)),
        (&[&|it: Archive| it.link("b", "a")], Dangling),
        (&[&|it: Archive| it.link("b", "a").file("a", "")], Dangling),
        (hidden, Dangling),
        (&[&|it: Archive| it.folder("d").link("b", "d")], DirectoryLink),
        (&[&|it: Archive| it.file("a", "").link("a", "a")], SelfLink),
        (&[&|it: Archive| it.folder("d").file("d/a", "").link("d", "d/a")], Dangling),
        (&[&|it: Archive| it.symlink("s", "/etc").link("b", "s/shadow")], Through("s".to_owned())),
        (&[&|it: Archive| it.link("b", "")], Target(NameProblem::Empty)),
    ] {
        assert_eq!(problem(given), expected);
    }
}

#[test]
fn names_that_climb_or_are_absolute_are_refused() {
    for (name, expected) in [
        ("../x", NameProblem::Climbs),
        ("a/../../x", NameProblem::Climbs),
        ("/etc/passwd", NameProblem::Absolute),
        ("../.wh.x", NameProblem::Climbs),
        ("a/../.wh..wh..opq", NameProblem::Climbs),
    ] {
        assert_eq!(problem(&[&|it| it.file(name, "")]), EntryProblem::Name(expected), "{name}");
    }
}

#[test]
fn nothing_is_followed_whichever_layer_made_the_link() {
    let through = |name: &str| EntryProblem::Through(name.to_owned());
    assert_eq!(problem(&[&|it| it.symlink("etc", "/etc").file("etc/passwd", "")]), through("etc"));
    assert_eq!(problem(&[&|it| it.symlink("a", ".."), &|it| it.file("a/b/c", "")]), through("a"));
    assert_eq!(problem(&[&|it| it.symlink("a", "b"), &|it| it.file("a/.wh.x", "")]), through("a"));
    assert_eq!(
        problem(&[&|it| it.symlink("a", "b"), &|it| it.file("a/.wh..wh..opq", "")]),
        through("a")
    );
    assert_eq!(problem(&[&|it| it.file("a", "").file("a/b", "")]), through("a"));
    // A directory that takes the link's place is no way through it.
    let replaced = layers(&[&|it| it.symlink("a", "b"), &|it| {
        it.folder("a").file("a/.wh..wh..opq", "").file("a/x", "")
    }]);
    assert_eq!(listing(&replaced.unwrap()), "a/ a/x=1");
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", "a/.wh..", "a/.wh...", ".wh..wh.aufs", ".wh..wh.plnk/x", ".wh.a/b"] {
        assert_eq!(problem(&[&|it| it.file(name, "")]), EntryProblem::Whiteout, "{name}");
    }
}

#[test]
fn the_root_is_a_directory_and_may_have_its_own_metadata() {
    let tree = layers(&[&|it| {
        it.member(tar::EntryType::Directory, b"./", b"", b"", |header| header.set_mode(0o700))
            .file("a", "")
    }]);
    let tree = tree.unwrap();
    assert_eq!((tree.get("").unwrap().mode, listing(&tree).as_str()), (0o700, "a=0"));
    assert_eq!(problem(&[&|it| it.symlink(".", "x")]), EntryProblem::Root);
    assert_eq!(problem(&[&|it| it.file("a", "").link(".", "a")]), EntryProblem::Root);
}

#[test]
fn the_error_has_the_name_of_the_member() {
    let error =
        layers(&[&|it| it.file("good", "").file("bad/../../x", "")]).map(|_| ()).unwrap_err();
    assert_eq!(error.0, b"bad/../../x");
}

#[test]
fn entries_and_their_memory_are_counted() {
    let many =
        (0..50).fold(Archive::default(), |it, number| it.file(&format!("f{number}"), "")).end();
    let few = Limits { entries: 49, ..Limits::default() };
    assert_eq!(
        Tree::of_archives(&[&many], &few).map(|_| ()).unwrap_err().1,
        EntryProblem::TooMany(49)
    );
    let large =
        Archive::default().pax(&[("SCHILY.xattr.user.a", &[b'x'; 5000])]).file("f", "").end();
    let little = Limits { metadata_bytes: 5000, ..Limits::default() };
    assert_eq!(
        Tree::of_archives(&[&large], &little).map(|_| ()).unwrap_err().1,
        EntryProblem::TooMuch(5000)
    );
}

#[test]
fn holes_count_as_content() {
    let huge = Archive::default()
        .pax(&[("GNU.sparse.size", b"9000000000000000000"), ("GNU.sparse.map", b"0,1")])
        .file("holes", "x")
        .end();
    let limits = Limits::default();
    let problem = Tree::of_archives(&[&huge], &limits).map(|_| ()).unwrap_err().1;
    assert_eq!(problem, EntryProblem::TooLarge(limits.image_bytes));
}

/// One member of a random layer.
#[derive(Debug, Clone)]
enum Step {
    File(usize),
    Folder(usize),
    Whiteout(usize),
    Opaque(usize),
}

const PATHS: [&str; 8] = ["a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b", "a/b/a"];

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0..4, 0..PATHS.len()).prop_map(|(kind, path)| match kind {
        0 => Step::File(path),
        1 => Step::Folder(path),
        2 => Step::Whiteout(path),
        _ => Step::Opaque(path),
    });
    prop::collection::vec(prop::collection::vec(step, 0..6), 1..5)
}

fn archive_of(steps: &[Step]) -> Vec<u8> {
    let archive = steps.iter().fold(Archive::default(), |it, step| match step {
        Step::File(path) => it.file(PATHS[*path], ""),
        Step::Folder(path) => it.folder(PATHS[*path]),
        Step::Whiteout(path) => {
            let (parent, last) = PATHS[*path].rsplit_once('/').unwrap_or((".", PATHS[*path]));
            it.file(&format!("{parent}/.wh.{last}"), "")
        }
        Step::Opaque(path) => it.file(&format!("{}/.wh..wh..opq", PATHS[*path]), ""),
    });
    archive.end()
}

/// The specification in as few words as possible: true is a directory. Nothing when a member lies
/// below a file.
fn model(layers: &[Vec<Step>]) -> Option<BTreeMap<String, bool>> {
    let mut map: BTreeMap<String, bool> = BTreeMap::new();
    let below = |path: &str, other: &str| {
        other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    };
    let parents = |path: &str| -> Vec<String> {
        path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
    };
    for steps in layers {
        for step in steps {
            match step {
                Step::Whiteout(path) => {
                    map.retain(|other, _| other != PATHS[*path] && !below(PATHS[*path], other))
                }
                Step::Opaque(path) => map.retain(|other, _| !below(PATHS[*path], other)),
                Step::File(_) | Step::Folder(_) => {}
            }
        }
        for step in steps {
            let (Step::File(path) | Step::Folder(path)) = step else { continue };
            let (path, folder) = (PATHS[*path], matches!(step, Step::Folder(_)));
            for parent in parents(path) {
                if map.get(&parent) == Some(&false) {
                    return None;
                }
                map.insert(parent, true);
            }
            if !folder {
                map.retain(|other, _| !below(path, other));
            }
            map.insert(path.to_owned(), folder);
        }
        for step in steps {
            let hidden = match step {
                Step::Whiteout(path) => PATHS[*path].to_owned(),
                Step::Opaque(path) => format!("{}/x", PATHS[*path]),
                Step::File(_) | Step::Folder(_) => continue,
            };
            if parents(&hidden).iter().any(|parent| map.get(parent) == Some(&false)) {
                return None;
            }
        }
    }
    Some(map)
}

proptest! {
    #[test]
    fn merging_is_what_the_model_does(layers in steps()) {
        let archives: Vec<Vec<u8>> = layers.iter().map(|steps| archive_of(steps)).collect();
        let slices: Vec<&[u8]> = archives.iter().map(Vec::as_slice).collect();
        let merged = Tree::of_archives(&slices, &Limits::default()).ok().map(|tree| {
            tree.iter().skip(1)
                .map(|(path, _, node)| (path.to_owned(), node.kind == Kind::Directory))
                .collect::<BTreeMap<_, _>>()
        });
        prop_assert_eq!(merged, model(&layers));
    }
}

fn sound() -> Vec<u8> {
    Archive::default()
        .folder("d")
        .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.5")])
        .file("x", "data")
        .symlink("l", "d/long")
        .link("h", "d/long")
        .member(tar::EntryType::GNULongName, b"n", b"", b"d/another\0", |_| ())
        .file("x", "more")
        .file("d/.wh.long", "")
        .file("d/.wh..wh..opq", "")
        .end()
}

proptest! {
    #[test]
    fn damaged_archives_are_refused_or_are_trees(
        split in any::<u8>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        repaired in any::<bool>(),
    ) {
        let mut archive = [sound(), sound()].concat();
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        // Otherwise the checksum would catch nearly all of it.
        if repaired {
            for block in archive.chunks_exact_mut(512) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        archive.insert(0, split);
        crate::fuzz_layers(&archive);
    }

    #[test]
    fn any_text_of_a_registry_is_understood_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz_documents(&bytes);
    }
}
