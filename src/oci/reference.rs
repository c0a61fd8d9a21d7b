//! stub
pub struct Reference;
