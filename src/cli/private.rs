//! `--secret` and `--ssh`: words of the command line → secrets and agents, read at once.

use super::environment::Environment;
use crate::build::request::Secret;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::AgentSource;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The largest secret, in bytes; BuildKit's limit.
const LARGEST: u64 = 500 * 1024;

/// Reads the secrets of `--secret id=NAME[,src=FILE|,env=VARIABLE]`.
pub(super) fn secrets(words: &[String], environment: &Environment) -> Result<Vec<Secret>> {
    words.iter().map(|word| secret(word, environment)).collect()
}

fn secret(word: &str, environment: &Environment) -> Result<Secret> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in word.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(bad_secret(word, format!("`{field}` is no `KEY=VALUE`")));
        };
        let place = match key.to_ascii_lowercase().as_str() {
            "id" => &mut id,
            "src" | "source" => &mut file,
            "env" => &mut variable,
            "type" => &mut kind,
            _ => return Err(bad_secret(word, format!("unexpected key `{key}`"))),
        };
        *place = Some(value);
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(bad_secret(word, "it has no id".to_owned()));
    };
    // `type=env,src=NAME` is another spelling; without anything the id names a variable or a file.
    let (file, variable) = match (kind, file, variable) {
        (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => {
            (None, Some(name))
        }
        (None | Some("file" | "env"), None, None) => match environment.get(id) {
            Some(_) => (None, Some(id)),
            None => (Some(id), None),
        },
        (None | Some("file"), Some(file), None) => (Some(file), None),
        (Some("file" | "env") | None, ..) => {
            return Err(bad_secret(word, "a secret has one source".to_owned()));
        }
        (Some(kind), ..) => return Err(bad_secret(word, format!("unsupported type `{kind}`"))),
    };
    let content = match (variable, file) {
        (Some(name), _) => {
            let value = environment.get(name).map(OsStringExt::into_vec);
            value.ok_or_else(|| bad_secret(word, format!("there is no variable `{name}`")))?
        }
        (None, file) => read(id, Path::new(file.unwrap_or(id)))?,
    };
    Ok(Secret { id: id.to_owned(), content: content.into() })
}

fn bad_secret(word: &str, why: String) -> Error {
    // What stands behind the keys are names, never a secret.
    Error::usage(format!("invalid secret `{word}`"))
        .cause(why)
        .hint("write `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`")
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>> {
    let what = || format!("cannot read the secret `{id}` from `{}`", path.display());
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content))
        .or_error(ErrorKind::Usage, what)?;
    if content.len() as u64 > LARGEST {
        return Err(Error::usage(what()).cause(format!("it is larger than {} KiB", LARGEST >> 10)));
    }
    Ok(content)
}

/// Reads `--ssh ID[=PATH[,PATH]]`: the socket of an agent, or files with keys; without a path SSH_AUTH_SOCK.
pub(super) fn agents(words: &[String], environment: &Environment) -> Result<Vec<AgentSource>> {
    words.iter().map(|word| agent(word, environment)).collect()
}

fn agent(word: &str, environment: &Environment) -> Result<AgentSource> {
    let (id, paths) = word.split_once('=').unwrap_or((word, ""));
    let id = if id.is_empty() { "default" } else { id };
    let paths: Vec<PathBuf> =
        paths.split(',').filter(|path| !path.is_empty()).map(Into::into).collect();
    let [first, ..] = &paths[..] else {
        let socket = environment.get("SSH_AUTH_SOCK").map(PathBuf::from);
        return socket.map(|socket| AgentSource::socket(id, socket)).ok_or_else(|| {
            Error::usage(format!("`--ssh {word}` names no agent and SSH_AUTH_SOCK is not set"))
                .hint("start one with `eval $(ssh-agent)`, or name a key: `--ssh default=FILE`")
        });
    };
    let found = std::fs::metadata(first)
        .or_error(ErrorKind::Usage, || format!("cannot use `--ssh {word}`"))?;
    match (found.file_type().is_socket(), paths.len()) {
        (true, 1) => Ok(AgentSource::socket(id, first.clone())),
        (true, _) => {
            Err(Error::usage(format!("`--ssh {word}` mixes the socket of an agent with others"))
                .hint("one id is one agent, or files with keys"))
        }
        (false, _) => AgentSource::keys(id, &paths),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::of(&[("TOKEN", "t0p"), ("SSH_AUTH_SOCK", "/agent")])
    }

    fn said(word: &str) -> std::result::Result<(String, String), String> {
        let secret = secret(word, &environment()).map_err(|error| error.to_string())?;
        Ok((secret.id, String::from_utf8(secret.content.to_vec()).unwrap()))
    }

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s");
        std::fs::write(&file, "in the file").unwrap();
        let path = file.to_str().unwrap();
        let pair = |id: &str, content: &str| Ok((id.to_owned(), content.to_owned()));
        for (word, wanted) in [
            (format!("id=a,src={path}"), pair("a", "in the file")),
            (format!("type=file,id=a,source={path}"), pair("a", "in the file")),
            (format!("id={path}"), pair(path, "in the file")),
            ("id=a,env=TOKEN".to_owned(), pair("a", "t0p")),
            ("id=a,type=env,src=TOKEN".to_owned(), pair("a", "t0p")),
            ("id=TOKEN".to_owned(), pair("TOKEN", "t0p")),
        ] {
            assert_eq!(said(&word), wanted, "{word}");
        }
        for (word, why) in [
            ("a", "`a` is no `KEY=VALUE`"),
            ("src=x", "it has no id"),
            ("id=a,foo=x", "unexpected key `foo`"),
            ("id=a,env=GONE", "there is no variable `GONE`"),
            ("id=a,src=x,env=y", "a secret has one source"),
            ("id=a,type=tape", "unsupported type `tape`"),
        ] {
            assert_eq!(said(word), Err(format!("invalid secret `{word}`: {why}")));
        }
        std::fs::write(&file, vec![b'x'; 512_001]).unwrap();
        assert!(said(&format!("id=a,src={path}")).unwrap_err().contains("larger than 500 KiB"));
    }

    #[test]
    fn an_agent_is_a_socket_or_keys() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let path = socket.to_str().unwrap();
        let said = |word: &str| agent(word, &environment()).map_err(|error| error.to_string());
        assert_eq!(said("default").unwrap().id, "default");
        assert_eq!(said(&format!("work={path}")).unwrap().id, "work");
        assert!(said(&format!("a={path},{path}")).unwrap_err().contains("mixes"));
        assert!(said("a=/nonexistent").unwrap_err().contains("cannot use `--ssh a=/nonexistent`"));
        let none = agent("x", &Environment::of(&[])).unwrap_err().to_string();
        assert_eq!(none, "`--ssh x` names no agent and SSH_AUTH_SOCK is not set");
    }
}
