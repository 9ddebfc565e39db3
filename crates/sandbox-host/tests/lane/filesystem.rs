//! Mounts that the client serves, by clients that behave and by those that do not.

use protocol::ErrorCode;
use protocol::v1;
use protocol::v1::MountProblem;
use protocol::v1::filesystem_answer::Answer;
use protocol::v1::filesystem_call::Call;
use protocol::v1::serve_filesystem_request::Request;
use protocol::v1::serve_filesystem_response::Response;
use sandbox_host::limits::{FILESYSTEM_CHANGES, MAX_MOUNTS};
use vfs::fuse::Opcode;

use crate::client::{Helper, assert_code, detail, soon, until};
use crate::file_client::{
    Attached, attach, callbacks, entries, mounted, open, problems, said, stat,
};
use crate::file_requests::{EIO, Kernel, ROOT};
use crate::guest::Script;

fn kinds(problems: &[v1::MountEvent]) -> Vec<MountProblem> {
    problems.iter().map(v1::MountEvent::problem).collect()
}

#[tokio::test]
async fn guest_reads_and_writes_what_the_client_serves() {
    let (helper, attached, events) = mounted(Script::default(), callbacks("one"), 8).await;
    let served = attached.behave();
    let kernel = Kernel::of(&helper, 0).await;
    assert_eq!(kernel.names(ROOT).await.unwrap(), ["f"]);
    let file = kernel.lookup(ROOT, "f").await.unwrap();
    let handle = kernel.open(file, 2).await.unwrap();
    assert_eq!(kernel.read(file, handle, 4096).await.unwrap(), b"content");
    assert_eq!(kernel.write(file, handle, b"new").await.unwrap(), 3);
    assert!(kernel.lookup(ROOT, "missing").await.is_err());
    assert_eq!(problems(&helper, events).await, []);
    // The stream ends with the machine, and not with an error.
    soon(served).await.unwrap().unwrap();
}

#[tokio::test]
async fn stream_that_does_not_begin_as_it_should_is_refused() {
    let helper = Helper::start(Script::default()).await;
    let attach =
        |id: &str, credits| Request::Attach(v1::AttachFilesystem { id: id.to_owned(), credits });
    for (first, named) in [
        (Request::Answer(said(1, None)), "attach"),
        (Request::Changed(v1::FilesystemChanged::default()), "attach"),
        (attach("", 1), "attach.id"),
        (attach("a/b", 1), "attach.id"),
        (attach(&"a".repeat(65), 1), "attach.id"),
        (attach("a", 0), "attach.credits"),
        (attach("a", 1025), "attach.credits"),
    ] {
        let error = detail(open(&helper, vec![first]).await.map(drop));
        assert_code(&error, ErrorCode::InvalidArgument);
        assert!(error.message.contains(named), "{error:?}");
    }
}

