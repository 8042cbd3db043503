//! Losses: events that the tracer missed in time, or had no room for.

use super::{lines, ran};

#[test]
fn starved_start_is_reported() {
    let name = "starved-start-b-ctrd-k136.jsonl.zst";
    let all = lines(name, &[]);
    let losses: Vec<_> = all.iter().filter(|line| line["type"] == "loss").collect();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!(losses[0]["what"], "late-start");
    let took = losses[0]["count"].as_u64().expect("milliseconds");
    assert!((175_000..190_000).contains(&took), "{took} ms");
    let end = all.last().expect("an end");
    assert_eq!(end["totals"]["lost"]["late-start"], took);
    let tree = ran(name, &["replay", "FILE"]).stdout;
    assert!(!tree.contains("no event lost"), "{tree}");
    assert!(tree.contains("the start took 3 min 1 s (late-start)"), "{tree}");
}
