//! The store as a whole: images imported, saved as layouts and archives, loaded, removed, and broken.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Value, json};

use super::*;
use crate::Change;
use crate::compression::reproducible_gzip;

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A tar file with one file in it.
    fn tar(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, layer(content)).unwrap();
        path
    }

    fn import(&self, name: &str, contents: &[&[u8]]) -> Image {
        let tars: Vec<_> =
            contents.iter().enumerate().map(|(n, c)| self.tar(&format!("{n}.tar"), c)).collect();
        self.store.import(&tars, &[], &reference(name), &mut |_| {}).unwrap()
    }

    fn layout(&self) -> PathBuf {
        self.path("root/images")
    }

    fn files(&self, below: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.path("root").join(below)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn layer(content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}

fn load(store: &Store, source: &Path, name: Option<&str>) -> Result<Vec<Image>, StoreError> {
    store.load(source, name.map(reference).as_ref(), &mut |_| {})
}

/// Packs a directory as `docker save` and others do.
fn archive(directory: &Path, compress: impl Fn(Vec<u8>) -> Vec<u8>) -> tempfile::NamedTempFile {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", directory).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&compress(builder.into_inner().unwrap())).unwrap();
    file
}

#[test]
fn an_imported_image_is_found_with_its_configuration() {
    let place = Place::new();
    let changes: Vec<Change> =
        [r#"CMD ["app"]"#, "EXPOSE 80", "ENV A=b"].map(|text| text.parse().unwrap()).into();
    let tars = [place.tar("base.tar", b"1"), place.tar("app.tar", b"2")];
    let mut reports = 0;
    place.store.import(&tars, &changes, &reference("demo"), &mut |_| reports += 1).unwrap();
    assert!(reports >= 2);

    let image = place.store.resolve(&reference("demo:latest")).unwrap();
    let config = image.config.config().as_ref().unwrap();
    assert_eq!(config.cmd(), &Some(vec!["app".to_owned()]));
    assert_eq!(config.exposed_ports(), &Some(vec!["80/tcp".to_owned()]));
    assert_eq!(image.layers.len(), 2);
    for layer in &image.layers {
        assert_eq!(layer.erofs.metadata().unwrap().len(), layer.erofs_size);
        assert_eq!(layer.erofs_size % 4096, 0);
        assert_eq!(place.store.blobs.path(&layer.digest).metadata().unwrap().len(), layer.compressed_size);
    }
    assert_eq!(place.store.list().unwrap().len(), 1);
}

#[test]
fn the_same_import_gives_the_same_image() {
    let (one, two) = (Place::new(), Place::new());
    let changes: Vec<Change> =
        ["LABEL a=1 b=2 c=3 d=4", "EXPOSE 1 2 3 4 5"].map(|text| text.parse().unwrap()).into();
    let import = |place: &Place| {
        let tar = place.tar("l.tar", b"content");
        place.store.import(&[tar], &changes, &reference("x"), &mut |_| {}).unwrap().manifest_digest
    };
    assert_eq!(import(&one), import(&two));
    assert_eq!(one.files("images/blobs/sha256"), two.files("images/blobs/sha256"));
}

#[test]
fn names_find_images_as_docker_users_expect() {
    let place = Place::new();
    let hub = place.import("docker.io/library/nginx:1.2", &[b"hub"]).manifest_digest;
    let local = place.import("app", &[b"local"]).manifest_digest;
    for (name, digest) in [
        ("nginx:1.2", hub),
        ("library/nginx:1.2", hub),
        ("app", local),
        (&format!("app@{local}"), local),
        (&format!("app:latest@{local}"), local),
    ] {
        assert_eq!(place.store.resolve(&reference(name)).unwrap().manifest_digest, digest, "{name}");
    }
    for name in ["nginx", "app:1", &format!("app@{hub}"), "localhost/app"] {
        let error = place.store.resolve(&reference(name)).unwrap_err().to_string();
        assert!(error.contains("docker.io/library/nginx:1.2, app:latest"), "{error}");
        assert!(error.contains("carve image import"), "{error}");
    }
}

#[test]
fn layouts_and_archives_of_them_load() {
    let from = Place::new();
    let original = from.import("demo", &[b"1", b"2"]);
    let zstd = |data: Vec<u8>| zstd::encode_all(&data[..], 1).unwrap();
    let gzip = |data: Vec<u8>| {
        let mut encoder = reproducible_gzip(Vec::new());
        encoder.write_all(&data).unwrap();
        encoder.finish().unwrap()
    };
    let archives =
        [archive(&from.layout(), |data| data), archive(&from.layout(), zstd), archive(&from.layout(), gzip)];
    let mut sources = vec![from.layout()];
    sources.extend(archives.iter().map(|file| file.path().to_owned()));
    for source in sources {
        let to = Place::new();
        let images = load(&to.store, &source, None).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].reference, reference("demo"));
        assert_eq!(images[0].manifest_digest, original.manifest_digest);
        assert_eq!(to.files("layers/sha256"), from.files("layers/sha256"));
        assert_eq!(to.files("images/blobs/sha256"), from.files("images/blobs/sha256"));
        assert!(to.files("images.tmp").is_empty());

        let renamed = load(&to.store, &source, Some("other:1")).unwrap();
        assert_eq!(renamed[0].reference, reference("other:1"));
        assert_eq!(to.store.list().unwrap().len(), 2);
    }
}

