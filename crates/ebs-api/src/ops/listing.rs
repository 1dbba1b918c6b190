//! What the two listings share: paging, and where it goes on; checksums of blocks, where a client asks for them (docs/wire.md, Extensions).

use crate::Shared;
use crate::constraints::Constraints;
use crate::error::ApiError;
use crate::page_token::{self, Listing};
use crate::parameters::Parameters;
use auth::Caller;
use engine::Admitted;
use types::limits::LIST_RESULTS_MAX;
use types::{BlockIndex, Digest};

/// Items written between two chances for other tasks to run.
pub(super) const ITEMS_PER_TURN: usize = 1_024;

/// Bytes of a checksum in its quotes.
pub(super) const QUOTED_CHECKSUM: usize = super::CHECKSUM_CHARS + 2;

/// The paging parameters of a request.
pub(super) struct Paging<'a> {
    token: Option<&'a str>,
    max_results: Option<i64>,
    starting_block_index: Option<i64>,
}

/// Whether the items of a listing have checksums: members that AWS does not have, for a parameter that it ignores. They tell what blocks
/// hold, so who may not read gets none.
pub(super) struct Checksums<'a> {
    algorithm: Option<&'a str>,
    told: bool,
}

impl<'a> Checksums<'a> {
    /// Reads what is asked for.
    pub(super) fn read(parameters: &'a Parameters<'_>, caller: &Caller) -> Checksums<'a> {
        let algorithm = parameters.query("checksumAlgorithm");
        Checksums {
            algorithm,
            told: algorithm.is_some() && super::may_read_blocks(caller),
        }
    }

    /// There is one algorithm.
    pub(super) fn check(&self, constraints: &mut Constraints) {
        constraints.one_of("checksumAlgorithm", self.algorithm, &["SHA256"]);
    }

    /// The bytes that they add to an item, where they are told.
    pub(super) fn chars(&self, members: usize) -> usize {
        if self.told { members } else { 0 }
    }

    /// Appends the checksum of a block, or `null` where there is none, after the name of its member; nothing where they are not told.
    pub(super) fn write(&self, member: &[u8], digest: Option<&Digest>, out: &mut Vec<u8>) {
        if !self.told {
            return;
        }
        out.extend_from_slice(member);
        match digest {
            None => out.extend_from_slice(b"null"),
            Some(digest) => {
                out.push(b'"');
                super::append_checksum(digest, out);
                out.push(b'"');
            }
        }
    }
}

/// Where a listing begins.
pub(super) enum Begin {
    /// At this block.
    At(BlockIndex),
    /// Beyond the largest volume: nothing is listed.
    Beyond,
    /// The page token does not fit.
    InvalidToken,
}

impl<'a> Paging<'a> {
    /// Reads them.
    pub(super) fn read(parameters: &'a Parameters<'_>) -> Result<Paging<'a>, ApiError> {
        Ok(Paging {
            token: parameters.query("pageToken"),
            max_results: parameters.query_integer("maxResults", "maxResults")?,
            starting_block_index: parameters
                .query_integer("startingBlockIndex", "startingBlockIndex")?,
        })
    }

    /// Their constraints, in the model's order.
    pub(super) fn check(&self, constraints: &mut Constraints) {
        constraints.token("nextToken", self.token);
        constraints.within("maxResults", self.max_results, 100, LIST_RESULTS_MAX as i64);
        constraints.at_least("startingBlockIndex", self.starting_block_index, 0);
    }

    /// Most items of the page.
    pub(super) fn limit(&self, api: &Shared) -> usize {
        let asked = self.max_results.and_then(|max| usize::try_from(max).ok());
        asked
            .unwrap_or(api.options.max_results_default)
            .clamp(1, LIST_RESULTS_MAX)
    }

    /// Memory for a page with items of at most so many bytes.
    pub(super) async fn room(
        &self,
        api: &Shared,
        caller: &Caller,
        item_bytes_max: usize,
    ) -> Result<Admitted, ApiError> {
        let bytes = self.limit(api) * item_bytes_max;
        api.admissions.answer(&caller.access_key_id, bytes).await
    }

    /// Where to begin; a page token makes the starting block index irrelevant (SPEC 3.10).
    pub(super) fn begin(&self, api: &Shared, listing: Listing) -> Begin {
        if let Some(token) = self.token {
            let next = page_token::open(token, &api.token_keys, api.clock.now(), listing);
            return next.map_or(Begin::InvalidToken, Begin::At);
        }
        let start = u32::try_from(self.starting_block_index.unwrap_or(0)).ok();
        start
            .and_then(BlockIndex::new)
            .map_or(Begin::Beyond, Begin::At)
    }

    /// The error of a token that does not fit.
    pub(super) fn invalid_token(&self) -> ApiError {
        ApiError::page_token(self.token.unwrap_or_default())
    }
}

/// The page token for `next` in quotes, or `null` at the end.
pub(super) fn next_token(api: &Shared, listing: Listing, next: Option<BlockIndex>) -> String {
    let token = next
        .map(|next| page_token::make(&api.token_keys, &api.random, api.clock.now(), listing, next));
    token.map_or_else(|| "null".to_owned(), |token| format!("\"{token}\""))
}
