//! Against a real registry and what another tool pushed into it.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Debian's registry on a port of its choice; killed when dropped.
struct Peer {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Peer {
    fn start() -> std::io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text)?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = log.lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split('"').next()?.trim().to_owned())
            })
            .unwrap_or_default();
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, host, _dir: dir })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "which tools must be here is told to tests this way")]
fn peers_required() -> bool {
    std::env::var("NATIVEBUILD_REQUIRE").is_ok_and(|all| all.contains("peers"))
}

#[test]
fn a_real_registry_gives_what_skopeo_pushed() {
    let skopeo = Command::new("skopeo").arg("--version").output();
    let (Ok(peer), Ok(_)) = (Peer::start(), skopeo) else {
        assert!(!peers_required(), "docker-registry or skopeo is missing");
        eprintln!("SKIPPED: docker-registry or skopeo is missing");
        return;
    };
    let source = tempfile::tempdir().unwrap();
    let layout = Layout::create(source.path().join("layout")).unwrap();
    let layer = flat_tar();
    let put = |bytes: &[u8], media_type: &str| {
        let digest = layout.put_blob(bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": put(config.to_string().as_bytes(), OCI_CONFIG), "layers": [put(&layer, OCI_LAYER)]});
    let manifest = on(put(manifest.to_string().as_bytes(), OCI_MANIFEST), "linux", "amd64");
    let mut named = manifest.clone();
    named["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [named]}).to_string();
    std::fs::write(layout.root().join("index.json"), index).unwrap();

    let name = format!("{}/some/app:1", peer.host);
    let pushed = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--preserve-digests"])
        .arg("--dest-tls-verify=false")
        .env("HOME", source.path())
        .env_remove("XDG_RUNTIME_DIR")
        .arg(format!("oci:{}:1", layout.root().display()))
        .arg(format!("docker://{name}"))
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));

    let client = Client::new();
    let pulled = client.pull_as(&name, &amd64()).unwrap();
    assert_eq!(pulled.image.digest().to_string(), manifest["digest"].as_str().unwrap());
    assert_eq!(client.head(&name).unwrap().unwrap().as_str(), manifest["digest"].as_str().unwrap());
    let stored = std::fs::read(client.layout.blob_path(&Digest::of(&layer))).unwrap();
    assert_eq!(stored, layer);
    let missing = format!("{}/some/app:2", peer.host);
    assert_eq!(client.head(&missing).unwrap(), None);
    assert_eq!(client.pull(&missing).unwrap_err().trouble(), Trouble::NotFound);
    let digest = manifest["digest"].as_str().unwrap();
    client.pull(&format!("{}/some/app@{digest}", peer.host)).unwrap();
}

/// `openssl s_server` with a certificate that nobody vouches for.
fn untrusted(dir: &std::path::Path) -> std::io::Result<(Child, String)> {
    let (key, certificate) = (dir.join("key"), dir.join("cert"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut child = Command::new("openssl")
        .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned()));
    std::thread::spawn(move || lines.for_each(drop));
    Ok((child, format!("localhost:{}", port.unwrap_or_default())))
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Ok((mut child, host)) = untrusted(dir.path()) else {
        assert!(!peers_required(), "openssl is missing");
        eprintln!("SKIPPED: openssl is missing");
        return;
    };
    let error = Client::new().head(&format!("{host}/app:1"));
    child.kill().unwrap();
    child.wait().unwrap();
    let error = error.unwrap_err();
    assert_eq!(error.trouble(), Trouble::Unreachable, "{error:?}");
    let error = error.into_error();
    let said = format!("registry `{host}` shows a certificate that it signed itself");
    let cause = format!(
        "HEAD https://{host}/v2/app/manifests/1: nobody vouches for the certificate of `CN=localhost`"
    );
    assert_eq!(error.causes(), [said, cause], "{error:?}");
    assert!(error.hints()[0].contains(&format!("/etc/docker/certs.d/{host}/ca.crt")), "{error:?}");
}

/// A tar with one file in it.
fn flat_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "file", &b"hello"[..]).unwrap();
    tar.into_inner().unwrap()
}