#[test]
fn layers_of_every_compression_load() {
    let from = Place::new();
    let tar = layer(b"content");
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for (media_type, blob) in [("+zstd", &zstd), ("", &tar)] {
        let source = made_layout(&from, &[(&tar, blob, media_type)], |_| {});
        let to = Place::new();
        let image = load(&to.store, &source, Some("x")).unwrap().remove(0);
        assert_eq!(image.layers[0].diff_id, Digest::of(&tar));
        assert!(image.layers[0].media_type.ends_with(media_type));
    }
}

#[test]
fn of_several_images_the_named_one_is_taken() {
    let from = Place::new();
    from.import("a", &[b"1"]);
    let b = from.import("b:2", &[b"2"]);
    let to = Place::new();
    assert_eq!(load(&to.store, &from.layout(), None).unwrap().len(), 2);
    let one = load(&to.store, &from.layout(), Some("b:2")).unwrap();
    assert_eq!(one[0].manifest_digest, b.manifest_digest);
    let error = load(&to.store, &from.layout(), Some("c")).unwrap_err().to_string();
    assert!(error.contains("it has a:latest, b:2"), "{error}");
}

/// A layout with one image of the given layers (tar, blob, end of the media type); `change` may spoil the
/// documents: `{"config", "manifest", "index"}`, each written after what refers to it is known.
fn made_layout(place: &Place, layers: &[(&[u8], &[u8], &str)], change: impl Fn(&mut Value)) -> PathBuf {
    let layout = tempfile::tempdir_in(place.directory.path()).unwrap().keep();
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let put = |data: &[u8]| {
        std::fs::write(layout.join("blobs/sha256").join(Digest::of(data).hex()), data).unwrap();
        Digest::of(data).to_string()
    };
    let diff_ids: Vec<_> = layers.iter().map(|(tar, ..)| Digest::of(tar).to_string()).collect();
    let listed: Vec<_> = layers
        .iter()
        .map(|(_, blob, kind)| {
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{kind}");
            json!({"mediaType": media_type, "digest": put(blob), "size": blob.len()})
        })
        .collect();
    let mut all = json!({
        "config": {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}},
        "manifest": {"schemaVersion": 2, "layers": listed,
                     "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}},
        "index": {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json"}]},
    });
    change(&mut all);
    let config = all["config"].to_string();
    merge(&mut all["manifest"]["config"], json!({"digest": put(config.as_bytes()), "size": config.len()}));
    let manifest = all["manifest"].to_string();
    if let Some(listed) = all.pointer_mut("/index/manifests/0") {
        merge(listed, json!({"digest": put(manifest.as_bytes()), "size": manifest.len()}));
    }
    std::fs::write(layout.join("index.json"), all["index"].to_string()).unwrap();
    layout
}

/// Adds the fields of `defaults` that `value` lacks.
fn merge(value: &mut Value, defaults: Value) {
    if let (Value::Object(fields), Value::Object(defaults)) = (value, defaults) {
        for (key, default) in defaults {
            fields.entry(key).or_insert(default);
        }
    }
}

#[test]
fn an_image_that_lies_is_refused_and_leaves_nothing() {
    let (tar, other) = (layer(b"right"), layer(b"wrong"));
    let lie = Digest::of(&other).to_string();
    let good: &[(&[u8], &[u8], &str)] = &[(&tar, &tar, "")];
    let foreign: &[(&[u8], &[u8], &str)] = &[(&tar, &tar, "+encrypted")];
    let wrong_blob: &[(&[u8], &[u8], &str)] = &[(&tar, &other, "")];
    let not_tar: &[(&[u8], &[u8], &str)] = &[(b"", &[b'x'; 600], "")];
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |path: &'static str, value: Value| -> Change {
        Box::new(move |all: &mut Value| *all.pointer_mut(path).unwrap() = value.clone())
    };
    let add = |path: &'static str, value: Value| -> Change {
        Box::new(move |all: &mut Value| {
            let (parent, key) = path.rsplit_once('/').unwrap();
            all.pointer_mut(parent).unwrap()[key] = value.clone();
        })
    };
    let many = json!(vec![json!({"mediaType": "x", "digest": lie, "size": 1}); 501]);
    let cases: Vec<(&str, &[_], Change, &str)> = vec![
        ("diff-id", wrong_blob, Box::new(|_| {}), "expected sha256:"),
        ("digest", good, set("/manifest/layers/0/digest", json!(lie)), "cannot read"),
        ("layer size", good, set("/manifest/layers/0/size", json!(7)), "expected 7 bytes"),
        ("huge size", good, set("/manifest/layers/0/size", json!(1u64 << 60)), "bytes, got"),
        ("bad digest", good, set("/manifest/layers/0/digest", json!("sha256:../../x")), "not valid"),
        ("not a tar", not_tar, Box::new(|_| {}), "not a tar archive"),
        ("encrypted", foreign, Box::new(|_| {}), "are not supported"),
        (
            "diff-id count",
            good,
            set("/config/rootfs/diff_ids", json!([])),
            "it lists 1 layers, its configuration 0",
        ),
        ("diff-id form", good, set("/config/rootfs/diff_ids", json!(["x"])), "only sha256"),
        ("config", good, set("/config", json!([])), "image configuration sha256:"),
        ("config digest", good, add("/manifest/config/digest", json!(lie)), "cannot read"),
        ("manifest", good, set("/manifest/layers", json!("x")), "manifest sha256:"),
        ("many layers", good, set("/manifest/layers", many), "has 501 layers"),
        ("manifest size", good, add("/index/manifests/0/size", json!(1)), "expected 1 bytes"),
        ("no images", good, set("/index/manifests", json!([])), "it holds no image"),
        ("no list", good, set("/index", json!({})), "no list of manifests"),
    ];
    for (name, layers, change, part) in cases {
        let place = Place::new();
        let source = made_layout(&place, layers, change);
        let error = load(&place.store, &source, Some("x")).expect_err(name).to_string();
        assert!(error.contains(part), "{name}: {error}");
        assert!(place.store.list().unwrap().is_empty(), "{name}");
        assert!(place.files("images.tmp").is_empty(), "{name}");
    }
}

