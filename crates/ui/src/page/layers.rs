//! Where the boxes of a graph lie: in layers from the top down, each below all that it needs. The steps are Sugiyama's:
//! edges that others imply are left out, layers by the longest path, order within a layer by the mean of the neighbours,
//! then places as near to the neighbours as the order allows. Some 200 lines do; the crates for it bring a renderer, or
//! are no longer kept.

/// Above this number of nodes no edge is left out: what implies what would take too much memory.
const REDUCED: usize = 4_000;
/// Places on the way of long edges, all together; beyond them an edge goes straight.
const WAYPOINTS: usize = 20_000;
/// How often the layers are gone through, down and up.
const SWEEPS: usize = 12;
/// Between the boxes of a layer.
const GAP: f64 = 18.0;
/// Between layers.
const RISE: f64 = 30.0;
/// What an edge needs on its way past the boxes of a layer.
const LANE: f64 = 4.0;

/// The points of a line, from its beginning to its end.
pub type Line = Vec<(f64, f64)>;

/// Where everything lies.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The left upper corner of each box.
    pub places: Vec<(f64, f64)>,
    /// The edges that are drawn: from, to, and the points on the way.
    pub edges: Vec<(usize, usize, Line)>,
    /// The whole.
    pub width: f64,
    /// The whole.
    pub height: f64,
}

