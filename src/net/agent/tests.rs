//! The agent, with OpenSSH's own programs as its clients.

use super::*;
use std::process::Command;

/// Runs a program of OpenSSH with our socket; false when it is not installed.
fn ssh(program: &str, socket: &Path, args: &[&str]) -> Option<(bool, String)> {
    let done =
        Command::new(program).args(args).env_clear().env("SSH_AUTH_SOCK", socket).output().ok()?;
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    Some((done.status.success(), text.into_owned()))
}

fn generate(dir: &Path, name: &str, args: &[&str]) -> Option<PathBuf> {
    let key = dir.join(name);
    let done = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", name, "-f"])
        .arg(&key)
        .args(args)
        .output()
        .ok()?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(key)
}

const KINDS: [(&str, &[&str]); 6] = [
    ("ed25519", &["-t", "ed25519"]),
    ("p256", &["-t", "ecdsa", "-b", "256"]),
    ("p384", &["-t", "ecdsa", "-b", "384"]),
    ("rsa", &["-t", "rsa", "-b", "2048"]),
    ("rsa-pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
    ("rsa-pkcs8", &["-t", "rsa", "-b", "3072", "-m", "PKCS8"]),
];

/// Lists and signs by OpenSSH's own client, which checks the signature with the public key.
#[test]
fn openssh_takes_our_signatures_with_keys_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (name, args) in KINDS {
        let Some(key) = generate(dir.path(), name, args) else { return };
        files.push(key);
    }
    let source = AgentSource::keys("default", &files).unwrap();
    let socket = dir.path().join("agent");
    let _serving = source.serve(UnixListener::bind(&socket).unwrap()).unwrap();
    let Some((_, listed)) = ssh("ssh-add", &socket, &["-L"]) else { return };
    for file in &files {
        let public = file.with_extension("pub");
        let line = std::fs::read_to_string(&public).unwrap();
        let key = line.split(' ').nth(1).unwrap();
        assert!(listed.contains(key), "{file:?}\n{listed}");
        let text = file.with_extension("txt");
        std::fs::write(&text, "words").unwrap();
        // A public key is all that the client has: the agent signs.
        std::fs::remove_file(file).unwrap();
        let sign =
            ["-Y", "sign", "-n", "x", "-f", public.to_str().unwrap(), text.to_str().unwrap()];
        let (signed, said) = ssh("ssh-keygen", &socket, &sign).unwrap();
        assert!(signed, "{file:?}: {said}");
        let checked = Command::new("ssh-keygen")
            .args(["-Y", "check-novalidate", "-n", "x", "-s"])
            .arg(file.with_extension("txt.sig"))
            .stdin(std::fs::File::open(text).unwrap())
            .status();
        assert!(checked.unwrap().success(), "{file:?}");
    }
    // Whatever changes the agent is refused.
    for args in [&["-D"][..], &["-x"]] {
        assert!(!ssh("ssh-add", &socket, args).unwrap().0, "{args:?}");
    }
    let other = generate(dir.path(), "other", KINDS[0].1).unwrap();
    let (added, _) = ssh("ssh-add", &socket, &[other.to_str().unwrap()]).unwrap();
    assert!(!added);
}

/// Through us to an agent: the questions that a RUN may ask arrive, the others do not.
#[test]
fn only_listing_and_signing_reach_the_users_agent() {
    let dir = tempfile::tempdir().unwrap();
    let Some(key) = generate(dir.path(), "key", KINDS[0].1) else { return };
    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    let inner = AgentSource::keys("x", std::slice::from_ref(&key)).unwrap();
    let _agent = inner.serve(UnixListener::bind(&theirs).unwrap()).unwrap();
    let source = AgentSource::socket("default", theirs);
    let _serving = source.serve(UnixListener::bind(&ours).unwrap()).unwrap();
    let Some((listed, _)) = ssh("ssh-add", &ours, &["-l"]) else { return };
    assert!(listed);
    let public = key.with_extension("pub");
    assert!(ssh("ssh-add", &ours, &["-T", public.to_str().unwrap()]).unwrap().0);
    assert!(!ssh("ssh-add", &ours, &["-D"]).unwrap().0);
}

#[test]
fn an_agent_that_is_gone_is_a_refusal_and_no_hang() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let source = AgentSource::socket("default", dir.path().join("gone"));
    let serving = source.serve(UnixListener::bind(&ours).unwrap()).unwrap();
    let mut client = UnixStream::connect(&ours).unwrap();
    for question in [vec![REQUEST_IDENTITIES], vec![17, 0], Vec::new(), vec![SIGN_REQUEST, 0, 0]] {
        write_message(&mut client, &question).unwrap();
        assert_eq!(read_message(&mut client).unwrap().unwrap(), [FAILURE], "{question:?}");
    }
    // Longer than any message may be: the connection ends.
    client.write_all(&[0xff; 8]).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0);
    drop(serving);
}

#[test]
fn what_is_no_key_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        AgentSource::keys("x", std::slice::from_ref(&file)).unwrap_err().causes().join("; ")
    };
    let pem = |label: &str, body: &str| {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    assert_eq!(said("ssh-ed25519 AAAA me"), "it is no private key in PEM form");
    assert_eq!(said(&pem("OPENSSH PRIVATE KEY", "AAAA")), "its form is damaged");
    assert_eq!(said(&pem("EC PRIVATE KEY", "AAAA")), "keys of its kind are not known here");
    assert_eq!(said(&pem("ENCRYPTED PRIVATE KEY", "AAAA")), "it has a passphrase");
    let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA";
    assert_eq!(said(&pem("RSA PRIVATE KEY", old)), "it has a passphrase");
    if let Some(key) = generate(dir.path(), "locked", &["-t", "ed25519"]) {
        let done = Command::new("ssh-keygen")
            .args(["-q", "-p", "-P", "", "-N", "secret", "-f"])
            .arg(&key)
            .output();
        assert!(done.unwrap().status.success());
        assert_eq!(said(&std::fs::read_to_string(key).unwrap()), "it has a passphrase");
    }
}
