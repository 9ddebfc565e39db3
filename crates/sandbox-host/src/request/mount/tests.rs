use super::*;

fn bound(target: &str) -> v1::Mount {
    let bind = v1::BindMount { source: "/src".to_owned(), ..v1::BindMount::default() };
    v1::Mount {
        target: target.to_owned(),
        source: Some(Source::Bind(bind)),
        ..v1::Mount::default()
    }
}

fn called(target: &str, id: &str) -> v1::Mount {
    let callbacks = v1::CallbackMount { id: id.to_owned(), ..v1::CallbackMount::default() };
    let source = Some(Source::Callbacks(callbacks));
    v1::Mount { target: target.to_owned(), source, ..v1::Mount::default() }
}

#[test]
fn parents_come_first_and_defaults_are_filled_in() {
    let given = ["/b/c", "/a-b", "/b", "/a/b", "/a"];
    let plans = mounts(given.iter().map(|target| bound(target)).collect()).unwrap();
    let targets: Vec<_> = plans.iter().map(|plan| plan.target.as_str()).collect();
    assert_eq!(targets, ["/a", "/a-b", "/a/b", "/b", "/b/c"]);
    let plans = mounts(vec![called("/a", "one")]).unwrap();
    let MountSource::Callbacks(callbacks) = &plans[0].source else { panic!("{plans:?}") };
    assert_eq!((callbacks.deadline, callbacks.cache), (CALLBACK_DEFAULT, Duration::ZERO));
    assert_eq!((callbacks.features, callbacks.unlinked_bytes), (Features::NONE, 64 << 20));
}

#[test]
fn every_feature_is_known_and_all_of_them_are_all() {
    let mut mount = called("/a", "one");
    let Some(Source::Callbacks(callbacks)) = &mut mount.source else { panic!("no callbacks") };
    callbacks.features = (1..=19).collect();
    let plans = mounts(vec![mount]).unwrap();
    let MountSource::Callbacks(callbacks) = &plans[0].source else { panic!("{plans:?}") };
    assert_eq!(callbacks.features, Features::ALL);
}

#[test]
fn targets_that_are_not_plain_absolute_paths_are_refused() {
    for bad in
        ["", "/", "a", "/a/", "//a", "/a//b", "/a/.", "/../a", "/a/..", "/a\0", "/proc", "/dev/x"]
    {
        assert_eq!(mounts(vec![bound(bad)]).expect_err(bad).field, "mounts.target");
    }
}

#[test]
fn each_bad_field_is_refused_by_its_name() {
    let bind = |change: fn(&mut v1::BindMount)| {
        let mut mount = bound("/a");
        if let Some(Source::Bind(bind)) = &mut mount.source {
            change(bind);
        }
        vec![mount]
    };
    let callbacks = |change: fn(&mut v1::CallbackMount)| {
        let mut mount = called("/a", "one");
        if let Some(Source::Callbacks(callbacks)) = &mut mount.source {
            change(callbacks);
        }
        vec![mount]
    };
    let mut stored = bind(|bind| bind.mask_storage = "/store".to_owned());
    assert!(mounts(stored.clone()).is_ok());
    stored[0].read_only = true;
    let mut sourceless = vec![bound("/a")];
    sourceless[0].source = None;
    let cases: [(&str, Vec<v1::Mount>); 17] = [
        ("mounts", (0..=MAX_MOUNTS).map(|number| bound(&format!("/{number}"))).collect()),
        ("mounts.target", vec![bound("/a"), called("/a", "one")]),
        ("mounts.source", sourceless),
        ("mounts.bind.source", bind(|bind| bind.source = "src".to_owned())),
        ("mounts.bind.source", bind(|bind| bind.source.clear())),
        ("mounts.bind.mask_paths", bind(|bind| bind.mask_paths.push("../x".to_owned()))),
        ("mounts.bind.mask_paths", bind(|bind| bind.mask_paths.push("/x".to_owned()))),
        ("mounts.bind.mask_paths", bind(|bind| bind.mask_paths.push("x/".to_owned()))),
        ("mounts.bind.mask_paths", bind(|bind| bind.mask_paths.push(String::new()))),
        ("mounts.bind.mask_paths", bind(|bind| bind.mask_paths = vec!["x".to_owned(); 1025])),
        ("mounts.bind.mask_storage", bind(|bind| bind.mask_storage = "store".to_owned())),
        ("mounts.bind.mask_storage", stored),
        ("mounts.callbacks.id", callbacks(|callbacks| callbacks.id = "a b".to_owned())),
        ("mounts.callbacks.id", vec![called("/a", "one"), called("/b", "one")]),
        ("mounts.callbacks.features", callbacks(|callbacks| callbacks.features.push(0))),
        ("mounts.callbacks.deadline_ms", callbacks(|callbacks| callbacks.deadline_ms = 600_001)),
        ("mounts.callbacks.cache_ms", callbacks(|callbacks| callbacks.cache_ms = 60_001)),
    ];
    for (field, request) in cases {
        assert_eq!(mounts(request).expect_err(field).field, field);
    }
}
