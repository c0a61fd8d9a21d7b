//! Connections beyond this process tree: the http client, the registry client (distribution-spec), sockets of engines.
//!
//! In: an image name and what is wanted of it; out: verified blobs in an [`crate::oci::layout::Layout`]
//! (assemble-trust C3, C4), or a layout's image under names of registries. The way down: [`pull`] decides what is needed,
//! [`push`] what is to be sent, [`catalog`] asks what a repository has, [`registry`] speaks the registry's protocol,
//! [`signin`] says who is asking, with the logins that [`logins`] finds and the tokens that [`auth`] knows to ask for,
//! [`http`] sends one request with redirects and retries. [`engine`] hands an image
//! to docker or podman, over [`unix`]. [`agent`] stands between a RUN and the user's ssh agent.
//!
//! Invariants: nothing that a server says is believed before its digest and size were checked; memory is bounded
//! whatever a server sends; plain http only to this machine and to places that the user named so; a token only ever
//! goes to the registry that it is for; the environment is not read here (`cli` fills a [`NetConfig`]); a failure says which of
//! [`Trouble`]'s kinds it is, so that a build may go on with what it has.

mod agent;
mod arrive;
mod artifact;
mod auth;
mod blob;
mod catalog;
mod config;
pub mod doctor;
mod download;
mod engine;
mod failure;
mod fetch;
pub mod git;
mod halt;
mod hosts;
mod http;
mod login;
mod logins;
mod manifest;
mod mirror;
mod patience;
mod places;
mod pull;
mod push;
mod registry;
mod retry;
mod signin;
#[cfg(test)]
mod tests;
mod tls;
mod unix;
mod url;
mod warnings;
mod wish;

pub use agent::{AgentSource, Serving};
pub use arrive::{Documents, News};
pub use catalog::Referrers;
pub use config::{NetConfig, Pause};
pub use engine::{Engine, EngineConfig};
pub use failure::{NetError, NetResult, Trouble, unsigned};
pub use fetch::{Body, Fetched, Fetcher, Validators};
pub use git::Git;
pub use hosts::HostFiles;
pub use login::Credentials;
pub use logins::{AuthForm, AuthPlace, AuthPlaces, Forgotten, LoginTarget, Saved};
pub use mirror::Mirror;
pub use patience::{GivenUp, Patience};
pub use pull::{Pulled, Wanted};
pub use push::Pushed;
pub use registry::Registry;
pub use signin::Verified;
pub use tls::CertificatePlaces;
pub use warnings::Warnings;
