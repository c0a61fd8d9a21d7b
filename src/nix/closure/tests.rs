//! Tests of the forms of a graph, of what a closure promises, and of looking through a store.

use super::*;
use crate::nix::fixture::{closure, info, names, path};
use crate::sys::fs::open_dir_path;
use proptest::prelude::*;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// `b` refers to itself and to `a`; `a` to nothing.
fn two() -> Closure {
    let mut b = info("b", 608, &["a", "b"]);
    b.deriver = Some(path("b.drv").to_string());
    let mut a = info("a", 480, &[]);
    a.ca = Some("fixed:r:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic".to_owned());
    Closure::new(vec![b, a]).unwrap()
}

fn without(closure: Closure, change: fn(&mut PathInfo)) -> Closure {
    let mut paths = closure.paths;
    paths.iter_mut().for_each(change);
    Closure { paths }
}

fn registration(closure: &Closure) -> String {
    let text = |info: &PathInfo| {
        let mut references = String::new();
        for path in &info.references {
            references += &format!("{path}\n");
        }
        format!(
            "{}\n{}\n{}\n{}\n{}\n{references}",
            info.path,
            info.nar_hash.as_ref().unwrap().hex(),
            info.nar_size.unwrap(),
            info.deriver.as_deref().unwrap_or_default(),
            info.references.len()
        )
    };
    closure.paths().iter().map(text).collect()
}

#[test]
fn a_registration_is_read() {
    let expected = without(two(), |info| info.ca = None);
    let text = registration(&two());
    assert_eq!(Closure::from_registration(text.as_bytes()).unwrap(), expected);
    assert_eq!(Closure::parse(text.as_bytes(), None).unwrap(), expected);
    // Files that were put together with blank lines behind them are fine.
    assert_eq!(Closure::parse(format!("{text}\n\n").as_bytes(), None).unwrap(), expected);
}

#[test]
fn a_reference_graph_without_hashes_is_read() {
    let (a, b) = (path("a"), path("b"));
    let text = format!("{b}\n\n2\n{a}\n{b}\n{a}\n\n0\n");
    let expected = without(two(), |info| {
        *info =
            PathInfo { references: info.references.clone(), ..PathInfo::new(info.path.clone()) };
    });
    assert_eq!(Closure::from_graph(text.as_bytes()).unwrap(), expected);
    assert_eq!(Closure::parse(text.as_bytes(), None).unwrap(), expected);
}

#[test]
fn errors_of_a_text_name_the_line() {
    let (a, b) = (path("a"), path("b"));
    let hash = Digest::of(b"x");
    let hash = hash.hex();
    let cases = [
        (format!("{a}\n{hash}\n1\n\n0\nx\n"), "line 6 of the registration: `x` is no store path"),
        (format!("{a}\n{hash}\nmany\n\n0\n"), "line 3 of the registration: `many` is not the size"),
        (format!("{a}\n{hash}\n-1\n\n0\n"), "line 3 of the registration: `-1` is not the size"),
        (format!("{a}\n{hash}\n1\nx\n0\n"), "line 4 of the registration: `x` is no store path"),
        (
            format!("{a}\n{hash}\n1\n\n2\n{b}\n"),
            "line 6 of the registration: it ends where a reference",
        ),
        (
            format!("{a}\n{hash}\n1\n\n99999999999999999999\n"),
            "line 5 of the registration: `99999999999999999999` is not",
        ),
        (
            format!("{a}\n{hash}\n1\n\n18446744073709551615\n"),
            "line 5 of the registration: it ends where",
        ),
        (format!("{a}\n\n0\n{b}\nx\n"), "line 5 of the reference graph: `x` is no store path"),
        (format!("{a}\n{}\n1\n\n0\n", "x".repeat(64)), "line 2 of the reference graph: `xxxx"),
        ("nonsense".to_owned(), "line 1 of the reference graph: `nonsense` is no store path"),
    ];
    for (text, start) in cases {
        let error = Closure::parse(text.as_bytes(), None).unwrap_err().to_string();
        assert!(error.starts_with(start), "{error}");
    }
    assert_eq!(
        Closure::parse(b" \n", None).unwrap_err().message(),
        "the graph of store paths is empty"
    );
    assert_eq!(Closure::from_graph(b"").unwrap_err().message(), "the reference graph is empty");
}

