//! All integration tests in one binary: the program as a user runs it, as root and as an ordinary user.
//!
//! Names begin with what a test needs: `root_`, `user_`, `peers_`. A test whose need is absent says so and passes, unless
//! `NATIVEBUILD_REQUIRE` names the need (as CI does); then it fails.

mod support;

mod basics;
