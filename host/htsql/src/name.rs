//! Names: how any text becomes an identifier, and which names are similar enough to suggest.

use unicode_normalization::UnicodeNormalization as _;

/// The identifier of a text: composed (NFC), lower case, each character that is not a letter, a digit or `_`
/// replaced by `_`, never starting with a digit, never empty. Names are compared in this form.
pub fn to_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    if text.chars().next().is_none_or(char::is_numeric) {
        name.push('_');
    }
    let word = |c: char| if is_word(c) { c } else { '_' };
    if text.is_ascii() {
        name.extend(text.chars().map(|c| word(c.to_ascii_lowercase())));
    } else {
        name.extend(text.nfc().flat_map(char::to_lowercase).map(word));
    }
    name
}

/// Whether a character can be part of a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `sample` is worth suggesting to one who wrote `model`: it starts with `model`, or few
/// edits (insert, delete, replace, swap neighbours) lead from one to the other: one, and one more
/// for every five characters of `model`.
pub(crate) fn similar(model: &str, sample: &str) -> bool {
    // A name of a million letters is not compared letter by letter with all there are.
    if model.len() / 8 > sample.len() + 1 {
        return false;
    }
    let model: Vec<char> = model.chars().collect();
    let sample: Vec<char> = sample.chars().collect();
    if model.is_empty() || sample.is_empty() {
        return false;
    }
    if model.len() > 1 && sample.starts_with(&model) {
        return true;
    }
    let limit = 1 + model.len() / 5;
    if model.len().abs_diff(sample.len()) > limit {
        return false;
    }
    distance(&model, &sample) <= limit
}

/// Damerau–Levenshtein distance with adjacent transpositions, by three rolling rows.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (previous[j - 1] + cost).min(previous[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_words() {
        let cases = [
            ("", "_"),
            ("Zip Code", "zip_code"),
            ("1st", "_1st"),
            ("naïve-é", "naïve_é"),
            ("e\u{301}", "é"),
        ];
        for (text, name) in cases {
            assert_eq!(to_name(text), name);
        }
    }

    #[test]
    fn similar_names() {
        let yes = [
            ("depatrment", "department"),
            ("nulll", "null"),
            ("cont", "count"),
            ("firs", "firstname"),
        ];
        let no = [("a", "b c"), ("", "x"), ("x", ""), ("invalid", "avg")];
        assert!(yes.iter().all(|(m, s)| similar(m, s)));
        assert!(!no.iter().any(|(m, s)| similar(m, s)));
    }
}
