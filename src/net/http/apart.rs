//! Looking names up and making connections, which nothing can interrupt: both are done by threads of their own, which are
//! left alone once the client is stopped.
//!
//! A lookup ends when the system's resolver gives up, a connection after its timeout; by then the client takes none.

use crate::net::halt::Halt;
use std::sync::Arc;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};

/// Addresses of names.
#[derive(Debug)]
pub(super) struct Names(Arc<Halt>);

impl Names {
    pub(super) fn new(halt: &Arc<Halt>) -> Self {
        Self(Arc::clone(halt))
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (uri, config) = (uri.clone(), config.clone());
        self.0.apart(move || DefaultResolver::default().resolve(&uri, &config, timeout))?
    }
}

/// Connections as `chain` makes them, with proxies and TLS.
#[derive(Debug)]
pub(super) struct Apart<C> {
    chain: Arc<C>,
    halt: Arc<Halt>,
}

impl<C> Apart<C> {
    pub(super) fn new(chain: C, halt: &Arc<Halt>) -> Self {
        Self { chain: Arc::new(chain), halt: Arc::clone(halt) }
    }
}

impl<C: Connector> Connector for Apart<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let chain = Arc::clone(&self.chain);
        let (uri, config, addrs) =
            (details.uri.clone(), details.config.clone(), details.addrs.clone());
        let (request_level, now, timeout) = (details.request_level, details.now, details.timeout);
        let current_time = Arc::clone(&details.current_time);
        let run_connector = Arc::clone(&details.run_connector);
        let register_shutdown = Arc::clone(&details.register_shutdown);
        self.halt.apart(move || {
            let details = ConnectionDetails {
                uri: &uri,
                addrs,
                config: &config,
                request_level,
                // On this thread nobody waits for the client.
                resolver: &DefaultResolver::default(),
                now,
                timeout,
                current_time,
                run_connector,
                register_shutdown,
            };
            chain.connect(&details, None)
        })?
    }
}
