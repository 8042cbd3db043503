//! Facts of the guests, as their doctors reported them: the plans of tests/hosts are tested.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Ran;
use crate::repo::root;

/// Folder of the facts.
const FOLDER: &str = "tests/hosts";

/// Writes the facts of the guests that ran.
pub(super) fn write(ran: &[Ran]) -> Result<()> {
    for Ran { guest, reports, .. } in ran {
        let doctor = reports.jobs.iter().find(|job| job.name == "doctor");
        let Some(facts) = doctor.and_then(|job| facts(&job.output)) else { continue };
        let file = root().join(FOLDER).join(format!("debian-{}.json", guest.name));
        fs::write(&file, facts).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Facts of a report, without the name of the guest and of its boot.
fn facts(report: &str) -> Option<String> {
    let mut report: Value = serde_json::from_str(report).ok()?;
    let host = report.get_mut("host")?.as_object_mut()?;
    host.insert("hostname".to_owned(), json!("node-1"));
    host.insert("boot_id".to_owned(), json!("00000000-0000-4000-8000-000000000001"));
    Some(serde_json::to_string_pretty(host).ok()? + "\n")
}

#[cfg(test)]
mod tests {
    use super::facts;

    #[test]
    fn facts_name_no_boot() {
        let report = r#"{"v":1,"host":{"hostname":"guest","kernel":"6.1","boot_id":"x"},"ready":true}"#;
        let text = facts(report).expect("facts");
        assert!(text.contains("\"kernel\": \"6.1\"") && text.contains("node-1") && !text.contains("guest"), "{text}");
        assert_eq!(facts("no report"), None);
    }
}
