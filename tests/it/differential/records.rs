//! Texts that say what another builder makes of each case (`GROUP.buildkit`), and where we differ on purpose.

use super::bench::Outcome;
use super::cases::{Case, DIR, sections};
use crate::support::bases::project;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

/// A builder whose images are recorded: `GROUP.NAME` and `NAME-differences.txt`.
#[derive(Clone, Copy)]
pub struct Peer(pub &'static str);

pub const BUILDKIT: Peer = Peer("buildkit");
pub const BUILDAH: Peer = Peer("buildah");

impl Peer {
    /// Differences from the records that are meant, each with its reason.
    pub fn list(self) -> String {
        format!("{DIR}/{}-differences.txt", self.0)
    }
}

/// Outcomes by the names of the cases.
pub type Records = BTreeMap<String, Outcome>;

/// All records of a list of cases.
pub fn read(peer: Peer, cases: &[Case]) -> Records {
    let mut records = Records::new();
    for group in groups(cases) {
        let text = fs::read_to_string(project(DIR).join(format!("{group}.{}", peer.0)));
        for (name, body) in sections(&text.unwrap_or_default(), "=== ") {
            let lines = body.lines().filter(|line| !line.is_empty()).map(str::to_owned);
            records.insert(name.to_owned(), lines.collect());
        }
    }
    records
}

/// Writes the records of all cases, one file a group.
pub fn write(peer: Peer, cases: &[Case], records: &Records) {
    for group in groups(cases) {
        let mut text = String::new();
        for case in cases.iter().filter(|case| case.group == group) {
            if let Some(outcome) = records.get(&case.name) {
                writeln!(text, "=== {}\n{}", case.name, outcome.join("\n")).unwrap();
            }
        }
        fs::write(project(DIR).join(format!("{group}.{}", peer.0)), text).unwrap();
    }
}

fn groups(cases: &[Case]) -> Vec<&str> {
    let mut groups: Vec<&str> = cases.iter().map(|case| case.group.as_str()).collect();
    groups.dedup();
    groups
}

/// The blocks of the list of allowed differences: lines with `-` and `+` by case. A block without a reason is no block.
pub fn allowed(peer: Peer) -> BTreeMap<String, String> {
    let list = peer.list();
    let text = fs::read_to_string(project(&list)).unwrap();
    let blocks = sections(&text, "=== ").into_iter().map(|(name, body)| {
        let (reasons, lines): (Vec<&str>, Vec<&str>) =
            body.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
        assert!(!reasons.is_empty(), "{list}: `{name}` has no reason");
        (name.to_owned(), lines.join("\n"))
    });
    blocks.collect()
}

/// `-` lines that only the first has, `+` lines that only the second has, in order. Why a build fails is not compared.
pub fn difference(theirs: &[String], ours: &[String]) -> String {
    let key =
        |line: &String| if line.starts_with("fails: ") { "fails".to_owned() } else { line.clone() };
    let (a, b): (Vec<String>, Vec<String>) =
        (theirs.iter().map(key).collect(), ours.iter().map(key).collect());
    // Length of the longest common part of a[i..] and b[j..].
    let mut common = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", theirs[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", ours[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

#[test]
fn a_difference_keeps_the_order_and_forgets_why_a_build_fails() {
    let list = |text: &str| text.lines().map(str::to_owned).collect::<Vec<String>>();
    assert_eq!(difference(&list("a\nb\nc"), &list("b\nd\nc")), "- a\n+ d");
    assert_eq!(difference(&list("a\nb"), &list("b\na")), "- a\n+ a");
    assert_eq!(difference(&list("fails: x"), &list("fails: y")), "");
}
