//! Whole specs: golden files, values, hostile texts.

mod golden;
mod hostile;
mod sets;

use super::*;

pub(super) fn read(text: &str, set: &[&str]) -> Result<(Spec, Vec<String>)> {
    let set: Vec<String> = set.iter().map(|&word| word.to_owned()).collect();
    parse(&Arc::new(SourceFile::new("image.yaml", text)), &set)
}
