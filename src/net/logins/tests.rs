//! What files and programs say, in which order, and what is written.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> AuthPlace {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        AuthPlace { path, form: AuthForm::Docker, named: false, required: false }
    }

    /// A program that runs a script of the shell.
    fn helper(&self, name: &str, script: &str) {
        let path = self.0.path().join(format!("docker-credential-{name}"));
        let text = format!("#!/bin/sh\n{script}\n");
        // A copy that nobody has open for writing: another test may fork meanwhile.
        fs::write(self.0.path().join("script"), text).unwrap();
        let made = std::process::Command::new("install")
            .arg("-m755")
            .args([&self.0.path().join("script"), &path])
            .status();
        assert!(made.unwrap().success());
    }

    fn places(&self, files: &[AuthPlace]) -> AuthPlaces {
        AuthPlaces { files: files.to_vec(), programs: vec![self.0.path().to_owned()] }
    }
}

fn look(places: &AuthPlaces, name: &str) -> std::result::Result<String, String> {
    let target = LoginTarget::parse(name).unwrap();
    let looked = places.look(&target).map_err(|error| error.to_string())?;
    Ok(match looked.login {
        None => "none".to_owned(),
        Some(Login::Password { user, password }) => format!("{user}:{password}"),
        Some(Login::Token(token)) => format!("token {token}"),
        Some(Login::Identity(token)) => format!("identity {token}"),
    })
}

fn found(places: &AuthPlaces, name: &str) -> String {
    look(places, name).unwrap()
}

#[test]
fn the_most_specific_key_of_the_first_file_wins() {
    let dir = Dir::new();
    let pair = |text: &str| format!("{{\"auth\":\"{text}\"}}");
    let all = |entries: &[(&str, &str)]| {
        let entries = entries.iter().map(|(key, auth)| format!("\"{key}\":{}", pair(auth)));
        format!("{{\"auths\":{{{}}}}}", entries.collect::<Vec<_>>().join(","))
    };
    let first = all(&[
        ("r.example/team", "Yjoy"),
        ("r.example/team/app", "Yzoz"),
        ("https://q.example/v1/", "ZDo0"),
    ]);
    let second = all(&[
        ("r.example", "YToxCg=="),
        ("r.example/other/app", "ZTo1"),
        ("https://index.docker.io/v1/", "Zjo2"),
        ("R2.Example:5000", "Yjoy"),
    ]);
    let places = dir.places(&[dir.file("1", &first), dir.file("2", &second)]);
    for (name, wanted) in [
        ("r.example/team/app", "c:3"),
        ("r.example/team/app/sub", "c:3"),
        ("r.example/team/apple", "b:2"),
        ("r.example/team", "b:2"),
        ("r.example/teams", "a:1\n"),
        ("r.example/other/app", "e:5"),
        ("r.example", "a:1\n"),
        ("r.example:443/team", "none"),
        ("q.example/any", "d:4"),
        ("https://q.example/v2/", "d:4"),
        ("docker.io/library/busybox", "f:6"),
        ("index.docker.io", "f:6"),
        ("r2.example:5000/x", "b:2"),
        ("example", "none"),
    ] {
        assert_eq!(found(&places, name), wanted, "{name}");
    }
}

