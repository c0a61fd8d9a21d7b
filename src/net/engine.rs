//! Hands an image to a running container engine: Docker's Engine API on a Unix socket, which podman speaks as well.
//!
//! In: the sockets to try and something that writes a docker archive; out: the names under which the engine has the
//! image. The engine is found before a build begins and asked again when there is something to load; the archive goes
//! out while it is made. Nothing is believed but an answer that says what was loaded; answers are read to a limit, and
//! redirects are not followed. Engine API v1.24 and later: `GET /_ping`, `POST /images/load`.

use super::failure::{io_text, printable};
use super::unix::UnixSocket;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use serde::Deserialize;
use std::fmt;
use std::io::{self, BufWriter, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::{Request, Response};
use ureq::{Agent, Body, SendBody};

/// Unpacking a large image is done without a word.
const SILENCE: Duration = Duration::from_mins(30);
/// Answers are read this far.
const MAX_ANSWER: u64 = 1 << 20;
/// Of an engine's words, in characters.
const MAX_WORDS: usize = 500;

/// Where an engine may listen; `cli` takes it from the environment.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Sockets, in the order in which they are tried.
    pub sockets: Vec<PathBuf>,
    /// The variable that names the only socket, when there is one.
    pub variable: Option<&'static str>,
    /// How long one of them may take to say that it is there.
    pub patience: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { sockets: Vec::new(), variable: None, patience: Duration::from_secs(15) }
    }
}

/// An engine that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    name: &'static str,
    socket: PathBuf,
    patience: Duration,
}

/// For example `docker (unix:///var/run/docker.sock)`.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, address(&self.socket))
    }
}

impl Engine {
    /// The first engine that answers.
    pub fn find(config: &EngineConfig) -> Result<Self> {
        let mut error = Error::environment(match config.variable {
            Some(variable) => format!("the engine that {variable} names does not answer"),
            None => "no container engine answers".to_owned(),
        });
        for socket in &config.sockets {
            match ping(socket, config.patience) {
                Ok(name) => {
                    let (socket, patience) = (socket.clone(), config.patience);
                    return Ok(Self { name, socket, patience });
                }
                Err(why) => error = error.cause(format!("{}: {why}", address(socket))),
            }
        }
        Err(error.hint(
            "start dockerd or `podman system service`, or write a file for `docker load` with `-o type=docker,dest=FILE`",
        ))
    }

    /// Loads what `produce` writes, a docker archive, and gives the names, or the id of an image without any, that the
    /// engine now has it under. `stop` ends the waiting when it can be read or is closed on its other side.
    pub fn load(
        &self,
        stop: Option<OwnedFd>,
        produce: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    ) -> Result<Vec<String>> {
        let what = || format!("cannot load the image into {self}");
        let (pipe, writer) = io::pipe().or_error(ErrorKind::Environment, what)?;
        let socket = UnixSocket::new(&self.socket).stopped_by(stop);
        let deaf = socket.deaf();
        std::thread::scope(|scope| {
            let producer = std::thread::Builder::new().name("archive".to_owned());
            let producer = producer
                .spawn_scoped(scope, move || {
                    let mut out = BufWriter::with_capacity(64 << 10, writer);
                    produce(&mut out)?;
                    out.flush()
                        .or_error(ErrorKind::Environment, || "cannot write the archive".to_owned())
                })
                .or_error(ErrorKind::Environment, what)?;
            let mut archive = Archive { pipe, producer: Some(producer), deaf, failure: None };
            let answer = send_archive(&socket.agent(config(self.patience, None)), &mut archive);
            match archive.failure {
                // Of this side; the engine only saw that the archive broke off.
                Some(failure) => Err(failure),
                None => answer.and_then(read_answer).map_err(|error| error.wrap(what())),
            }
        })
    }
}

/// As DOCKER_HOST has it.
fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// What kind of engine listens on a socket; else why not.
fn ping(socket: &Path, patience: Duration) -> std::result::Result<&'static str, String> {
    let agent = UnixSocket::new(socket).agent(config(patience, Some(patience)));
    let request = Request::get("http://localhost/_ping").body(());
    let request = request.map_err(|error| error.to_string())?;
    let response = agent.run(request).map_err(|error| reason(&error))?;
    match response.status().as_u16() {
        200 if response.headers().contains_key("libpod-api-version") => Ok("podman"),
        200 => Ok("docker"),
        status => Err(format!("GET /_ping: status {status}{}", words(response))),
    }
}

