//! Tests of the cache: its names, what is found in it, cleaning, and programs that use it at the same time.

mod cleaning;
mod finding;
mod moving;
mod naming;
mod together;
mod upstream;
