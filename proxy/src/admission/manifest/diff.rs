//! A unified diff of two texts by lines (Myers' greedy algorithm), for `--diff`.

/// Lines around a change.
const CONTEXT: usize = 3;
/// More differing lines than this are shown as one change: the search grows with their square.
const MAX_DISTANCE: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Both(usize, usize),
    Old(usize),
    New(usize),
}

/// The diff of two texts, or nothing when they are the same. `name`: what the headers call them.
pub fn unified(old_text: &str, new_text: &str, name: &str) -> String {
    if old_text == new_text {
        return String::new();
    }
    let old: Vec<&str> = old_text.split_inclusive('\n').collect();
    let new: Vec<&str> = new_text.split_inclusive('\n').collect();
    let script = script(&old, &new);
    let mut out = format!("--- {name}\n+++ {name} (new)\n");
    let changed: Vec<usize> = script
        .iter()
        .enumerate()
        .filter(|(_, l)| !matches!(l, Line::Both(..)))
        .map(|(i, _)| i)
        .collect();
    let mut i = 0;
    while let Some(first) = changed.get(i) {
        let start = first.saturating_sub(CONTEXT);
        let mut end = first + 1;
        while let Some(next) = changed.get(i).filter(|n| **n <= end + 2 * CONTEXT) {
            end = next + 1;
            i += 1;
        }
        let end = (end + CONTEXT).min(script.len());
        hunk(
            &mut out,
            script.get(start..end).unwrap_or_default(),
            &old,
            &new,
        );
    }
    out
}

/// Lines of the old text that others take the place of: the number of the first, from 0, how many they are, and the others.
pub(super) fn changes(old_text: &str, new_text: &str) -> Vec<(usize, usize, String)> {
    let old: Vec<&str> = old_text.split_inclusive('\n').collect();
    let new: Vec<&str> = new_text.split_inclusive('\n').collect();
    let mut changes: Vec<(usize, usize, String)> = Vec::new();
    let (mut at, mut open) = (0, false);
    for line in script(&old, &new) {
        let (gone, come) = match line {
            Line::Both(..) => {
                (at, open) = (at + 1, false);
                continue;
            }
            Line::Old(_) => (1, ""),
            Line::New(n) => (0, new.get(n).copied().unwrap_or_default()),
        };
        if !std::mem::replace(&mut open, true) {
            changes.push((at, 0, String::new()));
        }
        if let Some((_, count, text)) = changes.last_mut() {
            *count += gone;
            text.push_str(come);
        }
        at += gone;
    }
    changes
}