fn send_archive(agent: &Agent, archive: &mut Archive<'_>) -> Result<Response<Body>> {
    let request = Request::post("http://localhost/images/load?quiet=1")
        .header("content-type", "application/x-tar")
        .body(SendBody::from_reader(archive))
        .map_err(|error| Error::internal("a request that cannot be sent").cause(error))?;
    agent.run(request).map_err(|error| Error::environment(reason(&error)))
}

/// What was loaded, out of a stream of JSON values.
fn read_answer(response: Response<Body>) -> Result<Vec<String>> {
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Error::environment(format!("status {status}{}", words(response))));
    }
    let mut answer = Vec::new();
    let body = response.into_body().into_reader();
    body.take(MAX_ANSWER + 1)
        .read_to_end(&mut answer)
        .map_err(|error| Error::environment("the answer broke off").cause(io_text(&error)))?;
    if answer.len() as u64 > MAX_ANSWER {
        return Err(Error::environment(format!("the answer is longer than {MAX_ANSWER} bytes")));
    }
    let mut loaded = Vec::new();
    for line in serde_json::Deserializer::from_slice(&answer).into_iter::<Line>() {
        let line = line.map_err(|error| {
            let said = printable(&String::from_utf8_lossy(&answer), 100);
            Error::environment("the answer is not an engine's").cause(error).cause(said)
        })?;
        let detail = line.detail.and_then(|detail| detail.message);
        if let Some(message) = detail.or(line.error) {
            return Err(Error::environment(printable(&message, MAX_WORDS)));
        }
        loaded.extend(line.stream.iter().flat_map(|text| loaded_names(text)));
    }
    if loaded.is_empty() {
        return Err(Error::environment("the answer does not say what was loaded"));
    }
    Ok(loaded)
}

/// Names in `Loaded image: NAME` or `Loaded image ID: sha256:…`; podman puts several into one line.
fn loaded_names(text: &str) -> Vec<String> {
    let names = ["Loaded image: ", "Loaded image ID: "].iter().find_map(|x| text.strip_prefix(x));
    let names = names.into_iter().flat_map(|names| names.split(','));
    names.map(|name| printable(name, MAX_WORDS)).filter(|name| !name.is_empty()).collect()
}

/// A message of the stream. Other members are progress.
#[derive(Deserialize)]
struct Line {
    stream: Option<String>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    detail: Option<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    message: Option<String>,
}

/// The engine's own words in the body of a refusal, behind a colon.
fn words(response: Response<Body>) -> String {
    let mut body = Vec::new();
    // What could be read is enough; the words are only a courtesy.
    let _ignored = response.into_body().into_reader().take(MAX_ANSWER).read_to_end(&mut body);
    let message = serde_json::from_slice::<Detail>(&body).ok().and_then(|body| body.message);
    message.map_or_else(String::new, |message| format!(": {}", printable(&message, MAX_WORDS)))
}

/// Why there is no answer.
fn reason(error: &ureq::Error) -> String {
    use ureq::Error as E;
    match error {
        E::Io(error) => match error.kind() {
            // Which of them depends on how far both sides were.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the connection was closed without an answer".to_owned()
            }
            _ => io_text(error),
        },
        E::Timeout(_) => "no answer in time".to_owned(),
        E::Protocol(_) | E::LargeResponseHeader(..) => "the answer is not http".to_owned(),
        other => printable(&other.to_string(), 200).to_lowercase(),
    }
}

/// `patience` is for the connection, `limit` for the whole of a request; silence is limited in any case.
fn config(patience: Duration, limit: Option<Duration>) -> Config {
    Agent::config_builder()
        // Set also when `None`: the default is taken from the environment.
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("nativebuild/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .accept_encoding("")
        .timeout_global(limit)
        .timeout_connect(Some(patience))
        .timeout_per_write(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build()
}

/// The archive on its way from the thread that writes it. It only ends well when that thread did: an engine must not
/// take a part for the whole.
struct Archive<'scope> {
    pipe: PipeReader,
    producer: Option<ScopedJoinHandle<'scope, Result<()>>>,
    deaf: Arc<AtomicBool>,
    failure: Option<Error>,
}

impl Read for Archive<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.deaf.load(Ordering::SeqCst) {
            return Ok(0);
        }
        let count = self.pipe.read(buf)?;
        if count > 0 || buf.is_empty() {
            return Ok(count);
        }
        let result = self.producer.take().map_or(Ok(Ok(())), ScopedJoinHandle::join);
        match result.unwrap_or_else(|_| Err(Error::internal("the writing thread stopped"))) {
            Ok(()) => Ok(0),
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the archive could not be made"))
            }
        }
    }
}