#[tokio::test]
async fn one_stream_has_a_name_and_there_are_only_so_many() {
    let helper = Helper::start(Script::default()).await;
    let mut kept = Vec::new();
    for number in 0..MAX_MOUNTS {
        kept.push(attach(&helper, &format!("mount-{number}"), 1).await.unwrap());
    }
    let again = detail(attach(&helper, "mount-0", 1).await.map(drop));
    assert_code(&again, ErrorCode::InvalidArgument);
    let more = detail(attach(&helper, "more", 1).await.map(drop));
    assert_code(&more, ErrorCode::LimitExceeded);
    kept.pop();
    for _ in 0..1000 {
        if attach(&helper, "again", 1).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the room was not given back");
}

#[tokio::test]
async fn boot_refuses_a_mount_that_nobody_serves() {
    let mut helper = Helper::start(Script::default()).await;
    drop(attach(&helper, "other", 1).await.unwrap());
    let mut request = helper.files.request();
    request.mounts = vec![v1::Mount {
        target: "/data".to_owned(),
        source: Some(v1::mount::Source::Callbacks(callbacks("one"))),
        ..v1::Mount::default()
    }];
    let error = detail(soon(helper.sandbox.boot(request)).await);
    assert_code(&error, ErrorCode::InvalidArgument);
    assert!(error.message.contains("mounts.callbacks.id") && error.message.contains("one"));
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn stream_that_no_mount_uses_ends_with_the_machine_and_none_comes_after_boot() {
    let mut helper = Helper::start(Script::default()).await;
    let mut unused = attach(&helper, "unused", 1).await.unwrap();
    soon(helper.sandbox.boot(helper.files.request())).await.unwrap();
    let late = detail(attach(&helper, "late", 1).await.map(drop));
    assert_code(&late, ErrorCode::InvalidArgument);
    helper.shutdown(0).await.unwrap();
    assert!(unused.next().await.unwrap().is_none());
}

/// Asks the kernel for a name while the client answers the question with what it is given.
async fn look_up(
    kernel: &Kernel,
    attached: &mut Attached,
    answers: Vec<Option<Answer>>,
) -> Result<u64, i32> {
    let looked = kernel.lookup(ROOT, "f");
    let answered = async {
        let (id, path, call) = attached.question().await;
        assert!(path == "/f" && matches!(call, Call::Stat(_)), "{path} {call:?}");
        for answer in answers {
            attached.say(Request::Answer(said(id, answer)));
        }
    };
    tokio::join!(looked, answered).0
}

#[tokio::test]
async fn answers_that_cannot_be_fail_that_operation_and_are_told() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 1).await;
    let kernel = Kernel::of(&helper, 0).await;
    let file = || stat(v1::FileType::File);
    let nanos = v1::FileTime { seconds: 0, nanos: 1_000_000_000 };
    let wrong = [
        None,
        Some(Answer::Done(v1::FilesystemDone {})),
        Some(Answer::Data(vec![0; 9].into())),
        Some(Answer::Stat(v1::FileStat::default())),
        Some(Answer::Stat(stat(v1::FileType::BlockDevice))),
        Some(Answer::Stat(v1::FileStat { mode: Some(0o100_644), ..file() })),
        Some(Answer::Stat(v1::FileStat { size: Some(u64::MAX), ..file() })),
        Some(Answer::Stat(v1::FileStat { modified: Some(nanos), ..file() })),
        Some(Answer::Errno("EWHATEVER".to_owned())),
    ];
    let count = wrong.len();
    for answer in wrong {
        let shown = format!("{answer:?}");
        assert_eq!(look_up(&kernel, &mut attached, vec![answer]).await, Err(EIO), "{shown}");
    }
    // What the callback names is what the guest sees, and no problem.
    let refused = vec![Some(Answer::Errno("EACCES".to_owned()))];
    assert_eq!(look_up(&kernel, &mut attached, refused).await, Err(13));
    // The same stream goes on.
    assert!(look_up(&kernel, &mut attached, vec![Some(Answer::Stat(file()))]).await.is_ok());
    let problems = problems(&helper, events).await;
    assert_eq!(kinds(&problems), vec![MountProblem::WrongAnswer; count]);
    assert!(problems.iter().all(|problem| problem.target == "/data" && problem.path == "/f"));
}

#[tokio::test]
async fn second_answer_is_told_and_changes_nothing() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 1).await;
    let kernel = Kernel::of(&helper, 0).await;
    let file = || Some(Answer::Stat(stat(v1::FileType::File)));
    let twice = vec![file(), Some(Answer::Errno("EIO".to_owned()))];
    assert!(look_up(&kernel, &mut attached, twice).await.is_ok());
    assert!(look_up(&kernel, &mut attached, vec![file()]).await.is_ok());
    assert_eq!(kinds(&problems(&helper, events).await), [MountProblem::WrongAnswer]);
}

#[tokio::test]
async fn client_that_breaks_the_protocol_loses_the_stream_and_the_guest_gets_errors() {
    let attach = v1::AttachFilesystem { id: "two".to_owned(), credits: 1 };
    let many = v1::FilesystemChanged { paths: vec!["/a".into(); FILESYSTEM_CHANGES + 1] };
    let huge = Answer::Data(vec![0; 2 * 1024 * 1024].into());
    for (request, named) in [
        (Request::Answer(said(77, Some(Answer::Written(1)))), "answer.id"),
        (Request::Answer(said(0, None)), "answer.id"),
        (Request::Attach(attach), "attach"),
        (Request::Changed(many), "changed.paths"),
        (Request::Answer(said(1, Some(huge))), "ServeFilesystem"),
    ] {
        let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 4).await;
        let kernel = Kernel::of(&helper, 0).await;
        let pending = kernel.lookup(ROOT, "pending");
        let broken = async {
            attached.question().await;
            attached.say(request);
            loop {
                match attached.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{named}: no error"),
                    Err(status) => return detail(Err::<(), _>(status)),
                }
            }
        };
        let (pending, error) = tokio::join!(pending, broken);
        assert_code(&error, ErrorCode::InvalidArgument);
        assert!(error.message.contains(named), "{named}: {error:?}");
        assert_eq!(pending, Err(EIO));
        assert_eq!(kernel.lookup(ROOT, "later").await, Err(EIO));
        assert_eq!(kernel.lookup(ROOT, "later").await, Err(EIO));
        assert_eq!(kinds(&problems(&helper, events).await), [MountProblem::Detached], "{named}");
    }
}

