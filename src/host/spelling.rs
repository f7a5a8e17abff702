//! The nearest name to a misspelt one.

/// The candidate nearest to `word`, if one is near enough to be meant: at most a third of its letters away.
pub(super) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| (distance(word, c), c))
        .filter(|(d, c)| *d > 0 && *d <= c.chars().count().max(3) / 3)
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein's distance: the least number of letters inserted, deleted or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["ldap_get", "rsync", "inject"];
        assert_eq!(closest("ldap_gett", names.into_iter()), Some("ldap_get"));
        assert_eq!(closest("injcet", names.into_iter()), Some("inject"));
        assert_eq!(closest("flush", names.into_iter()), None);
    }
}
