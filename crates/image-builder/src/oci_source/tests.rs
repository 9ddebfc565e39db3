use std::io::Write;

use tar::{Builder, EntryType, Header};

use super::*;

fn archive() -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(5000);
    header.set_size(4);
    builder.append_data(&mut header, "bin/su", &b"data"[..]).unwrap();
    header.set_size(0);
    header.set_entry_type(EntryType::Link);
    builder.append_link(&mut header, "bin/another", "bin/su").unwrap();
    header.set_entry_type(EntryType::Symlink);
    builder.append_link(&mut header, "sbin", "bin").unwrap();
    builder.into_inner().unwrap()
}

fn merged() -> Merged {
    let archive = archive();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&archive).unwrap();
    let tree = oci_image::Tree::of_archives(&[&archive], &Limits::default()).unwrap();
    Merged { tree, archives: vec![file] }
}

#[test]
fn one_of_a_files_names_is_its_place() {
    let tree = convert(merged(), 9000).unwrap();
    let place = tree.get("bin/another").unwrap();
    assert_eq!((place.mode, place.uid, place.gid, place.mtime), (0o4755, 7, 8, 5000));
    let Kind::File(content) = &place.kind else { panic!("{place:?}") };
    let mut text = String::new();
    let mut reader = crate::content::Reader::default();
    std::io::Read::read_to_string(&mut reader.open(content).unwrap(), &mut text).unwrap();
    assert_eq!(text, "data");
    assert_eq!(tree.get("bin/su").unwrap().kind, Kind::HardLink("bin/another".to_owned()));
    assert_eq!(tree.get("sbin").unwrap().kind, Kind::Symlink("bin".to_owned()));
    assert_eq!(newest(&merged()), 5000);
    assert_eq!(convert(merged(), 3).unwrap().get("bin/su").unwrap().mtime, 3);
}

#[test]
fn what_is_merged_is_a_filesystem() {
    let mut tree = convert(merged(), 9000).unwrap();
    guest_basics::add(&mut tree).unwrap();
    let plan = Plan { label: "oci".to_owned(), size_mib: 64, journal_mib: 4 };
    let first = crate::filesystem::write(&tree, &plan).unwrap();
    let second = crate::filesystem::write(&tree, &plan).unwrap();
    assert!(first.written_parts().eq(second.written_parts()));
}

#[test]
fn what_a_configuration_says_is_told() {
    let config = ImageConfig {
        env: vec!["A=b".to_owned(), "LONG=".to_owned() + &"x".repeat(MAX_FACT)],
        entrypoint: vec!["/bin/tool".to_owned(), "a \"b\"".to_owned()],
        user: Some("9:9".to_owned()),
        ..ImageConfig::default()
    };
    let digest = Digest::of(b"abc");
    let facts = facts_of(&digest, &config);
    let expected = [
        ("digest", digest.to_string()),
        ("env", "A=b".to_owned()),
        ("entrypoint", r#"["/bin/tool","a \"b\""]"#.to_owned()),
        ("user", "9:9".to_owned()),
    ];
    let expected: Vec<Fact> =
        expected.into_iter().map(|(relation, value)| Fact::new("oci", relation, value)).collect();
    assert_eq!(facts, expected);
    let many = ImageConfig { env: vec!["A=b".to_owned(); 1000], ..ImageConfig::default() };
    assert_eq!(facts_of(&digest, &many).len(), MAX_FACTS);
}
