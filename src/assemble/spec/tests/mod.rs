//! Whole specs: golden files, values, hostile texts.

mod document;
mod golden;
mod hostile;
mod schema;
mod sets;
mod validator;

use super::*;

pub(super) fn read(text: &str, set: &[&str]) -> Result<(Spec, Vec<String>)> {
    let set: Vec<String> = set.iter().map(|&word| word.to_owned()).collect();
    parse(&Arc::new(SourceFile::new("image.yaml", text)), &set)
}
