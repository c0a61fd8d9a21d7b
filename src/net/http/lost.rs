//! Requests without an answer: why, and whether another attempt may do better.

use super::ask::{Ask, Plain};
use crate::error::Error;
use crate::net::failure::{NetError, Trouble, io_text, printable};
use crate::net::tls::TlsTrouble;
use crate::net::url::Url;
use std::io;
use ureq::{Proxy, Timeout};

/// A request without an answer.
pub(in crate::net) struct Lost {
    /// Another attempt may do better.
    pub(in crate::net) again: bool,
    /// The other side speaks TLS, and certificates are the trouble.
    pub(in crate::net) about_certificates: bool,
    pub(in crate::net) error: NetError,
    /// In a few words.
    pub(super) why: String,
}

impl Lost {
    pub(super) fn fatal(trouble: Trouble, error: Error) -> Self {
        Self::for_good(NetError::new(trouble, error))
    }

    /// Another attempt does no better.
    pub(super) fn for_good(error: NetError) -> Self {
        Self { again: false, about_certificates: false, error, why: String::new() }
    }
}

pub(super) fn lost(ask: &Ask<'_>, url: &Url, proxy: Option<&Proxy>, error: ureq::Error) -> Lost {
    use ureq::Error as E;
    let silent = matches!(error, E::Timeout(_));
    let (again, why) = match error {
        // TLS that cannot be agreed on is invalid data.
        E::Io(error) => match io_failure(ask, url, error) {
            Ok(lost) => return lost,
            // It is the proxy's address that is looked up here.
            Err(error) => match unresolved(&error, proxy.map_or(url.host(), Proxy::host)) {
                Some(why) => (false, why),
                None => (
                    !matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::NetworkUnreachable
                            | io::ErrorKind::HostUnreachable
                            | io::ErrorKind::InvalidData
                    ),
                    io_text(&error),
                ),
            },
        },
        E::ConnectProxyFailed(said) if said.contains("407") && proxy.is_some() => {
            return proxy.map(|proxy| proxy_refuses(ask, url, proxy)).expect("there is one");
        }
        E::Timeout(Timeout::Resolve | Timeout::Connect) => {
            (false, "no connection in time".to_owned())
        }
        E::Timeout(_) => (true, "no answer in time".to_owned()),
        E::HostNotFound => {
            (false, format!("there is no host `{}`", proxy.map_or(url.host(), Proxy::host)))
        }
        E::Protocol(_) | E::LargeResponseHeader(..) => {
            let message = format!("{} does not speak http", ask.whom);
            let cause = format!("{} {url}: {}", ask.method, printable(&error.to_string(), 200));
            return Lost::fatal(Trouble::Broken, Error::registry(message).cause(cause));
        }
        other => (false, printable(&other.to_string(), 200).to_lowercase()),
    };
    let why = match proxy {
        // Without its name and password.
        Some(proxy) => {
            format!("{why}, on the way through the proxy `{}:{}`", proxy.host(), proxy.port())
        }
        None => why,
    };
    let error = NetError::unreachable(ask.whom, ask.method, url, &why).silence(silent);
    Lost { again, about_certificates: false, error, why }
}

/// A proxy that wants to know who asks.
pub(super) fn proxy_refuses(ask: &Ask<'_>, url: &Url, proxy: &Proxy) -> Lost {
    let error = Error::registry(format!("{} cannot be reached", ask.whom))
        .cause(format!(
            "{} {url}: status 407, from the proxy `{}:{}`",
            ask.method,
            proxy.host(),
            proxy.port()
        ))
        .hint("write the name and the password that it wants in front of its host: `http://USER:PASSWORD@HOST:PORT`");
    Lost::fatal(Trouble::Unreachable, error)
}

/// Why there is no address for a name. The system's resolver has asked more than once, so nobody asks again.
fn unresolved(error: &io::Error, host: &str) -> Option<String> {
    // The standard library has no kind for it.
    let text = io_text(error);
    let reason = text.strip_prefix("failed to lookup address information: ")?;
    Some(match reason {
        "name or service not known" | "no address associated with hostname" => {
            format!("there is no host `{host}`")
        }
        reason => format!("the address of `{host}` cannot be looked up: {reason}"),
    })
}

/// A failure of ours that came through a connection, or one of TLS; else the error itself.
fn io_failure(ask: &Ask<'_>, url: &Url, error: io::Error) -> Result<Lost, io::Error> {
    let error = match error.downcast::<NetError>() {
        Ok(ours) => {
            return Ok(Lost {
                again: false,
                about_certificates: true,
                error: ours,
                why: String::new(),
            });
        }
        Err(error) => error,
    };
    let trouble = error.downcast::<TlsTrouble>()?;
    // The directories are for registries; a file is fetched from any host.
    let hint = match ask.plain {
        Plain::Anywhere if trouble.hint.contains("certs.d") => {
            "if it is the right one, name the file of its authority with `--tls-ca`, or in SSL_CERT_FILE".to_owned()
        }
        _ => trouble.hint,
    };
    let error = Error::registry(format!("{} {}", ask.whom, trouble.what))
        .cause(format!("{} {url}: {}", ask.method, trouble.cause))
        .hint(hint);
    let error = NetError::new(Trouble::Unreachable, error);
    Ok(Lost { again: false, about_certificates: true, error, why: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http::Payload;

    #[test]
    fn a_host_without_an_address_is_not_asked_for_again() {
        let url = Url::parse("https://r.example:5000/v2/").unwrap();
        let why = |text: &str| {
            let text = format!("failed to lookup address information: {text}");
            unresolved(&io::Error::other(text), url.host())
        };
        let none = Some("there is no host `r.example`".to_owned());
        assert_eq!(why("Name or service not known"), none);
        assert_eq!(why("No address associated with hostname"), none);
        assert_eq!(
            why("Temporary failure in name resolution").unwrap(),
            "the address of `r.example` cannot be looked up: temporary failure in name resolution"
        );
        assert_eq!(unresolved(&io::ErrorKind::ConnectionReset.into(), url.host()), None);
        let fetch = Ask {
            whom: "registry `r.example`",
            method: "GET",
            url: url.clone(),
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            authorization: None,
            plain: Plain::Never,
        };
        let gone = "failed to lookup address information: Name or service not known";
        assert!(!lost(&fetch, &url, None, ureq::Error::Io(io::Error::other(gone))).again);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(lost(&fetch, &url, None, ureq::Error::Io(reset)).again);
    }
}