/// A box, or a place where an edge passes a layer.
struct Spot {
    width: f64,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out boxes of these widths, all of one height. Each edge leads from a lower number to a higher one.
pub(super) fn layout(widths: &[f64], height: f64, edges: &[(usize, usize)]) -> Layout {
    let count = widths.len();
    let mut needs = vec![Vec::new(); count];
    for &(from, to) in edges {
        needs[to].push(from);
    }
    reduce(&mut needs);
    let layer = layers(&needs);
    let depth = layer.iter().map(|layer| layer + 1).max().unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); depth];
    let mut spots: Vec<Spot> =
        widths.iter().map(|&width| Spot { width, x: 0.0, above: Vec::new(), below: Vec::new() }).collect();
    (0..count).for_each(|node| rows[layer[node]].push(node));
    let mut ways = Vec::new();
    for (to, needs) in needs.iter().enumerate() {
        for &from in needs {
            let mut way = vec![from];
            if spots.len() - count + (layer[to] - layer[from]) <= WAYPOINTS {
                for row in &mut rows[layer[from] + 1..layer[to]] {
                    row.push(spots.len());
                    way.push(spots.len());
                    spots.push(Spot { width: LANE, x: 0.0, above: Vec::new(), below: Vec::new() });
                }
            }
            way.push(to);
            for pair in way.windows(2) {
                spots[pair[0]].below.push(pair[1]);
                spots[pair[1]].above.push(pair[0]);
            }
            ways.push((from, to, way));
        }
    }
    order(&mut rows, &spots);
    place(&rows, &mut spots);
    let left = spots.iter().map(|spot| spot.x - spot.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = spots.iter().map(|spot| spot.x + spot.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let mut top = vec![0.0; spots.len()];
    for (at, row) in rows.iter().enumerate() {
        row.iter().for_each(|&spot| top[spot] = at as f64 * (height + RISE));
    }
    let middle = |spot: usize| spots[spot].x - left;
    let edges = ways.into_iter().map(|(from, to, way)| {
        let mut points = vec![(middle(from), top[from] + height)];
        for &on in &way[1..way.len() - 1] {
            points.extend([(middle(on), top[on]), (middle(on), top[on] + height)]);
        }
        points.push((middle(to), top[to]));
        (from, to, points)
    });
    Layout {
        places: (0..count).map(|node| (middle(node) - widths[node] / 2.0, top[node])).collect(),
        edges: edges.collect(),
        width: if count == 0 { 0.0 } else { right - left },
        height: (depth as f64 * (height + RISE) - RISE).max(0.0),
    }
}

/// Leaves out what is needed by way of another need too, and what is said twice.
fn reduce(needs: &mut [Vec<usize>]) {
    let words = needs.len().div_ceil(64);
    let mut before: Vec<Vec<u64>> = Vec::new();
    for (node, needs) in needs.iter_mut().enumerate() {
        needs.sort_unstable_by(|a, b| b.cmp(a));
        needs.dedup();
        if words * 64 > REDUCED + 64 {
            continue;
        }
        let mut all = vec![0; words];
        needs.retain(|&need| {
            let new = all[need / 64] & (1_u64 << (need % 64)) == 0;
            if new {
                all.iter_mut().zip(&before[need]).for_each(|(all, one)| *all |= one);
                all[need / 64] |= 1 << (need % 64);
            }
            new
        });
        debug_assert_eq!(before.len(), node);
        before.push(all);
    }
}

/// The layer of each: below all it needs; what needs nothing stands right above the first that needs it. A layer of very
/// many becomes several.
fn layers(needs: &[Vec<usize>]) -> Vec<usize> {
    let count = needs.len();
    let mut layer = vec![0_usize; count];
    for node in 0..count {
        layer[node] = needs[node].iter().map(|&need| layer[need] + 1).max().unwrap_or(0);
    }
    let mut first = vec![usize::MAX; count];
    for node in 0..count {
        needs[node].iter().for_each(|&need| first[need] = first[need].min(layer[node]));
    }
    for node in 0..count {
        if needs[node].is_empty() && first[node] != usize::MAX {
            layer[node] = first[node] - 1;
        }
    }
    let most = ((count as f64).sqrt() * 1.5).max(8.0) as usize;
    let depth = layer.iter().map(|layer| layer + 1).max().unwrap_or(0);
    let mut sizes = vec![0; depth];
    layer.iter().for_each(|&at| sizes[at] += 1);
    let mut starts = Vec::with_capacity(depth);
    let mut start = 0;
    for &size in &sizes {
        starts.push(start);
        start += usize::div_ceil(size, most).max(1);
    }
    let mut seen = vec![0; depth];
    for at in &mut layer {
        let nth = seen[*at];
        seen[*at] += 1;
        *at = starts[*at] + nth / most;
    }
    layer
}

/// Orders each layer by where the neighbours stand, from above and from below by turns; neighbours in a layer change
/// places where that spares crossings. The order with the fewest is kept.
fn order(rows: &mut Vec<Vec<usize>>, spots: &[Spot]) {
    let mut at = vec![0.0; spots.len()];
    let note = |row: &[usize], at: &mut Vec<f64>| {
        for (n, &spot) in row.iter().enumerate() {
            // In the middle of the whole: rows differ in length.
            at[spot] = n as f64 - (row.len() as f64 - 1.0) / 2.0;
        }
    };
    rows.iter().for_each(|row| note(row, &mut at));
    let mut best = (crossings(rows, spots), rows.clone());
    for sweep in 0..2 * SWEEPS {
        let down = sweep % 2 == 0;
        for n in 0..rows.len() {
            let row = if down { n } else { rows.len() - 1 - n };
            let mean = |spot: usize| {
                let of = if down { &spots[spot].above } else { &spots[spot].below };
                mean(of.iter().map(|&other| at[other])).unwrap_or(at[spot])
            };
            let mut keyed: Vec<(f64, usize)> = rows[row].iter().map(|&spot| (mean(spot), spot)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[row] = keyed.into_iter().map(|(_, spot)| spot).collect();
            note(&rows[row], &mut at);
        }
        exchange(rows, spots);
        rows.iter().for_each(|row| note(row, &mut at));
        let crossed = crossings(rows, spots);
        if crossed < best.0 {
            best = (crossed, rows.clone());
        }
    }
    *rows = best.1;
}

/// The place of each spot in its row.
fn places(rows: &[Vec<usize>], spots: &[Spot]) -> Vec<usize> {
    let mut place = vec![0; spots.len()];
    rows.iter().for_each(|row| row.iter().enumerate().for_each(|(n, &spot)| place[spot] = n));
    place
}

/// How often edges cross between rows.
fn crossings(rows: &[Vec<usize>], spots: &[Spot]) -> usize {
    let place = places(rows, spots);
    let between = rows.windows(2).map(|pair| {
        // Two edges cross where the one that begins further left ends further right; ends are counted in a Fenwick tree.
        let mut ended = vec![0; pair[1].len() + 1];
        let mut crossed = 0;
        for &spot in pair[0].iter().rev() {
            // An edge without places on its way may lead further down.
            let next = |below: &usize| (pair[1].get(place[*below]) == Some(below)).then_some(place[*below]);
            let ends = || spots[spot].below.iter().filter_map(next);
            for end in ends() {
                let mut n = end;
                while n > 0 {
                    crossed += ended[n];
                    n &= n - 1;
                }
            }
            for end in ends() {
                let mut n = end + 1;
                while n < ended.len() {
                    ended[n] += 1;
                    n += n & n.wrapping_neg();
                }
            }
        }
        crossed
    });
    between.sum()
}

/// Lets neighbours in a row change places where that spares crossings, until none does, or long enough.
fn exchange(rows: &mut [Vec<usize>], spots: &[Spot]) {
    let mut place = places(rows, spots);
    for _ in 0..SWEEPS {
        let mut changed = false;
        for row in rows.iter_mut() {
            for n in 1..row.len() {
                let (left, right) = (row[n - 1], row[n]);
                let crossed = |left: &[usize], right: &[usize]| {
                    let pairs = left.iter().map(|&a| right.iter().filter(|&&b| place[a] > place[b]).count());
                    pairs.sum::<usize>()
                };
                let (a, b) = (&spots[left], &spots[right]);
                let now = crossed(&a.above, &b.above) + crossed(&a.below, &b.below);
                if now > crossed(&b.above, &a.above) + crossed(&b.below, &a.below) {
                    row.swap(n - 1, n);
                    (place[left], place[right]) = (n, n - 1);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
}

/// Gives each spot the middle it lies at.
fn place(rows: &[Vec<usize>], spots: &mut [Spot]) {
    for row in rows {
        let wanted = vec![0.0; row.len()];
        settle(row, &wanted, spots);
    }
    for sweep in 0..2 * SWEEPS {
        for n in 0..rows.len() {
            let row = if sweep % 2 == 0 { &rows[n] } else { &rows[rows.len() - 1 - n] };
            let wanted: Vec<f64> = row
                .iter()
                .map(|&spot| {
                    let Spot { x, above, below, .. } = &spots[spot];
                    let from = match sweep {
                        sweep if sweep + 2 >= 2 * SWEEPS => {
                            mean(above.iter().chain(below).map(|&it| spots[it].x))
                        }
                        sweep if sweep % 2 == 0 => mean(above.iter().map(|&it| spots[it].x)),
                        _ => mean(below.iter().map(|&it| spots[it].x)),
                    };
                    from.unwrap_or(*x)
                })
                .collect();
            settle(row, &wanted, spots);
        }
    }
}

/// As near to where each wants to be as the order and the widths allow, in the sense of least squares: neighbours that
/// would overlap become a block that stands at the mean of what they want.
fn settle(row: &[usize], wanted: &[f64], spots: &mut [Spot]) {
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(row.len());
    for (n, &spot) in row.iter().enumerate() {
        if n > 0 {
            offset += (spots[row[n - 1]].width + spots[spot].width) / 2.0 + GAP;
        }
        offsets.push(offset);
    }
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (wanted, offset) in wanted.iter().zip(&offsets) {
        let mut block = (wanted - offset, 1);
        while let Some(&(mean, size)) = blocks.last().filter(|last| last.0 >= block.0) {
            let all = size + block.1;
            block = ((mean * size as f64 + block.0 * block.1 as f64) / all as f64, all);
            blocks.pop();
        }
        blocks.push(block);
    }
    let starts = blocks.into_iter().flat_map(|(mean, size)| std::iter::repeat_n(mean, size));
    for ((start, offset), &spot) in starts.zip(offsets).zip(row) {
        spots[spot].x = start + offset;
    }
}

fn mean(of: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = of.fold((0.0, 0), |(sum, count), x| (sum + x, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(layout: &Layout, widths: &[f64]) {
        for (a, left) in layout.places.iter().enumerate() {
            assert!(left.0 >= -0.01 && left.0 + widths[a] <= layout.width + 0.01);
            for (b, right) in layout.places.iter().enumerate().skip(a + 1) {
                let beside = left.0 + widths[a] <= right.0 + 0.01 || right.0 + widths[b] <= left.0 + 0.01;
                assert!(left.1 != right.1 || beside, "{a} and {b} overlap: {left:?} {right:?}");
            }
        }
    }

    #[test]
    fn each_lies_below_what_it_needs_and_no_two_overlap() {
        let count = 120;
        let widths: Vec<f64> = (0..count).map(|n| 80.0 + (n * 37 % 90) as f64).collect();
        let edges: Vec<(usize, usize)> = (1..count)
            .flat_map(|to| [(to * 7 % 11 * to / 13, to), (to / 2, to)])
            .filter(|(a, b)| a < b)
            .collect();
        let layout = layout(&widths, 40.0, &edges);
        apart(&layout, &widths);
        assert!(edges.iter().all(|&(from, to)| layout.places[from].1 < layout.places[to].1));
        assert_eq!(layout.height % 70.0, 40.0);
    }

    #[test]
    fn edges_that_need_not_cross_do_not() {
        let spot = |above: &[usize], below: &[usize]| Spot {
            width: 1.0,
            x: 0.0,
            above: above.to_vec(),
            below: below.to_vec(),
        };
        // 0 and 1 above 2 and 3, crossed once; 4 below both.
        let spots =
            [spot(&[], &[3]), spot(&[], &[2]), spot(&[1], &[4]), spot(&[0], &[4]), spot(&[2, 3], &[])];
        let mut rows = vec![vec![0, 1], vec![2, 3], vec![4]];
        assert_eq!(crossings(&rows, &spots), 1);
        order(&mut rows, &spots);
        assert_eq!(crossings(&rows, &spots), 0);
        // Each of three above each of three below: nine pairs of edges cross, however they stand.
        let all: Vec<Spot> =
            (0..6).map(|n| if n < 3 { spot(&[], &[3, 4, 5]) } else { spot(&[0, 1, 2], &[]) }).collect();
        assert_eq!(crossings(&[vec![0, 1, 2], vec![3, 4, 5]], &all), 9);
    }

    #[test]
    fn what_others_imply_is_not_drawn_and_a_crowd_becomes_rows() {
        let drawn = |layout: &Layout| layout.edges.iter().map(|(a, b, _)| (*a, *b)).collect::<Vec<_>>();
        let small = layout(&[10.0; 3], 10.0, &[(0, 1), (1, 2), (0, 2), (0, 1)]);
        assert_eq!(drawn(&small), [(0, 1), (1, 2)]);
        let crowd = layout(&[10.0; 100], 10.0, &[]);
        apart(&crowd, &[10.0; 100]);
        assert!(crowd.width < 15.0 * 28.0 && crowd.height > 6.0 * 40.0, "{} x {}", crowd.width, crowd.height);
        let none = layout(&[], 10.0, &[]);
        assert_eq!((none.width, none.height), (0.0, 0.0));
    }
}
