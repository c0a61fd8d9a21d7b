//! "Did you mean": the nearest of a few known words.

/// The candidate that a misspelt `word` most likely stands for; letter case does not matter.
///
/// Near is at most one edit (insert, delete, replace, swap neighbours) for every three letters, and never
/// more than three. Of equally near ones the first wins.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let limit = word.len().div_ceil(3).min(3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let distance = distance(&word, &letters);
        if distance <= limit
            && distance < letters.len()
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edits from one word to the other, swapped neighbours counting once.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before = vec![0; to.len() + 1];
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            row[j + 1] = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["FROM", "RUN", "ENTRYPOINT", "COPY", "ARG", "ADD"];
        let check = |word, expect| assert_eq!(nearest(word, &words), expect, "{word}");
        check("FNTRYPOINT", Some("ENTRYPOINT"));
        check("entrypiont", Some("ENTRYPOINT"));
        check("FORM", Some("FROM"));
        check("RNU", Some("RUN"));
        check("CPOY", Some("COPY"));
        check("AGR", Some("ARG"));
        check("BANANA", None);
        check("", None);
        check("X", None);
        check(&"x".repeat(100_000), None);
    }
}
