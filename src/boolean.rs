//! The words that Go takes for true and false, which are those of Dockerfiles and of docker's options.

/// As Go's `ParseBool`; `None` for any other word.
pub fn parse(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