fn hunk(out: &mut String, lines: &[Line], old: &[&str], new: &[&str]) {
    let olds = lines.iter().filter_map(|l| {
        if let Line::Both(o, _) | Line::Old(o) = l {
            Some(*o)
        } else {
            None
        }
    });
    let news = lines.iter().filter_map(|l| {
        if let Line::Both(_, n) | Line::New(n) = l {
            Some(*n)
        } else {
            None
        }
    });
    let range = |mut places: Box<dyn Iterator<Item = usize> + '_>| {
        let first = places.next();
        let count = first.map_or(0, |_| 1 + places.count());
        format!("{},{count}", first.map_or(0, |f| f + 1))
    };
    out.push_str(&format!(
        "@@ -{} +{} @@\n",
        range(Box::new(olds)),
        range(Box::new(news))
    ));
    for line in lines {
        let (sign, text) = match line {
            Line::Both(o, _) => (' ', old.get(*o)),
            Line::Old(o) => ('-', old.get(*o)),
            Line::New(n) => ('+', new.get(*n)),
        };
        let text = text.copied().unwrap_or_default();
        out.push(sign);
        out.push_str(text);
        if !text.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// The shortest way from one to the other.
fn script(old: &[&str], new: &[&str]) -> Vec<Line> {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (o, n) = (
        old.get(same..).unwrap_or_default(),
        new.get(same..).unwrap_or_default(),
    );
    let tail = o
        .iter()
        .rev()
        .zip(n.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (o, n) = (
        o.get(..o.len() - tail).unwrap_or_default(),
        n.get(..n.len() - tail).unwrap_or_default(),
    );
    let mut script: Vec<Line> = (0..same).map(|i| Line::Both(i, i)).collect();
    script.extend(middle(o, n).into_iter().map(|line| match line {
        Line::Both(a, b) => Line::Both(a + same, b + same),
        Line::Old(a) => Line::Old(a + same),
        Line::New(b) => Line::New(b + same),
    }));
    script.extend((0..tail).map(|i| Line::Both(same + o.len() + i, same + n.len() + i)));
    script
}

fn middle(old: &[&str], new: &[&str]) -> Vec<Line> {
    let max = (old.len() + new.len()).min(MAX_DISTANCE);
    // The farthest `old` index on each diagonal (old - new, shifted by `max + 1`), and how it was before each step.
    let mut farthest = vec![0_usize; 2 * max + 3];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    let at = |k: isize| usize::try_from(k + max as isize + 1).unwrap_or_default();
    for d in 0..=max as isize {
        trace.push(farthest.clone());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && farthest[at(k - 1)] < farthest[at(k + 1)]);
            let mut x = if down {
                farthest[at(k + 1)]
            } else {
                farthest[at(k - 1)] + 1
            };
            let mut y = usize::try_from(x as isize - k).unwrap_or_default();
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            farthest[at(k)] = x;
            if x >= old.len() && y >= new.len() {
                return walk_back(&trace, d, old.len(), new.len(), max);
            }
        }
    }
    (0..old.len())
        .map(Line::Old)
        .chain((0..new.len()).map(Line::New))
        .collect()
}

fn walk_back(
    trace: &[Vec<usize>],
    distance: isize,
    mut x: usize,
    mut y: usize,
    max: usize,
) -> Vec<Line> {
    let at = |k: isize| usize::try_from(k + max as isize + 1).unwrap_or_default();
    let mut back = Vec::new();
    for d in (0..=distance).rev() {
        let farthest = &trace[usize::try_from(d).unwrap_or_default()];
        let k = x as isize - y as isize;
        let down = k == -d || (k != d && farthest[at(k - 1)] < farthest[at(k + 1)]);
        let from = if down { k + 1 } else { k - 1 };
        let from_x = farthest[at(from)];
        let from_y = usize::try_from(from_x as isize - from).unwrap_or_default();
        while x > from_x && y > from_y && x > 0 && y > 0 {
            (x, y) = (x - 1, y - 1);
            back.push(Line::Both(x, y));
        }
        if d > 0 {
            if down {
                y -= 1;
                back.push(Line::New(y));
            } else {
                x -= 1;
                back.push(Line::Old(x));
            }
        }
    }
    back.reverse();
    back
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn looks_as_diffs_do() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
        let new = "a\nb\nc\nd\nE\nf\ng\nh\ni\nj\nk\nl\nm";
        assert_eq!(
            unified(old, new, "x.yaml"),
            "--- x.yaml\n+++ x.yaml (new)\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n\\ No newline at end of file\n"
        );
        assert_eq!(unified(old, old, "x"), "");
    }

    proptest! {
        #[test]
        fn applying_it_gives_the_new_text(old in "([ab]\n){0,12}", new in "([abc]\n){0,12}") {
            let (o, n): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
            let script = script(&o, &n);
            let applied: String = script.iter().filter_map(|l| match l { Line::Both(i, _) => Some(o[*i]), Line::New(i) => Some(n[*i]), Line::Old(_) => None }).collect();
            let undone: String = script.iter().filter_map(|l| match l { Line::Both(_, i) => Some(n[*i]), Line::Old(i) => Some(o[*i]), Line::New(_) => None }).collect();
            prop_assert_eq!((applied, undone), (new, old));
        }
    }
}
