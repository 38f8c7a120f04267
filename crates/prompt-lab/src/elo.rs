//! How strong contestants are, from who beat whom: a Bradley-Terry fit on the scale of Elo. Unlike ratings that are
//! updated game by game it does not depend on the order of the games, so the same results give the same figures.

/// A comparison of two contestants, by their positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Game {
    /// One.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// 1 if the one won, 0 if the other did, 0.5 for a tie.
    pub result: f64,
}

/// What a contestant without a game has, and the middle of the scale.
pub const START: f64 = 1000.0;
/// So many points more, and a contestant is expected to win ten times for each time it loses.
const SCALE: f64 = 400.0;

/// The ratings. Each contestant also has one tie against an imaginary one of [`START`] points, so that who won all its
/// games is not infinitely strong, and one more game moves a rating less the more there were.
pub fn ratings(contestants: usize, games: &[Game]) -> Vec<f64> {
    let mut wins = vec![0.5; contestants];
    for game in games {
        wins[game.a] += game.result;
        wins[game.b] += 1.0 - game.result;
    }
    let mut strengths = vec![1.0_f64; contestants];
    for _ in 0..1000 {
        let mut against: Vec<f64> = strengths.iter().map(|own| 1.0 / (own + 1.0)).collect();
        for game in games {
            let each = 1.0 / (strengths[game.a] + strengths[game.b]);
            against[game.a] += each;
            against[game.b] += each;
        }
        let next: Vec<f64> = wins.iter().zip(&against).map(|(wins, against)| wins / against).collect();
        let moved = next.iter().zip(&strengths).map(|(new, old)| (new.log10() - old.log10()).abs());
        let moved = moved.fold(0.0, f64::max);
        strengths = next;
        if moved < 1e-9 {
            break;
        }
    }
    strengths.iter().map(|strength| START + SCALE * strength.log10()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(contestants: usize, games: &[(usize, usize, f64)]) -> Vec<i64> {
        let games: Vec<Game> = games.iter().map(|&(a, b, result)| Game { a, b, result }).collect();
        ratings(contestants, &games).into_iter().map(|rating| rating.round() as i64).collect()
    }

    #[test]
    fn who_wins_is_rated_higher_and_nobody_infinitely() {
        assert_eq!(rounded(1, &[]), [1000]);
        assert_eq!(rounded(2, &[(0, 1, 0.5)]), [1000, 1000]);
        let one = rounded(2, &[(0, 1, 1.0)]);
        let ten = rounded(2, &[(0, 1, 1.0); 10]);
        assert!(one[0] > 1000 && one[0] + one[1] == 2000, "{one:?}");
        assert!(ten[0] > one[0] && ten[0] < 3000, "{one:?} {ten:?}");
    }

    #[test]
    fn the_order_of_games_does_not_matter() {
        let games = [(0, 1, 1.0), (1, 2, 1.0), (0, 2, 0.5), (2, 1, 1.0), (0, 1, 1.0)];
        let mut turned: Vec<(usize, usize, f64)> = games.iter().map(|&(a, b, r)| (b, a, 1.0 - r)).collect();
        turned.reverse();
        assert_eq!(rounded(3, &games), rounded(3, &turned));
        let rated = rounded(3, &games);
        assert!(rated[0] > rated[2] && rated[2] > rated[1], "{rated:?}");
    }
}
