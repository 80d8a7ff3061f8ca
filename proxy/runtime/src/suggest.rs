//! "did you mean …": the known word nearest to one that is not known. Pure text; who asks knows the words.

/// `"; did you mean `x`?"`, or, when nothing is near, `"; known: a, b, c"` (or the word for none).
#[must_use]
pub fn hint<'k>(word: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let mut names: Vec<_> = known.take(21).collect();
    let more = names.len() > 20;
    names.truncate(20);
    match names.as_slice() {
        [] => String::new(),
        names => format!(
            "; known here: {}{}",
            names.join(", "),
            if more { ", …" } else { "" }
        ),
    }
}

/// The nearest of the known words, when it is near enough to be a slip of the one given.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // The table below grows with the square of the length; no key is longer.
    if word.chars().count() > 64 {
        return None;
    }
    let folded = fold(word);
    known
        .filter(|k| k.len() <= 64)
        .map(|k| (distance(&folded, &fold(k)), k))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, k)| *d <= (k.len() / 3).max(1))
        .map(|(_, k)| k)
}

/// Without case, `_` and `-`, so that `token_endpoint` is `tokenEndpoint`.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// How many characters must be put in, taken out, or replaced (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            left = (left + 1)
                .min(*above + 1)
                .min(diagonal + usize::from(x != y));
            diagonal = std::mem::replace(above, left);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| distance(&fold(a), &fold(b));
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("abc", ""), 3);
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("same", "same"), 0);
    }

    #[test]
    fn a_slip_is_named_and_a_stranger_gets_the_list() {
        let known = ["audience", "resource", "tokenEndpoint"];
        let hint = |w| hint(w, known.iter().copied());
        assert_eq!(hint("audiences"), "; did you mean `audience`?");
        assert_eq!(hint("token_endpoint"), "; did you mean `tokenEndpoint`?");
        assert_eq!(
            hint("zebra"),
            "; known here: audience, resource, tokenEndpoint"
        );
        assert_eq!(
            hint(&"x".repeat(100_000)),
            "; known here: audience, resource, tokenEndpoint"
        );
    }
}
