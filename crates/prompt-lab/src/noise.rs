//! What of a difference may be noise: 95 % intervals, from draws of the same text and from comparisons. Pure.
//!
//! Two textbook intervals, and no more. Of scores: Student's t with the standard deviation of the draws around the mean of
//! their own case, pooled over all cases of both texts. Of comparisons: Wilson's interval of the share of points. The
//! cases themselves are taken as given: nothing is said about other inputs.

/// From where to where a gain lies, 19 times of 20.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether no difference at all lies in it.
    pub fn is_noise(self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// With more of them.
const NORMAL: f64 = 1.960;

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Squares of the distances to the mean of each case, summed, and degrees of freedom.
fn scatter(cases: &[Vec<f64>]) -> (f64, usize) {
    cases.iter().filter(|draws| !draws.is_empty()).fold((0.0, 0), |(sum, degrees), draws| {
        let middle = mean(draws);
        let own: f64 = draws.iter().map(|draw| (draw - middle).powi(2)).sum();
        (sum + own, degrees + draws.len() - 1)
    })
}

/// The standard deviation of draws of one case, pooled over the cases; none if there is one draw of each.
pub fn spread(cases: &[Vec<f64>]) -> Option<f64> {
    let (sum, degrees) = scatter(cases);
    (degrees > 0).then(|| (sum / degrees as f64).sqrt())
}

/// Where the difference of two mean scores lies, the cases weighing the same; none if there is one draw of each.
pub fn of_scores(before: &[Vec<f64>], after: &[Vec<f64>]) -> Option<Interval> {
    if before.iter().chain(after).any(Vec::is_empty) || before.is_empty() || after.is_empty() {
        return None;
    }
    let ((one, some), (other, more)) = (scatter(before), scatter(after));
    let degrees = some + more;
    if degrees == 0 {
        return None;
    }
    let variance = (one + other) / degrees as f64;
    let of_mean = |cases: &[Vec<f64>]| {
        let count = cases.len() as f64;
        variance * cases.iter().map(|draws| 1.0 / draws.len() as f64).sum::<f64>() / (count * count)
    };
    let middle = |cases: &[Vec<f64>]| mean(&cases.iter().map(|draws| mean(draws)).collect::<Vec<_>>());
    let half = STUDENT.get(degrees - 1).unwrap_or(&NORMAL) * (of_mean(before) + of_mean(after)).sqrt();
    let gain = middle(after) - middle(before);
    Some(Interval { low: gain - half, high: gain + half })
}

/// Where the share of points lies, less the half that equals have; a win is a point and a tie half of one.
pub fn of_points(points: &[f64]) -> Option<Interval> {
    let count = points.len() as f64;
    if points.is_empty() {
        return None;
    }
    let share = mean(points);
    let z = NORMAL * NORMAL;
    let middle = (share + z / (2.0 * count)) / (1.0 + z / count);
    let half =
        NORMAL * (share * (1.0 - share) / count + z / (4.0 * count * count)).sqrt() / (1.0 + z / count);
    Some(Interval { low: middle - half - 0.5, high: middle + half - 0.5 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<Interval>, low: f64, high: f64) -> bool {
        found.is_some_and(|it| (it.low - low).abs() < 0.001 && (it.high - high).abs() < 0.001)
    }

    #[test]
    fn the_interval_of_scores_is_that_of_the_textbook() {
        // Two samples of three around 0.5 and 0.7, each with a standard deviation of 0.1: 2.776 * 0.1 * sqrt(2/3).
        let (before, after) = ([vec![0.4, 0.5, 0.6]], [vec![0.6, 0.7, 0.8]]);
        assert!(near(of_scores(&before, &after), -0.0267, 0.4267), "{:?}", of_scores(&before, &after));
        assert!(of_scores(&before, &after).unwrap().is_noise());
        // What differs between cases is no noise: the same draws around other means.
        let before = [vec![0.4, 0.5, 0.6], vec![0.0, 0.1, 0.2]];
        let after = [vec![0.6, 0.7, 0.8], vec![0.2, 0.3, 0.4]];
        let found = of_scores(&before, &after).unwrap();
        assert!(!found.is_noise(), "{found:?}");
        assert!((spread(&before).unwrap() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn one_draw_says_nothing_of_noise() {
        assert_eq!(of_scores(&[vec![0.1], vec![0.5]], &[vec![0.2], vec![0.9]]), None);
        assert_eq!(spread(&[vec![0.1], vec![0.5]]), None);
        assert_eq!(of_scores(&[], &[]), None);
        assert_eq!(of_scores(&[vec![]], &[vec![0.1, 0.2]]), None);
    }

    #[test]
    fn four_wins_in_a_row_are_no_noise_and_three_are() {
        for (points, noise) in [
            (vec![1.0; 3], true),
            (vec![1.0; 4], false),
            (vec![0.0; 4], false),
            (vec![0.5; 40], true),
            (vec![1.0, 1.0, 1.0, 0.5, 0.5], true),
            ([vec![1.0; 15], vec![0.0; 5]].concat(), false),
            ([vec![1.0; 6], vec![0.0; 4]].concat(), true),
        ] {
            assert_eq!(of_points(&points).unwrap().is_noise(), noise, "{points:?}");
        }
        // Wilson's interval of 15 in 20 is 0.531 to 0.888.
        assert!(near(of_points(&[vec![1.0; 15], vec![0.0; 5]].concat()), 0.0313, 0.3881));
        assert_eq!(of_points(&[]), None);
    }
}
