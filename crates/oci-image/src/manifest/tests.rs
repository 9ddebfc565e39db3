use serde_json::{Value, json};

use super::*;

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_IMAGE_MEDIA_TYPE,
        "config": { "mediaType": media::IMAGE_CONFIG_MEDIA_TYPE, "digest": digest("c"), "size": 7 },
        "layers": [
            { "mediaType": media::IMAGE_LAYER_GZIP_MEDIA_TYPE, "digest": digest("1"), "size": 1 },
            { "mediaType": LAYER_ZSTD[0], "digest": digest("2"), "size": 2 },
            { "mediaType": media::IMAGE_LAYER_MEDIA_TYPE, "digest": digest("3"), "size": 3 },
        ],
    })
}

fn index(platforms: &[(&str, &str, Option<&str>)]) -> Value {
    let manifests: Vec<Value> = platforms
        .iter()
        .map(|(os, architecture, variant)| {
            let mut platform = json!({ "os": os, "architecture": architecture });
            if let Some(variant) = variant {
                platform["variant"] = (*variant).into();
            }
            json!({ "mediaType": media::OCI_IMAGE_MEDIA_TYPE, "digest": digest(&format!("{os}{architecture}{variant:?}")),
                "size": 9, "platform": platform })
        })
        .collect();
    json!({ "schemaVersion": 2, "manifests": manifests })
}

fn parse(value: &Value) -> Result<Manifest> {
    Manifest::parse(value.to_string().as_bytes(), None, &Limits::default())
}

fn edited(edit: impl FnOnce(&mut Value)) -> Result<Manifest> {
    let mut value = image();
    edit(&mut value);
    parse(&value)
}

#[test]
fn layers_are_listed_from_the_lowest() {
    let Manifest::Image(image) = parse(&image()).unwrap() else { panic!() };
    assert_eq!(image.config, (Digest::of(b"c"), 7));
    let packed: Vec<_> = image.layers.iter().map(|layer| (layer.size, layer.compression)).collect();
    assert_eq!(packed, [(1, Compression::Gzip), (2, Compression::Zstd), (3, Compression::None)]);
}

#[test]
fn an_index_leads_to_linux_amd64() {
    let several = index(&[
        ("linux", "arm64", None),
        ("linux", "amd64", Some("v3")),
        ("linux", "amd64", None),
    ]);
    assert_eq!(parse(&several).unwrap(), Manifest::Index(Digest::of(b"linuxamd64None"), 9));
}

#[test]
fn an_index_without_it_tells_what_there_is() {
    let others = index(&[("linux", "arm64", Some("v8")), ("windows", "amd64", None)]);
    let error = parse(&others).unwrap_err().to_string();
    assert!(error.ends_with("there is: linux/arm64/v8, windows/amd64"), "{error}");
    let many = index(&[("linux", "s390x", None); 500]);
    assert!(parse(&many).unwrap_err().to_string().ends_with("and 484 more"));
    assert!(parse(&index(&[])).unwrap_err().to_string().ends_with("there is: nothing"));
}

#[test]
fn an_entry_for_another_kind_of_document_is_refused() {
    let mut nested = index(&[("linux", "amd64", None)]);
    nested["manifests"][0]["mediaType"] = media::OCI_IMAGE_INDEX_MEDIA_TYPE.into();
    assert!(matches!(parse(&nested), Err(Error::Document { .. })));
}

#[test]
fn a_document_is_one_thing() {
    let both = edited(|it| it["manifests"] = json!([]));
    assert!(both.unwrap_err().to_string().contains("either an index or"));
    let liar = edited(|it| it["mediaType"] = media::OCI_IMAGE_INDEX_MEDIA_TYPE.into());
    assert!(matches!(liar, Err(Error::Document { .. })));
    let bytes = image().to_string();
    for (given, fits) in [
        (media::OCI_IMAGE_MEDIA_TYPE, true),
        (media::OCI_IMAGE_INDEX_MEDIA_TYPE, false),
        ("text/html", false),
    ] {
        let outcome = Manifest::parse(bytes.as_bytes(), Some(given), &Limits::default());
        assert_eq!(outcome.is_ok(), fits, "{given}");
    }
}

#[test]
fn schema_one_is_refused_by_name() {
    for old in [
        json!({ "schemaVersion": 1, "fsLayers": [] }),
        json!({ "schemaVersion": 2, "fsLayers": [] }),
    ] {
        assert!(matches!(parse(&old), Err(Error::Schema1)));
    }
    assert!(edited(|it| it["schemaVersion"] = 3.into()).is_err());
}

#[test]
fn layers_from_elsewhere_are_refused() {
    for media_type in FOREIGN {
        let outcome = edited(|it| it["layers"][1]["mediaType"] = media_type.into());
        assert!(matches!(outcome, Err(Error::Foreign { .. })), "{media_type}");
    }
    let urls = edited(|it| it["layers"][0]["urls"] = json!(["https://other.example/layer"]));
    assert!(matches!(urls, Err(Error::Foreign { .. })));
}

#[test]
fn other_types_forms_and_sizes_are_refused() {
    let edits: [fn(&mut Value); 9] = [
        |it| it["layers"][0]["mediaType"] = "application/x-tar".into(),
        |it| it["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into(),
        |it| it["layers"][0]["digest"] = "sha512:00".into(),
        |it| it["config"]["digest"] = "../../x".into(),
        |it| it["layers"][0]["size"] = (-1).into(),
        |it| it["layers"][0]["size"] = (i64::MAX).into(),
        |it| it["config"]["size"] = (5 << 20).into(),
        |it| it["layers"] = Value::Array(vec![it["layers"][0].clone(); 128]),
        |it| it["layers"] = "x".into(),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        assert!(edited(edit).is_err(), "{number}");
    }
    assert!(edited(|it| it["annotations"] = json!({ "a": "b" })).is_ok());
}
