//! Which operation a method and a path mean (SPEC 2).
//!
//! ```text
//! POST /snapshots                              StartSnapshot
//! PUT  /snapshots/{id}/blocks/{index}          PutSnapshotBlock
//! POST /snapshots/completion/{id}              CompleteSnapshot
//! GET  /snapshots/{id}/blocks/{index}          GetSnapshotBlock
//! GET  /snapshots/{id}/blocks                  ListSnapshotBlocks
//! GET  /snapshots/{id}/changedblocks           ListChangedBlocks
//! ```
//!
//! Segments are compared exactly as sent: two paths that a signature takes for one (dot segments, doubled slashes) never
//! reach an operation, because an empty segment or a dot is no part of any route.

use http::Method;

/// An operation and its labels, still percent-encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route<'a> {
    StartSnapshot,
    PutSnapshotBlock { snapshot: &'a str, index: &'a str },
    CompleteSnapshot { snapshot: &'a str },
    GetSnapshotBlock { snapshot: &'a str, index: &'a str },
    ListSnapshotBlocks { snapshot: &'a str },
    ListChangedBlocks { second: &'a str },
}

impl Route<'_> {
    /// The operation's name, as metrics and logs show it.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Route::StartSnapshot => "StartSnapshot",
            Route::PutSnapshotBlock { .. } => "PutSnapshotBlock",
            Route::CompleteSnapshot { .. } => "CompleteSnapshot",
            Route::GetSnapshotBlock { .. } => "GetSnapshotBlock",
            Route::ListSnapshotBlocks { .. } => "ListSnapshotBlocks",
            Route::ListChangedBlocks { .. } => "ListChangedBlocks",
        }
    }
}

/// The operation of this method and path, if there is one.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Option<Route<'a>> {
    let mut segments = path.strip_prefix("/snapshots")?.split('/');
    if !segments.next()?.is_empty() {
        return None;
    }
    let labels: Vec<&str> = segments.take(4).collect();
    if labels
        .iter()
        .any(|label| label.is_empty() || matches!(*label, "." | ".."))
    {
        return None;
    }
    match (method.as_str(), labels.as_slice()) {
        ("POST", []) => Some(Route::StartSnapshot),
        ("POST", ["completion", snapshot]) => Some(Route::CompleteSnapshot { snapshot }),
        ("PUT", [snapshot, "blocks", index]) => Some(Route::PutSnapshotBlock { snapshot, index }),
        ("GET", [snapshot, "blocks", index]) => Some(Route::GetSnapshotBlock { snapshot, index }),
        ("GET", [snapshot, "blocks"]) => Some(Route::ListSnapshotBlocks { snapshot }),
        ("GET", [second, "changedblocks"]) => Some(Route::ListChangedBlocks { second }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, expected: Option<Route<'_>>) {
        assert_eq!(route(&method, path), expected, "{method} {path}");
    }

    #[test]
    fn every_operation_has_its_route() {
        check(Method::POST, "/snapshots", Some(Route::StartSnapshot));
        check(
            Method::PUT,
            "/snapshots/s/blocks/1",
            Some(Route::PutSnapshotBlock {
                snapshot: "s",
                index: "1",
            }),
        );
        check(
            Method::POST,
            "/snapshots/completion/s",
            Some(Route::CompleteSnapshot { snapshot: "s" }),
        );
        check(
            Method::GET,
            "/snapshots/s/blocks/1",
            Some(Route::GetSnapshotBlock {
                snapshot: "s",
                index: "1",
            }),
        );
        check(
            Method::GET,
            "/snapshots/s/blocks",
            Some(Route::ListSnapshotBlocks { snapshot: "s" }),
        );
        check(
            Method::GET,
            "/snapshots/s/changedblocks",
            Some(Route::ListChangedBlocks { second: "s" }),
        );
    }

    #[test]
    fn anything_else_has_none() {
        for path in [
            "/",
            "",
            "/snapshot",
            "/snapshotsx",
            "/snapshots/s",
            "/snapshots/s/blocks/1/2",
            "/snapshots//blocks",
            "/snapshots/./blocks",
            "/snapshots/../snapshots",
            "/a/snapshots",
            "/snapshots/s/changedblocks/1",
            "/snapshots/s/blocks/",
            "/snapshots/s/block",
        ] {
            check(Method::GET, path, None);
        }
        check(Method::GET, "/snapshots", None);
        check(Method::DELETE, "/snapshots/s", None);
        check(Method::HEAD, "/snapshots/s/blocks/1", None);
        check(Method::POST, "/snapshots/", None);
        check(Method::PUT, "/snapshots/completion/s", None);
        check(Method::POST, "/snapshots/s/blocks/1", None);
    }
}
