use super::*;

fn take(expected: Expected, answer: Answer) -> Option<Outcome> {
    Gathering::new(expected).take(of(answer)).outcome
}

fn of(answer: Answer) -> v1::FilesystemAnswer {
    v1::FilesystemAnswer { id: 1, answer: Some(answer), problem: String::new() }
}

fn entry(name: &str) -> v1::DirectoryEntry {
    let stat = v1::FileStat { r#type: v1::FileType::File.into(), ..v1::FileStat::default() };
    v1::DirectoryEntry { name: name.to_owned().into(), stat: Some(stat) }
}

fn piece(names: &[&str], more: bool) -> Answer {
    let entries = names.iter().map(|name| entry(name)).collect();
    Answer::Entries(v1::DirectoryEntries { entries, more })
}

#[test]
fn answer_of_another_kind_is_wrong() {
    let all = [
        Expected::Done,
        Expected::Stat,
        Expected::Entries(9),
        Expected::Data(9),
        Expected::Written(9),
        Expected::Names,
        Expected::Sizes,
    ];
    for expected in all {
        let mut matching = 0;
        let answers = [
            Answer::Done(v1::FilesystemDone {}),
            Answer::Stat(entry("x").stat.unwrap()),
            piece(&["a"], false),
            Answer::Data(Bytes::from_static(b"x")),
            Answer::Written(1),
            Answer::Names(v1::XattrNames::default()),
            Answer::Statfs(v1::FilesystemSizes {
                block_size: 4096,
                ..v1::FilesystemSizes::default()
            }),
        ];
        for answer in answers {
            match take(expected, answer) {
                Some(Outcome::Reply(_)) => matching += 1,
                Some(Outcome::Wrong(_)) => {}
                other => panic!("{expected:?}: {other:?}"),
            }
        }
        assert_eq!(matching, 1, "{expected:?}");
    }
    let empty = v1::FilesystemAnswer::default();
    let taken = Gathering::new(Expected::Done).take(empty);
    assert!(matches!(taken.outcome, Some(Outcome::Wrong(_))));
}

#[test]
fn too_much_of_anything_is_wrong() {
    let data = |bytes: usize| Answer::Data(vec![0; bytes].into());
    assert!(matches!(take(Expected::Data(3), data(3)), Some(Outcome::Reply(_))));
    assert!(matches!(take(Expected::Data(3), data(4)), Some(Outcome::Wrong(_))));
    assert!(matches!(take(Expected::Written(3), Answer::Written(4)), Some(Outcome::Wrong(_))));
    let names = piece(&["a", "b", "c"], false);
    assert!(matches!(take(Expected::Entries(2), names), Some(Outcome::Wrong(_))));
}

#[test]
fn entries_come_in_pieces_and_are_counted_over_all_of_them() {
    let mut gathering = Gathering::new(Expected::Entries(3));
    assert_eq!(gathering.take(of(piece(&["a", "b"], true))), Taken { outcome: None, more: true });
    assert_eq!(gathering.held(), 2);
    let last = gathering.take(of(piece(&["c"], false)));
    let Some(Outcome::Reply(Reply::Entries(entries))) = last.outcome else { panic!("{last:?}") };
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_slice()).collect();
    assert_eq!((names, last.more), (vec![&b"a"[..], b"b", b"c"], false));

    let mut gathering = Gathering::new(Expected::Entries(3));
    gathering.take(of(piece(&["a", "b"], true)));
    let over = gathering.take(of(piece(&["c", "d"], true)));
    assert!(matches!(over, Taken { outcome: Some(Outcome::Wrong(_)), more: true }));
    assert_eq!(gathering.held(), 0);
}

#[test]
fn error_is_what_the_callback_named_and_its_problem_is_kept_short() {
    let failed = |errno, problem| Some(Outcome::Failed { errno, problem });
    assert_eq!(take(Expected::Stat, Answer::Errno("ENOSPC".into())), failed(Errno::ENOSPC, None));
    let Some(Outcome::Failed { errno, problem }) = take(Expected::Stat, Answer::Errno("no".into()))
    else {
        panic!("it has failed")
    };
    assert_eq!((errno, problem.is_some()), (Errno::EIO, true));
    let long =
        v1::FilesystemAnswer { problem: "ü".repeat(5000), ..of(Answer::Errno("EIO".into())) };
    let taken = Gathering::new(Expected::Done).take(long);
    let Some(Outcome::Failed { problem: Some(problem), .. }) = taken.outcome else { panic!("no") };
    assert!(problem.len() <= PROBLEM_BYTES);
}

#[test]
fn files_of_no_type_and_devices_are_wrong() {
    for bad in [0, 6, 7, 99, -1] {
        let stat = v1::FileStat { r#type: bad, ..v1::FileStat::default() };
        assert!(matches!(take(Expected::Stat, Answer::Stat(stat)), Some(Outcome::Wrong(_))));
    }
    let nameless =
        v1::DirectoryEntries { entries: vec![v1::DirectoryEntry::default()], more: false };
    let wrong = take(Expected::Entries(9), Answer::Entries(nameless));
    assert!(matches!(wrong, Some(Outcome::Wrong(_))));
}

#[test]
fn sizes_that_cannot_be_are_wrong() {
    let good = v1::FilesystemSizes {
        block_size: 4096,
        blocks: 9,
        blocks_free: 9,
        files: 1,
        files_free: 0,
    };
    let bad = [
        v1::FilesystemSizes { block_size: 0, ..good },
        v1::FilesystemSizes { blocks_free: 10, ..good },
        v1::FilesystemSizes { files_free: 2, ..good },
    ];
    assert!(matches!(take(Expected::Sizes, Answer::Statfs(good)), Some(Outcome::Reply(_))));
    for bad in bad {
        assert!(matches!(take(Expected::Sizes, Answer::Statfs(bad)), Some(Outcome::Wrong(_))));
    }
}
