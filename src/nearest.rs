//! The known name that an unknown one was meant to be, found and said in one way everywhere.

/// Longest name that others are compared with: what is longer is no slip of the pen.
const MAX_LENGTH: usize = 200;

/// The known name nearest to this one, if it is near: one slip in four letters, and one more. Case does not count.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let name = name.to_lowercase();
    let compared = known.into_iter().filter(|known| known.len() <= MAX_LENGTH);
    let (distance, nearest) =
        compared.map(|known| (distance(&name, known), known)).min_by_key(|&(distance, _)| distance)?;
    (distance <= 1 + nearest.len() / 4).then_some(nearest)
}

fn distance(name: &str, known: &str) -> usize {
    strsim::damerau_levenshtein(name, &known.to_lowercase())
}

/// What to say behind "unknown": the nearest name, or all there are if none is near.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    match (nearest(name, known.iter().copied()), known) {
        (Some(nearest), _) => format!("did you mean `{nearest}`?"),
        (None, []) => "none is known there".to_owned(),
        (None, _) => format!("known are `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_told_from_other_names() {
        let known = ["densest", "census", "latency-aware", "per-stage"];
        for (name, expected) in [
            ("densest", Some("densest")),
            ("dense", Some("densest")),
            ("densets", Some("densest")),
            ("DENSEST", Some("densest")),
            ("latencyaware", Some("latency-aware")),
            ("perstage", Some("per-stage")),
            ("best", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
        assert_eq!(suggestion("cenus", &known), "did you mean `census`?");
        assert_eq!(suggestion("best", &["a", "c"]), "known are `a`, `c`");
        assert_eq!(suggestion("best", &[]), "none is known there");
    }
}
