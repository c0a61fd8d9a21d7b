//! Plain http through an http proxy: the proxy is asked for the whole address (RFC 9112 §3.2.2), since many proxies make
//! tunnels (CONNECT) to port 443 only.
//!
//! In: requests as they would be sent to the server itself; out: the same with the absolute form in their first line, and
//! with the proxy's name and password. Answers pass as they are.

use crate::net::tls::TlsConnector;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, TcpConnector, Transport,
};
use ureq::{Error, Proxy};

/// Connects to the proxy in the place of any server.
#[derive(Debug)]
pub(super) struct ForwardConnector {
    proxy: Proxy,
    tls: TlsConnector,
}

impl ForwardConnector {
    pub(super) fn new(proxy: Proxy, tls: TlsConnector) -> Self {
        Self { proxy, tls }
    }

    /// Value of Proxy-Authorization.
    fn authorization(&self) -> Option<String> {
        let (user, password) = (self.proxy.username(), self.proxy.password());
        user.or(password)?;
        let pair = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
        Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }
}

impl<In: Transport> Connector<In> for ForwardConnector {
    type Out = Either<In, Forwarded>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let uri = self.proxy.uri();
        let to_proxy = ConnectionDetails {
            uri,
            addrs: details.resolver.resolve(uri, details.config, details.timeout)?,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let below = TcpConnector::default().connect(&to_proxy, None::<()>)?;
        let below = self.tls.connect(&to_proxy, below)?;
        let authority = details.uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(below.map(|below| {
            Either::B(Forwarded {
                below: below.boxed(),
                origin: format!("http://{authority}"),
                authorization: self.authorization(),
                at_head: true,
            })
        }))
    }
}

/// A connection to a proxy that is asked for one server's addresses.
pub(super) struct Forwarded {
    below: Box<dyn Transport>,
    /// `http://host:port`.
    origin: String,
    authorization: Option<String>,
    /// What is sent next begins a request.
    at_head: bool,
}

impl Transport for Forwarded {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.below.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if !std::mem::take(&mut self.at_head) {
            return self.below.transmit_output(amount, timeout);
        }
        // The first line is there as a whole: it is never written in parts.
        let head = &self.below.buffers().output()[..amount];
        let Some(head) = absolute(head, &self.origin, self.authorization.as_deref()) else {
            return Err(Error::BadUri("a request without a path".to_owned()));
        };
        let room = self.below.buffers().output().len();
        for part in head.chunks(room.max(1)) {
            self.below.buffers().output()[..part.len()].copy_from_slice(part);
            self.below.transmit_output(part.len(), timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // Behind an answer comes the next request.
        self.at_head = true;
        self.below.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.below.is_open()
    }
}

impl std::fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forwarded")
    }
}

/// The head of a request with the absolute form; `None` when it is no head.
fn absolute(head: &[u8], origin: &str, authorization: Option<&str>) -> Option<Vec<u8>> {
    let path = head.iter().position(|byte| *byte == b' ')? + 1;
    let end = head.windows(2).position(|pair| pair == b"\r\n")? + 2;
    if head.get(path) != Some(&b'/') || path > end {
        return None;
    }
    let mut out = Vec::with_capacity(head.len() + origin.len() + 64);
    out.extend_from_slice(&head[..path]);
    out.extend_from_slice(origin.as_bytes());
    out.extend_from_slice(&head[path..end]);
    if let Some(value) = authorization {
        out.extend_from_slice(format!("Proxy-Authorization: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(&head[end..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_names_the_whole_address() {
        let of = |head: &str, authorization| {
            absolute(head.as_bytes(), "http://r.example:5000", authorization)
                .map(|out| String::from_utf8(out).unwrap())
        };
        assert_eq!(
            of("GET /v2/ HTTP/1.1\r\nhost: r\r\n\r\n", None).unwrap(),
            "GET http://r.example:5000/v2/ HTTP/1.1\r\nhost: r\r\n\r\n"
        );
        assert_eq!(
            of("PUT /?a HTTP/1.1\r\n", Some("Basic eA==")).unwrap(),
            "PUT http://r.example:5000/?a HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\n"
        );
        for odd in ["", "GET", "GET /v2/", "GET * HTTP/1.1\r\n", "G\r\nx /"] {
            assert_eq!(of(odd, None), None, "{odd}");
        }
    }
}
