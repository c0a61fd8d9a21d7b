//! Images of Nix store paths, made with and within Nix, and the examples of `docs/dockertools.md`.

mod document;
mod sandbox;
