//! Images of Nix store paths, made with and within Nix.

mod sandbox;
