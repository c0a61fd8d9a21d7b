//! A token service on loopback whose tokens Debian's docker-registry verifies, and a log of what it was asked.

use super::registry::{LOGIN, Registry};
use super::{Said, World};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// What an identity token is here.
pub const IDENTITY: &str = "identity/token+1";

/// A question to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub method: String,
    /// With the query.
    pub path: String,
    pub authorization: String,
    pub body: String,
}

/// The service; it ends with the test's process.
pub struct Tokens {
    address: String,
    log: Arc<Mutex<Vec<Question>>>,
}

struct Signer {
    key: RsaKeyPair,
    /// The certificate, DER in base64.
    certificate: String,
}

impl Tokens {
    /// The service, and a registry that believes it.
    pub fn start(world: &World) -> (Self, Registry) {
        let file = |name: &str| world.path(name).to_str().unwrap().to_owned();
        let (key, certificate) = (file("token.key"), file("token.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=tokens", "-keyout", &key, "-out", &certificate]);
        Said::of(openssl.output().unwrap()).ok();
        let signer = Signer {
            key: RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(pem(&key)).unwrap()).unwrap(),
            certificate: pem(&certificate),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::<Mutex<Vec<Question>>>::default();
        let noted = Arc::clone(&log);
        let signer = Arc::new(signer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (signer, noted) = (Arc::clone(&signer), Arc::clone(&noted));
                std::thread::spawn(move || while serve(&stream, &signer, &noted).is_some() {});
            }
        });
        let yaml = format!(
            "http: {{addr: '127.0.0.1:0'}}\n\
             auth: {{token: {{realm: 'http://{address}/token', service: the-service, issuer: the-issuer, rootcertbundle: {certificate}}}}}\n"
        );
        let registry = Registry::with(world, "token-registry", &yaml);
        world.give();
        (Self { address, log }, registry)
    }

    /// All questions so far, and forgets them.
    pub fn log(&self) -> Vec<Question> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

/// What stands between the marks of a PEM file.
fn pem(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn serve(mut stream: &TcpStream, signer: &Signer, log: &Mutex<Vec<Question>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => value.clone_into(&mut authorization),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let question = Question { method, path, authorization, body };
    log.lock().unwrap().push(question.clone());
    let (status, answer) = answer(&question, signer);
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
    stream.write_all((head + &answer).as_bytes()).ok()
}

/// Everybody gets a token; only who is known gets one that is good for something.
fn answer(question: &Question, signer: &Signer) -> (u16, Value) {
    let known = format!("Basic {}", BASE64_STANDARD.encode(LOGIN));
    let query = match question.method.as_str() {
        "POST" => question.body.as_str(),
        _ => question.path.split_once('?').map_or("", |(_, query)| query),
    };
    let fields: Vec<(String, String)> = query.split('&').filter_map(decoded).collect();
    let all = |name: &str| {
        let found = fields.iter().filter(|(known, _)| known == name);
        found.flat_map(|(_, value)| value.split(' ')).map(str::to_owned).collect::<Vec<_>>()
    };
    let good = match question.method.as_str() {
        "POST" => {
            if all("refresh_token") != [IDENTITY] {
                let words = json!({"error": "invalid_grant", "error_description": "no such token"});
                return (400, words);
            }
            true
        }
        _ if question.authorization.is_empty() => false,
        _ if question.authorization == known => true,
        _ => return (401, json!({"details": "incorrect username or password"})),
    };
    let access: Vec<Value> = all("scope")
        .iter()
        .filter_map(|scope| {
            let [kind, name, actions] = scope.split(':').collect::<Vec<_>>()[..] else {
                return None;
            };
            let actions: Vec<&str> = actions.split(',').filter(|_| good).collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        })
        .collect();
    let service = all("service").join("");
    (200, json!({"token": signer.token(&service, &access)}))
}

fn decoded(field: &str) -> Option<(String, String)> {
    let (name, value) = field.split_once('=')?;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    Some((name.to_owned(), String::from_utf8(bytes).ok()?))
}

impl Signer {
    /// RFC 7519, with RS256.
    fn token(&self, service: &str, access: &[Value]) -> String {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": "the-issuer", "sub": "me", "aud": service, "jti": "1",
            "nbf": now - 60, "iat": now, "exp": now + 600, "access": access,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .unwrap();
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}
