//! The clients below: one for the direct way and one for each proxy, with our TLS.

use super::apart::{Apart, Names};
use super::forward::ForwardConnector;
use crate::error::{Error, Result};
use crate::net::config::NetConfig;
use crate::net::halt::Halt;
use crate::net::patience::Patience;
use crate::net::tls::{TlsConnector, Trust};
use std::sync::Arc;
use ureq::config::Config;
use ureq::unversioned::transport::{
    ConnectProxyConnector, Connector, SocksConnector, TcpConnector,
};
use ureq::{Agent, Proxy, ProxyProtocol};

/// Ways to a host.
#[derive(Debug)]
pub(super) struct Agents {
    pub(super) direct: Agent,
    /// Agents that go through a proxy.
    pub(super) secure_proxied: Option<Agent>,
    pub(super) plain_proxied: Option<Agent>,
}

impl Agents {
    pub(super) fn new(
        config: &NetConfig,
        trust: &Arc<Trust>,
        unverified: bool,
        halt: &Arc<Halt>,
    ) -> Result<Self> {
        let tls = |proxy: Option<&Proxy>| {
            TlsConnector::new(Arc::clone(trust), unverified, proxy.map(|proxy| proxy.uri().clone()))
        };
        let made = |proxy: Option<Proxy>| {
            let over = tls(proxy.as_ref());
            let connector =
                ().chain(SocksConnector::default())
                    .chain(ConnectProxyConnector::default())
                    .chain(TcpConnector::default())
                    .chain(over);
            let agent = agent_config(&config.patience, proxy);
            Agent::with_parts(agent, Apart::new(connector, halt), Names::new(halt))
        };
        let plain = |proxy: Proxy| {
            if !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
                return made(Some(proxy));
            }
            let connector = ().chain(ForwardConnector::new(proxy.clone(), tls(Some(&proxy))));
            let agent = agent_config(&config.patience, Some(proxy));
            Agent::with_parts(agent, Apart::new(connector, halt), Names::new(halt))
        };
        let read = |proxy: &Option<String>, name: &str| -> Result<Option<Proxy>> {
            let Some(text) = proxy.as_deref().filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let proxy = Proxy::new(text).map_err(|_| {
                // Not shown: it may hold a password.
                Error::usage(format!("the proxy for {name} is not an address that can be used"))
                    .hint(format!("write {}_PROXY as `http://host:port`", name.to_uppercase()))
            })?;
            Ok(Some(proxy))
        };
        Ok(Self {
            direct: made(None),
            secure_proxied: read(&config.https_proxy, "https")?.map(|proxy| made(Some(proxy))),
            plain_proxied: read(&config.http_proxy, "http")?.map(plain),
        })
    }

    /// Closes all connections, those too that somebody reads from, and makes no new ones.
    pub(super) fn shut_down(&self) {
        let all = [Some(&self.direct), self.secure_proxied.as_ref(), self.plain_proxied.as_ref()];
        for agent in all.into_iter().flatten() {
            agent.clone().shutdown();
        }
    }
}

fn agent_config(patience: &Patience, proxy: Option<Proxy>) -> Config {
    Agent::config_builder()
        // Set also when `None`: the default is taken from the environment.
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("nativebuild/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .accept_encoding("")
        .timeout_resolve(Some(patience.connection))
        .timeout_connect(Some(patience.connection))
        .timeout_send_request(Some(patience.answer / 2))
        .timeout_recv_response(Some(patience.answer))
        .timeout_per_read(Some(patience.silence))
        .timeout_per_write(Some(patience.silence))
        .max_idle_connections_per_host(4)
        .build()
}