fn graph_json() -> serde_json::Value {
    let item = |info: &PathInfo| {
        let mut item = json!({
            "path": info.path.as_str(),
            "narHash": info.nar_hash.as_ref().unwrap().as_str(),
            "narSize": info.nar_size,
            "closureSize": 1088,
            "references": info.references.iter().map(StorePath::as_str).collect::<Vec<_>>(),
        });
        if let Some(deriver) = &info.deriver {
            item["deriver"] = json!(deriver);
        }
        if let Some(ca) = &info.ca {
            item["ca"] = json!(ca);
        }
        item
    };
    two().paths().iter().map(item).collect()
}

fn from_json(value: &serde_json::Value, key: Option<&str>) -> Result<Closure> {
    Closure::parse(value.to_string().as_bytes(), key)
}

#[test]
fn the_graph_in_a_derivations_attributes_is_read() {
    let attrs = json!({
        "name": "x", "version": "1", "info": {}, "list": ["a"], "empty": [], "objects": [{"a": 1}],
        "exportReferencesGraph": {"closure": ["x"]},
        "closure": graph_json(),
    });
    assert_eq!(from_json(&attrs, Some("closure")).unwrap(), two());
    assert_eq!(from_json(&attrs, None).unwrap(), two());
    assert_eq!(from_json(&graph_json(), None).unwrap(), two());
    let error = from_json(&attrs, Some("other")).unwrap_err();
    assert_eq!(error.message(), "there is no `other` with a graph of store paths");
    assert_eq!(error.hints(), ["there is `closure`"]);
    let mut several = attrs;
    several["second"] = graph_json();
    assert_eq!(from_json(&several, None).unwrap_err().hints(), ["name one of `closure`, `second`"]);
    assert!(from_json(&graph_json(), Some("closure")).is_err());
}

#[test]
fn what_nix_path_info_prints_is_read() {
    let mut by_path = json!({});
    let mut by_name = json!({});
    for item in graph_json().as_array().unwrap() {
        let mut item = item.clone();
        let path = item.as_object_mut().unwrap().remove("path").unwrap();
        for field in ["signatures", "ultimate"] {
            item[field] = json!(null);
        }
        by_path[path.as_str().unwrap()] = item.clone();
        let short = |path: &serde_json::Value| json!(path.as_str().unwrap().rsplit('/').next());
        item["references"] = item["references"].as_array().unwrap().iter().map(short).collect();
        if item["deriver"].is_string() {
            item["deriver"] = short(&item["deriver"]);
        }
        if item["ca"].is_string() {
            item["ca"] = json!({"method": "nar", "hash": "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="});
            let hash = item["narHash"].as_str().unwrap()[7..].to_owned();
            item["narHash"] = json!({"algorithm": "sha256", "format": "base16", "hash": hash});
        }
        by_name[short(&path).as_str().unwrap()] = item;
    }
    assert_eq!(from_json(&by_path, None).unwrap(), two());
    let second = json!({"version": 2, "storeDir": "/nix/store", "info": by_name});
    assert_eq!(from_json(&second, None).unwrap(), two());
    let gone = path("gone");
    let message = format!("`{gone}` was not valid in the store that was asked");
    for value in [json!({gone.as_str(): null}), json!([{"path": gone.as_str(), "valid": false}])] {
        assert_eq!(from_json(&value, None).unwrap_err().message(), message);
    }
}