#[test]
fn a_forged_layer_is_told_with_both_digests() {
    let place = Place::new();
    let (tar, forged) = (layer(b"right"), layer(b"WRONG"));
    let source = made_layout(&place, &[(&tar, &tar, "")], |_| {});
    std::fs::write(source.join("blobs/sha256").join(Digest::of(&tar).hex()), &forged).unwrap();
    let error = load(&place.store, &source, Some("x")).unwrap_err().to_string();
    assert!(
        error.contains(&format!("expected {}, got {}", Digest::of(&tar), Digest::of(&forged))),
        "{error}"
    );
    assert!(place.files("layers/sha256").is_empty());
}

#[test]
fn what_is_not_a_layout_is_refused_with_advice() {
    let place = Place::new();
    let docker = place.path("docker");
    std::fs::create_dir(&docker).unwrap();
    std::fs::write(docker.join("manifest.json"), "[]").unwrap();
    let text = place.path("text");
    std::fs::write(&text, "just text, and enough of it to fill a header block".repeat(20)).unwrap();
    let missing = place.path("missing");
    let packed = archive(&docker, |data| data);
    let unnamed = made_layout(&place, &[], |_| {});
    for (source, part) in [
        (docker.as_path(), "Docker's old format"),
        (packed.path(), "skopeo copy"),
        (text.as_path(), "not a tar archive"),
        (missing.as_path(), "cannot read"),
        (&place.path("root"), "carve image import"),
        (&unnamed, "give it a name"),
    ] {
        let error = load(&place.store, source, None).unwrap_err().to_string();
        assert!(error.contains(part), "{}: {error}", source.display());
    }
}