#[tokio::test]
async fn client_that_leaves_fails_what_is_pending() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 4).await;
    let kernel = Kernel::of(&helper, 0).await;
    let leave = async {
        attached.question().await;
        drop(attached);
    };
    let (pending, ()) = tokio::join!(kernel.lookup(ROOT, "f"), leave);
    assert_eq!(pending, Err(EIO));
    assert_eq!(kinds(&problems(&helper, events).await), [MountProblem::Detached]);
}

#[tokio::test]
async fn there_are_never_more_questions_than_credits() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 2).await;
    let kernel = Kernel::of(&helper, 0).await;
    let looks = ["a", "b", "c", "d"].map(|name| {
        let kernel = kernel.clone();
        tokio::spawn(async move { kernel.lookup(ROOT, name).await })
    });
    let (first, ..) = attached.question().await;
    let (second, ..) = attached.question().await;
    let more = tokio::time::timeout(std::time::Duration::from_millis(100), attached.hear.message());
    assert!(more.await.is_err(), "a third question came");
    for id in [second, first] {
        attached.answer(id, Answer::Stat(stat(v1::FileType::File)));
        let (id, ..) = attached.question().await;
        attached.answer(id, Answer::Stat(stat(v1::FileType::File)));
    }
    for look in looks {
        soon(look).await.unwrap().unwrap();
    }
    assert_eq!(problems(&helper, events).await, []);
}

#[tokio::test]
async fn callback_that_hangs_costs_a_slot_and_delays_neither_others_nor_the_end() {
    let mount = v1::CallbackMount { deadline_ms: 200, ..callbacks("one") };
    let (helper, mut attached, events) = mounted(Script::default(), mount, 2).await;
    let kernel = Kernel::of(&helper, 0).await;
    let hangs = {
        let kernel = kernel.clone();
        tokio::spawn(async move { kernel.lookup(ROOT, "hang").await })
    };
    let (hung, ..) = attached.question().await;
    assert!(
        look_up(&kernel, &mut attached, vec![Some(Answer::Stat(stat(v1::FileType::File)))])
            .await
            .is_ok()
    );
    assert_eq!(soon(hangs).await.unwrap(), Err(EIO));
    let cancelled = attached.next().await.unwrap();
    assert!(
        matches!(&cancelled, Some(Response::Cancel(cancel)) if cancel.id == hung),
        "{cancelled:?}"
    );
    // Its slot is gone until it is answered, however late; then there are two again.
    attached.answer(hung, Answer::Stat(stat(v1::FileType::File)));
    let both = ["a", "b"].map(|name| {
        let kernel = kernel.clone();
        tokio::spawn(async move { kernel.lookup(ROOT, name).await })
    });
    attached.question().await;
    attached.question().await;
    assert_eq!(kinds(&problems(&helper, events).await)[..1], [MountProblem::Deadline]);
    for pending in both {
        assert_eq!(soon(pending).await.unwrap(), Err(EIO));
    }
}

#[tokio::test]
async fn closing_waits_for_no_callback() {
    // Ten minutes each.
    let mount = v1::CallbackMount { deadline_ms: 600_000, ..callbacks("one") };
    let (helper, attached, events) = mounted(Script::default(), mount, 1).await;
    let served = attached.behave();
    let kernel = Kernel::of(&helper, 0).await;
    // The second waits for a credit.
    let hangs = ["hang", "hang-too"].map(|name| {
        let kernel = kernel.clone();
        tokio::spawn(async move { kernel.lookup(ROOT, name).await })
    });
    tokio::task::yield_now().await;
    assert_eq!(problems(&helper, events).await, []);
    for pending in hangs {
        assert_eq!(soon(pending).await.unwrap(), Err(EIO));
    }
    soon(served).await.unwrap().unwrap();
}

