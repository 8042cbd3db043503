//! Writes docs/metrics.md from the table that registers the metrics: `cargo xtask docs [--check]`.

use std::{error::Error, fs, path::Path};

use execpath::metrics::{FAMILIES, Family, Shape, Values};

const INTRO: &str = "# Metrics

`execpath trace`, `record` and `agent` serve metrics with `--metrics ADDR`: OpenMetrics with exemplars to a scraper that asks for it, else
Prometheus's text format. Made by `cargo xtask docs` from the table that registers the metrics.

* The endpoint has no authentication and no TLS. Serve it on loopback, or where a network policy guards it.
* `/metrics` has the metrics, `/healthz` answers while the process serves, `/readyz` once the probes are attached or this host is known to
  allow no trace.
* All sessions are counted, whatever the filters of the command. No label names a pod, a command or a user; `execpath ls` does.
* The number of series is bounded for each family and in all, whatever is traced: a value beyond the bound of its label becomes `other`.
* At most sixteen connections at a time, each for at most fifteen seconds and one request.
* Histograms are classic: a scrape as text has no native ones.

Alert rules with their tests, and a dashboard for Grafana, are in [packaging/monitoring](../packaging/monitoring).

";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let check = match words.as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("--check or nothing".into()),
    };
    let page = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if !check {
        return Ok(fs::write(path, page)?);
    }
    if fs::read_to_string(path)? == page {
        Ok(())
    } else {
        Err("docs/metrics.md is not what the table says: cargo xtask docs".into())
    }
}

fn page() -> String {
    let sum: usize = FAMILIES.iter().map(|family| family.most()).sum();
    let mut page = format!(
        "{INTRO}## Families\n\nAt most {sum} series together.\n\n| name | type | labels | series | meaning |\n|---|---|---|---|---|\n"
    );
    for family in FAMILIES {
        page += &row(family);
    }
    page += "\n## Labels\n\n| family | label | values |\n|---|---|---|\n";
    for family in FAMILIES {
        for label in family.labels {
            let values = match label.values {
                Values::Fixed(values) => {
                    values().iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" ")
                }
                Values::First(most) => format!("the first {most} that appear"),
            };
            page += &format!("| `{}` | `{}` | {values} |\n", family.shown(), label.name);
        }
    }
    page += "\n## Buckets\n\n| family | bounds in seconds |\n|---|---|\n";
    for family in FAMILIES {
        if let Shape::Histogram(bounds) = family.shape {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            page += &format!("| `{}` | {} |\n", family.name, bounds.join(", "));
        }
    }
    page
}

fn row(family: &Family) -> String {
    let kind = match family.shape {
        Shape::Counter => "counter",
        Shape::Gauge => "gauge",
        Shape::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{}`", label.name)).collect();
    format!("| `{}` | {kind} | {} | {} | {} |\n", family.shown(), labels.join(", "), family.most(), family.help)
}