#[test]
fn errors_of_json_name_the_entry() {
    let a = path("a");
    let a = a.as_str();
    let cases = [
        (
            json!([{"path": a, "references": []}, 5]),
            "entry 2 of the graph: it is no object".to_owned(),
        ),
        (json!([{}]), "entry 1 of the graph: it has no `path`".to_owned()),
        (
            json!([{"path": "/x"}]),
            "entry 1 of the graph: `/x` is no store path: it is not below `/nix/store`".to_owned(),
        ),
        (json!([{"path": a}]), format!("`{a}` in the graph: its `references` is of another type")),
        (
            json!([{"path": a, "references": [], "narSize": -1}]),
            format!("`{a}` in the graph: its `narSize` is of another type"),
        ),
        (
            json!([{"path": a, "references": [], "narHash": "md5:x"}]),
            format!("`{a}` in the graph: `md5:x` is no sha256 hash"),
        ),
        (json!({"a": [1]}), "no graph of store paths is in the JSON".to_owned()),
        (json!([]), "the graph of store paths is empty".to_owned()),
    ];
    for (value, message) in cases {
        assert_eq!(from_json(&value, None).unwrap_err().to_string(), message);
    }
    let deep = "[".repeat(100_000);
    let error = Closure::parse(deep.as_bytes(), None).unwrap_err();
    assert_eq!(error.message(), "the graph of store paths is not JSON");
}

#[test]
fn a_closure_is_sorted_complete_and_without_circles() {
    let sorted = closure(&["c:", "a: c b b a", "b: c"]);
    assert!(sorted.paths().is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(sorted.get(&path("a")).unwrap().references.len(), 3);
    let error = Closure::new(vec![info("a", 1, &["b"])]).unwrap_err();
    assert_eq!(error.message(), format!("the closure is not complete: it lacks `{}`", path("b")));
    assert_eq!(error.causes(), [format!("`{}` refers to it", path("a"))]);
    let circle = vec![
        info("a", 1, &["b"]),
        info("b", 1, &["c"]),
        info("c", 1, &["b", "d"]),
        info("d", 1, &[]),
    ];
    let error = Closure::new(circle).unwrap_err();
    assert_eq!(error.message(), "store paths refer to each other in a circle");
    let (b, c) = (format!("`{}`", path("b")), format!("`{}`", path("c")));
    assert!([format!("{b}, {c}"), format!("{c}, {b}")].contains(&error.causes()[0]), "{error}");
}

#[test]
fn large_hostile_graphs_take_a_moment_only() {
    let start = std::time::Instant::now();
    let name = |at: usize| format!("p{}", at % 5000);
    let circle = (0..5000).map(|at| info(&name(at), 1, &[&name(at + 1)]));
    let error = Closure::new(circle.collect()).unwrap_err();
    assert_eq!(error.message(), "store paths refer to each other in a circle");
    let again = (0..50_000).map(|_| info("a", 1, &["a"]));
    assert_eq!(Closure::new(again.collect()).unwrap(), closure(&["a: a"]));
    let hash = "0".repeat(26);
    let many = (0..=MAX_PATHS).map(|at| {
        PathInfo::new(StorePath::from_base(format!("{hash}{at:06}-x").as_bytes()).unwrap())
    });
    let error = Closure::new(many.collect()).unwrap_err();
    assert_eq!(error.message(), "the closure has 100001 store paths, more than 100000");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn parts_and_sums_of_closures_are_closures() {
    let all = closure(&["a: b c", "b: c", "c: c", "d: c"]);
    let named = |closure: &Closure| {
        let mut found =
            names(&closure.paths().iter().map(|info| info.path.clone()).collect::<Vec<_>>());
        found.sort();
        found.concat()
    };
    let mut part = all.closure_of(&[path("b")]).unwrap();
    assert_eq!(named(&part), "bc");
    assert_eq!(named(&all.closure_of(&[]).unwrap()), "");
    let message = format!("`{}` is not in the closure", path("x"));
    assert_eq!(all.closure_of(&[path("x")]).unwrap_err().message(), message);
    part.merge(all.closure_of(&[path("d")]).unwrap()).unwrap();
    assert_eq!(named(&part), "bcd");
    part.merge(all.clone()).unwrap();
    assert_eq!(part, all);
    // What one does not know, the other tells; what they disagree about is an error.
    let mut unknown = without(all.clone(), |info| (info.nar_hash, info.nar_size) = (None, None));
    unknown.merge(all.clone()).unwrap();
    assert_eq!(unknown, all);
    let other = without(all.clone(), |info| info.nar_size = Some(2));
    let error = unknown.merge(other).unwrap_err();
    let first = &all.paths()[0].path;
    assert_eq!(
        error.to_string(),
        format!("`{first}` is described twice, with different sizes: 1 and 2")
    );
    assert_eq!(unknown, all);
}

/// A root with a store in which these paths are files with these contents.
fn store(files: &[(&str, &str)]) -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("nix/store/.links")).unwrap();
    for (name, content) in files {
        fs::write(place(dir.path(), name), content).unwrap();
    }
    let root = open_dir_path(dir.path()).unwrap();
    (dir, root)
}

