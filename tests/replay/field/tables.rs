//! What the tracer could not see in time, or had no room for.

use super::{lines, ran};

#[test]
fn starved_start_is_reported() {
    let name = "starved-start-b-ctrd-k136.jsonl.zst";
    let all = lines(name, &[]);
    let losses: Vec<_> = all.iter().filter(|line| line["type"] == "loss").collect();
    assert_eq!(losses.len(), 2, "when it is known, and at its end: {losses:?}");
    assert!(losses.iter().all(|loss| loss["what"] == "late-start"), "{losses:?}");
    let took = losses[1]["count"].as_u64().expect("milliseconds");
    assert!((175_000..190_000).contains(&took), "{took} ms");
    let end = all.last().expect("an end");
    assert_eq!(end["totals"]["lost"]["late-start"], took, "the longest delay, not a sum");
    let tree = ran(name, &["replay", "FILE"]).stdout;
    assert!(!tree.contains("no event lost"), "{tree}");
    assert!(tree.contains("the start took 3 min 1 s (late-start)"), "{tree}");
}
