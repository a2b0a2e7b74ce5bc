//! How far two orders of the same things agree.

use std::cmp::Ordering;

/// Kendall's rank correlation of two orders of `count` things, each given as how one thing compares with another: 1 if
/// every pair stands the same way round in both, -1 if every pair stands the other way round.
///
/// It is the tau-b, which allows for pairs that are equal in one order or in both (M. G. Kendall, The treatment of ties
/// in ranking problems, Biometrika 33, 1945). `None` if an order has no pair that differs.
pub fn tau_b(
    count: usize,
    left: impl Fn(usize, usize) -> Ordering,
    right: impl Fn(usize, usize) -> Ordering,
) -> Option<f64> {
    let sign = |ordering: Ordering| ordering as i8;
    let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j)));
    let (mut together, mut in_left, mut in_right) = (0i64, 0i64, 0i64);
    for (i, j) in pairs {
        let (l, r) = (i64::from(sign(left(i, j))), i64::from(sign(right(i, j))));
        together += l * r;
        in_left += l * l;
        in_right += r * r;
    }
    (in_left > 0 && in_right > 0).then(|| together as f64 / (in_left as f64 * in_right as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(left: &[f64], right: &[f64]) -> Option<f64> {
        let compare = |values: &[f64], i: usize, j: usize| values[i].total_cmp(&values[j]);
        tau_b(left.len(), |i, j| compare(left, i, j), |i, j| compare(right, i, j))
    }

    /// Worked by hand from the definition: of four things there are six pairs.
    #[test]
    fn few_things() {
        for (name, left, right, expected) in [
            ("the same order", &[1., 2., 3., 4.][..], &[10., 20., 30., 40.][..], Some(1.0)),
            ("the other way round", &[1., 2., 3., 4.], &[4., 3., 2., 1.], Some(-1.0)),
            (
                "two neighbours changed: five pairs for, one against",
                &[1., 2., 3., 4.],
                &[2., 1., 3., 4.],
                Some(4. / 6.),
            ),
            ("one pair equal on one side: five of five", &[1., 1., 3., 4.], &[1., 2., 3., 4.], Some(5. / 30f64.sqrt())),
            ("the same pair equal on both", &[1., 1., 3., 4.], &[2., 2., 3., 4.], Some(1.0)),
            ("all equal", &[1., 1., 1.], &[1., 2., 3.], None),
            ("one thing", &[1.], &[1.], None),
            ("nothing", &[], &[], None),
        ] {
            let found = of(left, right);
            assert!(found.zip(expected).map_or(found == expected, |(a, b)| (a - b).abs() < 1e-12), "{name}: {found:?}");
        }
    }

    /// `scipy.stats.kendalltau(left, right)` of SciPy 1.17.1, which computes tau-b by another way (counting exchanges of a sort).
    #[test]
    fn as_scipy_has_it() {
        let left = [12., 2., 1., 12., 2., 7., 7., 3., 9., 5.];
        for (right, expected) in [
            (&[1., 4., 7., 1., 0., 3., 8., 3., 2., 6.][..], -0.352_965_604_001_258_8),
            (&[9., 3., 1., 10., 2., 8., 7., 4., 6., 5.], 0.874_083_041_833_648_6),
            (&[0., 1., 0., 1., 0., 1., 1., 0., 1., 0.], 0.339_467_369_916_602_2),
        ] {
            let found = of(&left, right).unwrap();
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }
}