#[test]
fn all_forms_of_a_login_are_read() {
    let dir = Dir::new();
    let text = r#"{"auths": {
        "plain": {"username": "u", "password": "p"},
        "auth": {"auth": "dTpwOnE", "email": "e"},
        "both": {"auth": "dTpw", "username": "v", "password": "q"},
        "padded": {"auth": "dTpw\n AAAA"},
        "identity": {"auth": "dTo=", "identitytoken": "i"},
        "registry": {"registrytoken": "r"},
        "angled": {"username": "<token>", "password": "i"},
        "empty": {},
        "blank": {"auth": ""}
    }, "HttpHeaders": {"User-Agent": 1}}"#;
    let places = dir.places(&[dir.file("f", text)]);
    for (name, wanted) in [
        ("plain", "u:p"),
        ("auth", "u:p:q"),
        ("both", "u:p"),
        ("padded", "u:p"),
        ("identity", "identity i"),
        ("registry", "token r"),
        ("angled", "identity i"),
        ("empty", "none"),
        ("blank", "none"),
    ] {
        assert_eq!(found(&places, name), wanted, "{name}");
    }
    let legacy = dir.file("legacy", r#"{"https://h/v1/": {"auth": "dTpw", "email": ""}}"#);
    let legacy = AuthPlace { form: AuthForm::Legacy, ..legacy };
    assert_eq!(found(&dir.places(&[legacy]), "h/a"), "u:p");
}

#[test]
fn a_damaged_file_is_told_with_its_line_and_without_its_content() {
    let dir = Dir::new();
    for (text, wanted) in [
        (
            "{\n\"auths\": {\"h\": {\"auth\": \"secret\"}}\n",
            "line 3: it is no JSON: EOF while parsing an object",
        ),
        ("secret", "line 1: it is no JSON: expected value"),
        ("[\"secret\"]", "line 1: it is no JSON object"),
        ("{\n\"auths\": [\"secret\"]}", "line 2: `auths` is no object"),
        ("{\n\n\"auths\": {\"h\": \"secret\"}}", "line 3: `h` is no object"),
        (
            "{\"auths\": {\"h\": {\n\"auth\": \"secret\"}}}",
            "line 2: `auth` of `h` is not USER:PASSWORD in base64",
        ),
        ("{\"auths\": {\"h\": {\n\"auth\": [\"secret\"]}}}", "line 2: `auth` of `h` is no text"),
        ("{\"credHelpers\": \n[\"secret\"]}", "line 2: `credHelpers` is no object"),
        ("{\"credHelpers\": {\"h\":\n7}}", "line 2: `credHelpers` has no name here"),
        ("{\"credsStore\": 7}", "line 1: `credsStore` is no text"),
    ] {
        let place = dir.file("f", text);
        let error =
            dir.places(std::slice::from_ref(&place)).look(&LoginTarget::parse("h").unwrap());
        let error = error.unwrap_err();
        let path = place.path.display();
        assert_eq!(error.message(), format!("the file with logins `{path}` is damaged"));
        assert_eq!(error.causes(), [wanted.to_owned()]);
    }
    // What another registry has is not looked at.
    let other = dir.file("f", r#"{"auths": {"h": 1, "g": {"auth": "dTpw"}}}"#);
    assert_eq!(found(&dir.places(&[other]), "g"), "u:p");
    fs::write(dir.0.path().join("f"), b"{\n\"a\": \"\xff\"}").unwrap();
    let place = AuthPlace { path: dir.0.path().join("f"), ..dir.file("g", "") };
    let error = look(&dir.places(&[place]), "h").unwrap_err();
    assert!(error.ends_with("line 2: it is no UTF-8 text"), "{error}");
}

#[test]
fn files_that_are_not_there_are_passed_over_unless_they_must_be() {
    let dir = Dir::new();
    let gone = AuthPlace { path: "/nonexistent/f".into(), ..dir.file("g", "") };
    assert_eq!(found(&dir.places(&[gone.clone(), dir.file("g", "\n")]), "h"), "none");
    let required = AuthPlace { required: true, named: true, ..gone };
    let error = look(&dir.places(&[required]), "h").unwrap_err();
    assert!(error.starts_with("cannot read the logins in `/nonexistent/f`: no such"), "{error}");
    // A directory stands for whatever cannot be read.
    let strange = AuthPlace { path: dir.0.path().to_owned(), ..dir.file("g", "") };
    let places = dir.places(std::slice::from_ref(&strange));
    let looked = places.look(&LoginTarget::parse("h").unwrap()).unwrap();
    assert_eq!(looked.remarks.len(), 1, "{looked:?}");
    assert!(looked.source.starts_with("there is no login for it in `"));
    let places = dir.places(&[AuthPlace { named: true, ..strange.clone() }]);
    let error = places.look(&LoginTarget::parse("h").unwrap()).unwrap_err();
    assert_eq!(error.message(), format!("cannot read the logins in `{}`", strange.path.display()));
    assert_eq!(error.causes(), ["is a directory"]);
    assert_eq!(error.hints(), [super::file::NAMED]);
    // A tester named docker's file where its directory is meant, and it was taken for one that has no logins.
    let below = AuthPlace { path: dir.file("g", "").path.join("config.json"), ..strange };
    assert_eq!(found(&dir.places(std::slice::from_ref(&below)), "h"), "none");
    let error = look(&dir.places(&[AuthPlace { named: true, ..below }]), "h").unwrap_err();
    assert!(error.ends_with("config.json`: not a directory"), "{error}");
}

/// Answers for a server that it is asked about, and writes down what it was asked.
const KEEPER: &str = r#"server=$(cat); echo "$1 $server" >> "$(dirname "$0")/log"
case "$server" in
known|https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"me","Secret":"pw"}' ;;
token) echo '{"Username":"<token>","Secret":"id"}' ;;
odd) echo 'secret' ;;
broken) echo 'the vault is closed'; exit 1 ;;
quiet) echo 'on the other side' >&2; exit 3 ;;
telling) echo '{"Secret":"pw"}'; exit 1 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac"#;