#[tokio::test]
async fn directory_comes_in_pieces_and_in_any_order_with_other_answers() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 4).await;
    let kernel = Kernel::of(&helper, 0).await;
    let lists = {
        let kernel = kernel.clone();
        tokio::spawn(async move { kernel.names(ROOT).await })
    };
    let (list, _, call) = attached.question().await;
    assert!(matches!(call, Call::List(_)));
    attached.answer(list, entries(&["a", "b"], true));
    assert!(
        look_up(&kernel, &mut attached, vec![Some(Answer::Stat(stat(v1::FileType::File)))])
            .await
            .is_ok()
    );
    attached.answer(list, entries(&["c"], true));
    attached.answer(list, entries(&[], false));
    assert_eq!(soon(lists).await.unwrap().unwrap(), ["a", "b", "c"]);

    for bad in [&["a", "a"][..], &["a/b"], &[".."], &[""]] {
        let lists = {
            let kernel = kernel.clone();
            tokio::spawn(async move { kernel.names(ROOT).await })
        };
        let (list, ..) = attached.question().await;
        attached.answer(list, entries(bad, false));
        let names = soon(lists).await.unwrap();
        // One bad name may be left out, or all be refused; it is never shown.
        assert!(
            names.is_err() || names.clone().unwrap().iter().all(|name| name == "a"),
            "{names:?}"
        );
    }
    assert!(
        kinds(&problems(&helper, events).await)
            .iter()
            .all(|kind| *kind == MountProblem::WrongAnswer)
    );
}

#[tokio::test]
async fn changes_reach_the_guest_once_each_and_odd_paths_do_not() {
    let script = Script::default();
    let seen = script.seen.clone();
    let (helper, attached, events) = mounted(script, callbacks("one"), 4).await;
    let paths = ["/f", "/d/g", "/f", "relative", "/a/../b"];
    let paths = paths.map(|path| path.to_owned().into()).to_vec();
    attached.say(Request::Changed(v1::FilesystemChanged { paths }));
    until("the guest hears of it", || !seen.announced.lock().unwrap().is_empty()).await;
    let told = seen.announced.lock().unwrap()[0].clone();
    assert_eq!(told.tag, "mount0");
    assert_eq!(told.paths, ["/d/g", "/f"]);
    let wrong = kinds(&problems(&helper, events).await);
    assert_eq!(wrong, [MountProblem::WrongAnswer, MountProblem::WrongAnswer]);
}

#[tokio::test]
async fn problems_are_told_a_few_at_a_time_and_the_others_counted() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 1).await;
    let kernel = Kernel::of(&helper, 0).await;
    for _ in 0..200 {
        assert_eq!(look_up(&kernel, &mut attached, vec![None]).await, Err(EIO));
    }
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let problems = problems(&helper, events).await;
    let counts = problems.iter().filter_map(|problem| problem.message.split_once(" more problems"));
    let left_out: usize = counts.map(|(count, _)| count.parse::<usize>().unwrap()).sum();
    let counted =
        problems.iter().filter(|problem| problem.message.contains(" more problems")).count();
    assert_eq!(problems.len() - counted + left_out, 200);
    assert!(left_out > 0, "all were told");
}

#[tokio::test]
async fn guest_that_floods_is_held_by_the_credits() {
    let (helper, mut attached, events) = mounted(Script::default(), callbacks("one"), 3).await;
    let kernel = Kernel::of(&helper, 0).await;
    let floods: Vec<_> = (0..500)
        .map(|number| {
            let kernel = kernel.clone();
            tokio::spawn(async move {
                kernel.call(Opcode::Lookup, ROOT, format!("{number}\0").as_bytes()).await
            })
        })
        .collect();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(attached.question().await.0);
    }
    for _ in 3..500 {
        let id = open.remove(0);
        attached.answer(id, Answer::Stat(stat(v1::FileType::File)));
        open.push(attached.question().await.0);
    }
    for id in open {
        attached.answer(id, Answer::Stat(stat(v1::FileType::File)));
    }
    for flood in floods {
        soon(flood).await.unwrap().unwrap();
    }
    assert_eq!(problems(&helper, events).await, []);
}