#[test]
fn a_layer_that_unpacks_to_too_much_is_refused() {
    let place = Place::new();
    let limits = Limits { tar_bytes: 1 << 20, ..Limits::default() };
    let store = place.store.clone().with_limits(limits);
    let zeros = layer(&vec![0; 8 << 20]);
    let bomb = place.path("bomb.tar");
    std::fs::write(&bomb, zstd::encode_all(&zeros[..], 1).unwrap()).unwrap();
    let error = store.import(&[bomb], &[], &reference("x"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    assert!(place.files("images.tmp").is_empty());
}

#[test]
fn of_an_index_this_machines_platform_is_taken() {
    let place = Place::new();
    let tar = layer(b"x");
    let inner = made_layout(&place, &[(&tar, &tar, "")], |_| {});
    let manifest: Value = serde_json::from_slice(&std::fs::read(inner.join("index.json")).unwrap()).unwrap();
    let nest = |os: &str, architecture: &str| {
        let mut listed = manifest["manifests"][0].clone();
        listed["platform"] = json!({"os": os, "architecture": architecture});
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "x", "digest": Digest::of(b"none").to_string(), "size": 4,
             "platform": {"os": "windows", "architecture": "amd64"}},
            listed,
        ]})
        .to_string();
        let digest = Digest::of(index.as_bytes());
        std::fs::write(inner.join("blobs/sha256").join(digest.hex()), &index).unwrap();
        let outer = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(),
             "size": index.len(), "annotations": {"io.containerd.image.name": "docker.io/library/x:1", "k": "v"}}
        ]});
        std::fs::write(inner.join("index.json"), outer.to_string()).unwrap();
    };
    nest("linux", import::architecture());
    let images = load(&place.store, &inner, None).unwrap();
    assert_eq!(images[0].manifest_digest.to_string(), manifest["manifests"][0]["digest"]);
    assert!(place.store.resolve(&reference("x:1")).is_ok());
    let index = std::fs::read_to_string(place.layout().join("index.json")).unwrap();
    assert!(index.contains(r#""k":"v""#), "{index}");

    nest("linux", "vax");
    let error = load(&place.store, &inner, None).unwrap_err().to_string();
    assert!(error.contains("it has windows/amd64, linux/vax"), "{error}");
}

#[test]
fn removing_deletes_only_what_nothing_uses() {
    let place = Place::new();
    let a = place.import("a", &[b"shared", b"a"]);
    let b = place.import("b", &[b"shared", b"b"]);
    place.store.remove(&reference("a"), &[]).unwrap();
    assert_eq!(place.files("layers/sha256").len(), 2);
    assert_eq!(place.files("images/blobs/sha256").len(), 4);
    assert!(!a.layers[1].erofs.exists());
    assert!(place.store.resolve(&reference("b")).unwrap().layers.iter().all(|layer| layer.erofs.exists()));

    place.store.remove(&reference("b"), &[b.manifest_digest]).unwrap();
    assert!(place.store.list().unwrap().is_empty());
    assert!(b.layers[1].erofs.exists(), "an instance still runs on it");
    assert!(place.store.image(reference("b"), &b.manifest_digest).is_ok());

    place.store.collect_garbage(&[]).unwrap();
    assert!(place.files("layers/sha256").is_empty() && place.files("images/blobs/sha256").is_empty());
    assert!(matches!(place.store.remove(&reference("b"), &[]), Err(StoreError::NoSuchImage { .. })));
}

#[test]
fn layers_that_were_deleted_are_made_again() {
    let place = Place::new();
    let image = place.import("a", &[b"content"]);
    let before = std::fs::read(&image.layers[0].erofs).unwrap();
    std::fs::remove_file(&image.layers[0].erofs).unwrap();
    place.store.resolve(&reference("a")).unwrap();
    assert_eq!(std::fs::read(&image.layers[0].erofs).unwrap(), before);
}

#[test]
fn a_crash_leaves_only_what_the_next_change_clears() {
    let place = Place::new();
    let left = place.path("root/images.tmp/left");
    std::fs::write(&left, "x").unwrap();
    let held = place.store.locks.adding().unwrap();
    place.import("a", &[b"1"]);
    assert!(left.exists(), "somebody may still be writing it");
    drop(held);
    place.import("a", &[b"1"]);
    assert!(!left.exists());
}

#[test]
fn imports_of_one_layer_at_once_make_it_once() {
    let place = Place::new();
    let tars: Vec<_> = (0..8).map(|n| place.tar(&format!("{n}.tar"), &[7; 300_000])).collect();
    let digests: BTreeSet<_> = std::thread::scope(|scope| {
        let import = |(n, tar): (usize, &PathBuf)| {
            let (store, tar) = (place.store.clone(), tar.clone());
            let import =
                move || store.import(&[tar], &[], &reference(&format!("image:{n}")), &mut |_| {}).unwrap();
            scope.spawn(import)
        };
        let threads: Vec<_> = tars.iter().enumerate().map(import).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().layers[0].digest).collect()
    });
    assert_eq!(digests.len(), 1);
    assert_eq!(place.store.list().unwrap().len(), 8);
    assert_eq!(place.files("layers/sha256").len(), 1);
    assert!(place.files("images.tmp").is_empty());
}
