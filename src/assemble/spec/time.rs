//! `created` and `mtime`: RFC 3339 times, seconds since 1970, and words.

use super::reader::{Field, Reader};
use super::{FileTime, Moment, keys};
use crate::yaml::{Scalar, shorten};

/// Nix's time of images and files: 1970-01-01T00:00:01Z.
pub(super) const DEFAULT: Moment = Moment::At(1);

/// 9999-12-31T23:59:59Z, the last one that RFC 3339 can say.
const LAST: i64 = 253_402_300_799;

const HINT: &str = "for example `1970-01-01T00:00:01Z`, the seconds since 1970, `now`, `source-date-epoch` or `from-git`";

/// A time, or a word that stands for one.
pub(super) fn moment(reader: &mut Reader, field: &Field) -> Option<Moment> {
    if let Some(Scalar::Int(_) | Scalar::Float(_)) = field.node.scalar() {
        let bounds = 0..=i128::from(LAST);
        let seconds = reader.problems.integer(&field.node, &field.what, &bounds)?;
        return i64::try_from(seconds).ok().map(Moment::At);
    }
    let text = reader.filled(field)?;
    match text.value.as_str() {
        "now" => return Some(Moment::Now),
        "source-date-epoch" => return Some(Moment::Epoch),
        "from-git" => return Some(Moment::Git),
        _ => {}
    }
    let shown = shorten(&text.value);
    let Ok(time) = text.value.parse::<jiff::Timestamp>() else {
        let near = crate::dockerfile::suggest::nearest(&text.value, keys::MOMENTS);
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        let message = format!("`{}` must be a time, not `{shown}`", field.what);
        reader.wrong(text.span, message, hint.as_deref().unwrap_or(HINT));
        return None;
    };
    if time.subsec_nanosecond() != 0 || !(0..=LAST).contains(&time.as_second()) {
        let message = format!("`{}` must be a whole second since 1970, not `{shown}`", field.what);
        reader.problems.report(text.span, message);
        return None;
    }
    Some(Moment::At(time.as_second()))
}

/// The time of all files, or `keep`.
pub(super) fn file_time(reader: &mut Reader, field: &Field) -> Option<FileTime> {
    let is_keep = matches!(field.node.scalar(), Some(Scalar::Text("keep")));
    if is_keep { Some(FileTime::Keep) } else { moment(reader, field).map(FileTime::Same) }
}
