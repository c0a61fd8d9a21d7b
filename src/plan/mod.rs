//! stub
pub mod step;
