//! What AWS charges for the calls of the EBS direct APIs.

/// Where the prices hold, and who says so today. Other regions differ by a few percent.
pub const HOLD_FOR: &str =
    "us-east-1, as its user guide gave them (today's: aws.amazon.com/ebs/pricing)";

/// Dollars for a thousand calls; nothing for those that are free: starting, completing, and all of EC2 (SPEC 3.17).
pub fn for_a_thousand(operation: &str) -> Option<f64> {
    match operation {
        "ListSnapshotBlocks" | "ListChangedBlocks" => Some(0.0006),
        "GetSnapshotBlock" => Some(0.003),
        "PutSnapshotBlock" => Some(0.006),
        _ => None,
    }
}

/// Dollars for so many calls.
pub fn of(operation: &str, calls: u64) -> f64 {
    for_a_thousand(operation).unwrap_or(0.0) * calls as f64 / 1000.0
}

/// Whether an endpoint is one of AWS's.
pub fn are_charged_by(endpoint: &str) -> bool {
    let host = endpoint.split("://").last().unwrap_or_default();
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let labels: Vec<&str> = host.split('.').collect();
    labels.windows(2).any(|pair| {
        pair[0] == "amazonaws" || pair == ["api", "aws"] || pair == ["api", "amazonwebservices"]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_for_blocks_and_pages() {
        assert_eq!(of("PutSnapshotBlock", 1_000_000), 6.0);
        assert_eq!(of("GetSnapshotBlock", 2_000), 0.006);
        assert_eq!(of("ListChangedBlocks", 1_000), 0.0006);
        assert_eq!(of("StartSnapshot", 1_000), 0.0);
    }

    #[test]
    fn aws_is_known_by_its_names() {
        let check =
            |endpoint: &str, expected| assert_eq!(are_charged_by(endpoint), expected, "{endpoint}");
        check("https://ebs.eu-west-1.amazonaws.com", true);
        check("https://ebs.cn-north-1.amazonaws.com.cn:443/", true);
        check("https://ebs.eu-west-1.api.aws", true);
        check("http://127.0.0.1:7070", false);
        check("https://snapshots.example.org/amazonaws.com", false);
    }
}