fn place(root: &Path, name: &str) -> std::path::PathBuf {
    root.join(path(name).as_str().trim_start_matches('/'))
}

#[test]
fn references_are_found_in_contents_names_and_link_targets() {
    let (a, c) = (path("a"), path("c"));
    let (dir, root) = store(&[("a", "nothing"), ("c", "x"), ("e", "not used"), ("g", c.as_str())]);
    let tree = place(dir.path(), "b");
    fs::create_dir_all(tree.join("sub").join(format!("x{}", a.as_str().replace('/', "_"))))
        .unwrap();
    symlink(format!("../{}", path("g")), tree.join("sub/link")).unwrap();
    fs::write(tree.join("file"), [&vec![0; 100_000][..], path("b").hash_part(), &[1; 9]].concat())
        .unwrap();
    fs::write(format!("{}.lock", place(dir.path(), "g").display()), "").unwrap();
    let found = Closure::scan(root.as_fd(), &[path("b")]).unwrap();
    let expected = ["b: a b g", "a:", "g: c", "c:"];
    let hashed = |info: &PathInfo| (info.path.clone(), info.references.clone());
    let expected: Vec<_> = closure(&expected).paths().iter().map(hashed).collect();
    assert_eq!(found.paths().iter().map(hashed).collect::<Vec<_>>(), expected);
    let mut filled = without(found.clone(), |info| (info.nar_hash, info.nar_size) = (None, None));
    filled.fill(root.as_fd()).unwrap();
    assert_eq!(filled, found);
    let error = Closure::scan(root.as_fd(), &[path("absent")]).unwrap_err();
    assert_eq!(error.message(), format!("`{}` is not in the store", path("absent")));
}

#[test]
fn promised_hashes_and_sizes_are_checked() {
    let (dir, root) = store(&[("a", "before")]);
    let mut closure = Closure::new(vec![PathInfo::new(path("a"))]).unwrap();
    closure.fill(root.as_fd()).unwrap();
    let before = closure.paths()[0].nar_hash.clone().unwrap();
    closure.fill(root.as_fd()).unwrap();
    fs::write(place(dir.path(), "a"), "after!").unwrap();
    let error = closure.clone().fill(root.as_fd()).unwrap_err();
    let after = nar::hash_of(|archive| archive.file(b"", false, 6, &mut &b"after!"[..])).unwrap().0;
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let message = format!(
        "`{}` is not what its description says: expected {before}, found {after}",
        path("a")
    );
    assert_eq!(error.to_string(), message);
    let mut sized = without(closure, |info| (info.nar_hash, info.nar_size) = (None, Some(1)));
    let error = sized.fill(root.as_fd()).unwrap_err();
    assert!(error.to_string().ends_with("expected 1 bytes, found 120 bytes"), "{error}");
    fs::remove_file(place(dir.path(), "a")).unwrap();
    let error = sized.fill(root.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not in the store", path("a")));
    let empty = tempfile::tempdir().unwrap();
    let empty = open_dir_path(empty.path()).unwrap();
    let error = sized.fill(empty.as_fd()).unwrap_err();
    assert_eq!(error.message(), "cannot open the store `/nix/store`");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Closure::parse(&text, None));
        drop(Closure::from_registration(&text));
        drop(Closure::from_graph(&text));
    }

    #[test]
    fn a_changed_registration_is_read_or_refused(at in 0_usize..600, byte in any::<u8>(), cut in 0_usize..600) {
        let mut text = registration(&two()).into_bytes();
        let end = text.len();
        text[at % end] = byte;
        drop(Closure::parse(&text, None));
        text.truncate(cut % end);
        drop(Closure::parse(&text, None));
    }
}