#[test]
fn programs_are_asked_before_auths() {
    let dir = Dir::new();
    dir.helper("all", KEEPER);
    dir.helper("one", r#"echo "{\"Username\":\"one\",\"Secret\":\"$(cat)\"}""#);
    let text = r#"{"credsStore": "all", "credHelpers": {"h": "one", "r/team": "one", "docker.io": "one"},
        "auths": {"known": {"auth": "dTpw"}, "other": {"auth": "dTpw"}, "h": {"auth": "dTpw"}}}"#;
    let places = dir.places(&[dir.file("f", text)]);
    for (name, wanted) in [
        ("h", "one:h"),
        ("h/any", "one:h"),
        ("r/team/app", "one:r"),
        ("r/app", "none"),
        ("known/a", "me:pw"),
        ("other", "u:p"),
        ("token", "identity id"),
        ("docker.io/library/x", "one:docker.io"),
    ] {
        assert_eq!(found(&places, name), wanted, "{name}");
    }
    let hub = dir.places(&[dir.file("f", r#"{"credsStore": "all"}"#)]);
    assert_eq!(found(&hub, "docker.io/library/x"), "me:pw");
    let log = fs::read_to_string(dir.0.path().join("log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        ["get r", "get known", "get other", "get token", "get https://index.docker.io/v1/"]
    );
}

#[test]
fn a_program_that_fails_is_named_with_its_words() {
    let dir = Dir::new();
    dir.helper("all", KEEPER);
    let places = dir.places(&[dir.file("f", r#"{"credsStore": "all"}"#)]);
    for (name, wanted) in [
        ("broken", "`docker-credential-all` failed for `broken`: the vault is closed"),
        ("quiet", "`docker-credential-all` failed for `quiet`: on the other side"),
        ("telling", "`docker-credential-all` failed for `telling`: it does not say why"),
        (
            "odd",
            "`docker-credential-all` gave no login for `odd`: its answer is not JSON with Username and Secret",
        ),
    ] {
        assert_eq!(look(&places, name), Err(wanted.to_owned()));
    }
    for name in ["../x", "a/b", "", "x y"] {
        let text = format!(r#"{{"credHelpers": {{"h": "{name}"}}}}"#);
        let said = look(&dir.places(&[dir.file("f", &text)]), "h");
        let wanted = format!("`{name}` is no name of a credential helper: `credHelpers` in `");
        match name {
            "" => assert_eq!(said, Ok("none".to_owned())),
            _ => assert!(said.clone().unwrap_err().starts_with(&wanted), "{said:?}"),
        }
    }
    let gone = dir.places(&[dir.file("f", r#"{"credHelpers": {"h": "gone"}}"#)]);
    let error = look(&gone, "h").unwrap_err();
    assert!(
        error.starts_with("the credential helper `docker-credential-gone` is not in PATH: "),
        "{error}"
    );
    // docker's setting for all registries does not keep public images away.
    let gone = dir.places(&[dir.file("f", r#"{"credsStore": "gone"}"#)]);
    let looked = gone.look(&LoginTarget::parse("h").unwrap()).unwrap();
    assert!(
        looked.remarks[0].starts_with("`docker-credential-gone` of `credsStore` in `"),
        "{looked:?}"
    );
}

#[test]
fn a_program_has_bounds() {
    let dir = Dir::new();
    dir.helper(
        "endless",
        "cat >/dev/null; while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done",
    );
    dir.helper("silent", "exec sleep 1000");
    // What it leaves behind holds its pipes.
    dir.helper(
        "leaving",
        r#"sleep 1000 & echo $! > "$0.pid"; echo '{"Username":"u","Secret":"p"}'"#,
    );
    let find = |name: &str| {
        helper::Helper::find(name, &[dir.0.path().to_owned()], "here").unwrap().unwrap()
    };
    let said = |helper: helper::Helper| helper.get("h").map_err(|error| error.to_string());
    assert_eq!(
        said(find("endless")),
        Err("`docker-credential-endless` says too much: more than 256 KiB".to_owned())
    );
    let silent = said(find("silent").patient(Duration::ZERO));
    assert_eq!(
        silent,
        Err("`docker-credential-silent` gives no answer: it was ended after 0 seconds".to_owned())
    );
    let left = said(find("leaving"));
    let pid = fs::read_to_string(dir.0.path().join("docker-credential-leaving.pid")).unwrap();
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
    assert_eq!(left, Ok(Some(Login::new("u".to_owned(), "p".to_owned()))));
}

#[test]
fn targets_are_hosts_and_parts_of_them() {
    let name = |text: &str| LoginTarget::parse(text).map(|target| target.name());
    for (text, wanted) in [
        ("r.example", "r.example"),
        ("R.Example:5000/team/app", "r.example:5000/team/app"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io/library/x", "docker.io/library/x"),
        ("http://h/v2/", "h"),
        ("[::1]:5000/", "[::1]:5000"),
    ] {
        assert_eq!(name(text).unwrap(), wanted, "{text}");
    }
    for text in ["", "/a", "h/A", "h//a", "u:p@h", "https://h/a", "h/a:tag", "--x", "a b"] {
        let error = name(text).unwrap_err();
        assert_eq!(error.message(), "this is no name of a registry", "{text}");
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_login_is_written_beside_all_else() {
    let dir = Dir::new();
    let place = dir.file("f", "{\n  \"auths\": {\n    \"index.docker.io\": {\"auth\": \"old\"},\n    \"q\": {}\n  },\n  \"x\": [1,\t2]\n}\n");
    let path = place.path.clone();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let places = dir.places(std::slice::from_ref(&place));
    let target = |name: &str| LoginTarget::parse(name).unwrap();
    let saved = places.save(&place, &target("docker.io"), "u", "p").unwrap();
    assert_eq!(saved, Saved::File(path.clone()));
    assert_eq!(
        text(&path),
        "{\n  \"auths\": {\n    \"q\": {},\n    \"https://index.docker.io/v1/\": {\n      \"auth\": \"dTpw\"\n    }\n  },\n  \"x\": [1,\t2]\n}\n"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    places.save(&place, &target("h/a"), "u", "q").unwrap();
    assert_eq!(found(&places, "h/a/b"), "u:q");
    let gone = places.forget(Some(&target("h"))).unwrap();
    assert_eq!(gone, []);
    let gone = places.forget(Some(&target("h/a"))).unwrap();
    assert_eq!(gone, [Forgotten { name: "h/a".to_owned(), place: Saved::File(path.clone()) }]);
    assert_eq!(places.forget(None).unwrap().len(), 1);
    assert_eq!(text(&path), "{\n  \"auths\": {},\n  \"x\": [1,\t2]\n}\n");
    // What is damaged is not written over.
    fs::write(&path, "{").unwrap();
    assert!(places.save(&place, &target("h"), "u", "p").is_err());
    assert_eq!(text(&path), "{");
}

#[test]
fn a_new_file_and_a_link_are_written() {
    let dir = Dir::new();
    let path = dir.0.path().join("new/deep/auth.json");
    let place =
        AuthPlace { path: path.clone(), form: AuthForm::Containers, named: true, required: true };
    let places = dir.places(std::slice::from_ref(&place));
    let hub = LoginTarget::parse("index.docker.io").unwrap();
    places.save(&place, &hub, "u", "p").unwrap();
    let wanted =
        "{\n\t\"auths\": {\n\t\t\"docker.io\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t}\n}\n";
    assert_eq!(text(&path), wanted);
    let link = dir.0.path().join("link");
    std::os::unix::fs::symlink("new/deep/auth.json", &link).unwrap();
    let place = AuthPlace { path: link.clone(), ..place };
    places.save(&place, &LoginTarget::parse("h").unwrap(), "u", "p").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(text(&path).contains("\"h\": {"));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_program_keeps_and_forgets() {
    let dir = Dir::new();
    let script = r#"here=$(dirname "$0"); question=$(cat)
case "$1" in
get) [ -e "$here/kept" ] && cat "$here/kept" && exit 0; echo "credentials not found in native keychain"; exit 1 ;;
store) case "$question" in *refuse*) echo "cannot keep refuse-me"; exit 1 ;; esac; echo "$question" > "$here/kept" ;;
erase) echo "$question" >> "$here/erased"; rm -f "$here/kept" ;;
esac"#;
    dir.helper("k", script);
    let place = dir.file("f", r#"{"credsStore":"k"}"#);
    let places = dir.places(std::slice::from_ref(&place));
    let target = LoginTarget::parse("h").unwrap();
    let saved = places.save(&place, &target, "u", "p").unwrap();
    assert_eq!(saved, Saved::Helper("`docker-credential-k`".to_owned()));
    assert_eq!(text(&place.path), r#"{"credsStore":"k","auths":{"h":{}}}"#);
    assert_eq!(
        text(&dir.0.path().join("kept")),
        "{\"ServerURL\":\"h\",\"Username\":\"u\",\"Secret\":\"p\"}\n"
    );
    assert_eq!(found(&places, "h/a"), "u:p");
    let error = places.save(&place, &target, "u", "refuse-me").unwrap_err();
    assert_eq!(error.to_string(), "`docker-credential-k` failed for `h`: cannot keep ***");
    // A part of the registry is not the registry.
    let part = LoginTarget::parse("h/a").unwrap();
    let error = places.save(&place, &part, "other", "q").unwrap_err();
    assert_eq!(
        error.message(),
        "`docker-credential-k` keeps logins for registries, not for parts of them"
    );
    assert_eq!(places.forget(Some(&part)).unwrap(), []);
    assert_eq!(found(&places, "h"), "u:p");
    let gone = places.forget(None).unwrap();
    assert_eq!(gone, [Forgotten { name: "h".to_owned(), place: saved }]);
    assert_eq!(text(&place.path), r#"{"credsStore":"k","auths":{}}"#);
    assert_eq!(found(&places, "h"), "none");
    assert_eq!(places.forget(Some(&target)).unwrap(), []);
}
