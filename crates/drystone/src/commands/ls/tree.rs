//! Snapshots below their parents.
//!
//! ```text
//! snap-1            a snapshot without a parent, or whose parent is gone
//! ├─ snap-2         snapshots that share a parent
//! │  ↓ snap-3       the only child of the line above stays in its column: a chain of a thousand is no wider than one of two
//! │  ↓ snap-4
//! └─ snap-5
//! ```

use client::SnapshotId;
use client::api::Description;
use std::collections::HashMap;

/// The order in which snapshots are shown, as places in `all`, and the name of each with its branches before it.
pub fn arrange(all: &[Description]) -> (Vec<usize>, Vec<String>) {
    let places: HashMap<&SnapshotId, usize> = all
        .iter()
        .enumerate()
        .map(|(place, told)| (&told.id, place))
        .collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); all.len()];
    let mut roots = Vec::new();
    for (place, told) in all.iter().enumerate() {
        let parent = told.lineage.as_ref().and_then(|told| told.parent.as_ref());
        match parent.and_then(|parent| places.get(parent)) {
            // What says that it is its own parent must not disappear.
            Some(parent) if *parent != place => children[*parent].push(place),
            _ => roots.push(place),
        }
    }
    let (mut order, mut names) = (Vec::new(), Vec::new());
    // A stack of our own: lineages may be deep.
    let mut next: Vec<Line> = roots.into_iter().rev().map(Line::root).collect();
    while let Some(line) = next.pop() {
        order.push(line.place);
        names.push(format!(
            "{}{}{}",
            line.before, line.mark, all[line.place].id
        ));
        let below = &children[line.place];
        for (nth, child) in below.iter().enumerate().rev() {
            next.push(line.child(*child, below.len(), nth + 1 == below.len()));
        }
    }
    (order, names)
}

/// A line to come: what stands before its mark, and before those of its children.
struct Line {
    place: usize,
    before: String,
    mark: &'static str,
    below: String,
}

impl Line {
    fn root(place: usize) -> Line {
        Line {
            place,
            before: String::new(),
            mark: "",
            below: String::new(),
        }
    }

    fn child(&self, place: usize, siblings: usize, last: bool) -> Line {
        let before = self.below.clone();
        let (mark, more) = match (siblings, last) {
            (1, _) => ("↓ ", ""),
            (_, false) => ("├─ ", "│  "),
            (_, true) => ("└─ ", "   "),
        };
        let below = format!("{before}{more}");
        Line {
            place,
            before,
            mark,
            below,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;

    fn check(snapshots: &[(&str, Option<&str>)], lines: &[&str]) {
        let all: Vec<Description> = snapshots
            .iter()
            .map(|(id, parent)| told(id, *parent))
            .collect();
        let (order, names) = arrange(&all);
        assert_eq!(names, lines);
        for (place, name) in order.iter().zip(&names) {
            assert!(name.ends_with(all[*place].id.as_str()));
        }
    }

    #[test]
    fn branches_are_indented_and_chains_are_not() {
        check(
            &[
                ("snap-1", None),
                ("snap-2", Some("snap-1")),
                ("snap-3", Some("snap-2")),
                ("snap-4", Some("snap-3")),
                ("snap-5", Some("snap-1")),
                ("snap-6", Some("snap-5")),
                ("snap-7", None),
                ("snap-8", Some("snap-7")),
            ],
            &[
                "snap-1",
                "├─ snap-2",
                "│  ↓ snap-3",
                "│  ↓ snap-4",
                "└─ snap-5",
                "   ↓ snap-6",
                "snap-7",
                "↓ snap-8",
            ],
        );
    }

    #[test]
    fn without_its_parent_a_snapshot_stands_alone() {
        check(
            &[("snap-2", Some("snap-1")), ("snap-3", Some("snap-3"))],
            &["snap-2", "snap-3"],
        );
    }

    #[test]
    fn a_long_chain_fits() {
        let ids: Vec<String> = (1..=10_000).map(|n| format!("snap-{n:x}")).collect();
        let all: Vec<Description> = ids
            .iter()
            .enumerate()
            .map(|(nth, id)| told(id, nth.checked_sub(1).map(|parent| ids[parent].as_str())))
            .collect();
        let (order, names) = arrange(&all);
        assert_eq!(order.len(), 10_000);
        assert_eq!(names[9_999], "↓ snap-2710");
    }
}
