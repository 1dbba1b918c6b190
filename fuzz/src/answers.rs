//! What the client reads of servers: whatever comes, it is an answer that makes sense or an error.

use client::api::answers;
use types::BlockIndex;

/// JSON: the two listings, and errors. Indexes ascend, and a changed block has a side.
pub fn client_listings(data: &[u8]) {
    if let Ok(page) = answers::list_snapshot_blocks(data) {
        assert_ascending(page.blocks.iter().map(|block| block.index));
        assert_ne!(page.next.as_deref(), Some(""));
    }
    if let Ok(page) = answers::list_changed_blocks(data) {
        assert_ascending(page.blocks.iter().map(|block| block.index));
        let has_side =
            |block: &client::api::ChangedBlock| block.first.is_some() || block.second.is_some();
        assert!(page.blocks.iter().all(has_side));
    }
    assert_printable(data);
}

/// XML: descriptions, the caller's account, and errors.
pub fn client_xml(data: &[u8]) {
    if let Ok(descriptions) = answers::describe_snapshots(data) {
        // Nothing is expanded: what is read is no longer than what came.
        let chars: usize = descriptions
            .iter()
            .map(|found| found.description.len() + found.owner.len())
            .sum();
        assert!(chars <= data.len());
    }
    if let Ok(account) = answers::get_caller_identity(data) {
        assert!(!account.is_empty() && account.len() <= data.len());
    }
    assert_printable(data);
}

/// Errors are shown on terminals.
fn assert_printable(data: &[u8]) {
    for refusal in answers::errors(data).into_iter().flatten() {
        let text = refusal.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() < 16 * 1024);
    }
}

fn assert_ascending(indexes: impl Iterator<Item = BlockIndex>) {
    let mut last = None;
    for index in indexes {
        assert!(last < Some(index));
        last = Some(index);
    }
}
