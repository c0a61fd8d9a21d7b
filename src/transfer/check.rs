//! `image validate`: every promise of an image checked, wherever it is.

use super::{Access, Choice, Location};
use crate::error::Result;
use crate::oci::layout::Layout;
use crate::oci::validate::{Problem, validate_in, validate_source};

/// Broken promises. A layout or an archive without a name is checked with all its images.
pub fn validate(access: &Access<'_>, location: &Location) -> Result<Vec<Problem>> {
    match location {
        Location::Layout(path, None)
        | Location::LayoutArchive(path, None)
        | Location::DockerArchive(path, None) => {
            if matches!(location, Location::Layout(..)) {
                Layout::open(path)?;
            }
            validate_source(path, access.tmp())
        }
        Location::Registry(_) => {
            let fetched = access.fetch(location, &Choice::Whole, None)?;
            Ok(validate_in(&fetched.layout, &fetched.root))
        }
        _ => {
            let opened = access.open(location)?;
            Ok(validate_in(opened.blobs(), &opened.root))
        }
    }
}
