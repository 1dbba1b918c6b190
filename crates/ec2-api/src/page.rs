//! Pages of a listing: how much one answer may hold, and the token for the rest.
//!
//! A page token is stateless. It holds a position and proves that it belongs to this listing: the same action, account and
//! parameters but for `MaxResults`. Nothing in it is secret and nothing is gained by forging one, since it only says where
//! in the caller's own snapshots to go on; so its check is a plain digest, and tokens outlive a restart and hold for every
//! server.
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1     16  SHA-256 of the listing's digest and the position, its first half
//!     17      n  position; what is in it is up to the listing
//! ```
//!
//! The token is that in base 64 with the URL's alphabet and no padding.

use crate::error::{ApiError, Code};
use crate::query::Parameters;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use types::{AccountId, Digest, DigestContext};

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 16;

/// Longest token read: a position holds a tag's key at most.
const TOKEN_CHARS_MAX: usize = 2_048;

/// The smallest and the largest page that can be asked for (SPEC 7.3).
const MAX_RESULTS: std::ops::RangeInclusive<usize> = 5..=1_000;

/// Items of an answer without `MaxResults`. What is over gets a token even then.
const UNPAGED_ITEMS_MAX: usize = 100_000;

/// Snapshots that one call looks at, when filters refuse most of them.
const SCANNED_MAX: usize = 100_000;

/// The same, with `MaxResults`: such a call promises to be quick.
const PAGED_SCANNED_MAX: usize = 10_000;

/// Bytes of one answer, after which no further item is begun.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What an answer may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// Items in the answer.
    pub(crate) items: usize,
    /// Snapshots looked at.
    pub(crate) scanned: usize,
    /// Bytes of XML.
    pub(crate) bytes: usize,
}

/// What a request says about pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    /// Whether `MaxResults` is given.
    pub(crate) is_sized: bool,
    /// The position to go on from.
    pub(crate) position: Option<Vec<u8>>,
    /// What this answer may hold.
    pub(crate) bounds: Bounds,
    listing: Digest,
}

impl Page {
    /// Takes `MaxResults` and `NextToken`. To be called while all other parameters are still there.
    pub(crate) fn take(
        action: &str,
        account: AccountId,
        parameters: &mut Parameters,
    ) -> Result<Page, ApiError> {
        let max_results = parameters
            .take("MaxResults")
            .map(|text| max_results(&text))
            .transpose()?;
        let token = parameters
            .take("NextToken")
            .filter(|token| !token.is_empty());
        let listing = digest(action, account, parameters);
        let position = token.map(|token| read(&token, &listing)).transpose()?;
        let bounds = Bounds {
            items: max_results.unwrap_or(UNPAGED_ITEMS_MAX),
            scanned: if max_results.is_some() {
                PAGED_SCANNED_MAX
            } else {
                SCANNED_MAX
            },
            bytes: ANSWER_BYTES_MAX,
        };
        Ok(Page {
            is_sized: max_results.is_some(),
            position,
            bounds,
            listing,
        })
    }

    /// The token for going on from this position.
    pub(crate) fn token(&self, position: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&check(&self.listing, position));
        bytes.extend_from_slice(position);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// The error for a token that is not of this listing.
pub(crate) fn invalid_token() -> ApiError {
    ApiError::new(
        Code::InvalidPaginationToken,
        "The specified pagination token is not valid for this request.",
    )
}

fn max_results(text: &str) -> Result<usize, ApiError> {
    let number = text
        .parse()
        .ok()
        .filter(|number| MAX_RESULTS.contains(number));
    number.ok_or_else(|| {
        ApiError::invalid("maxResults", text, "Expecting a value between 5 and 1000.")
    })
}

/// The digest of what makes a listing: each text with its length before it, so that no two sets read the same.
fn digest(action: &str, account: AccountId, parameters: &Parameters) -> Digest {
    let mut context = DigestContext::new();
    context.update(b"drystone ec2 listing 1");
    context.update(&account.number().to_le_bytes());
    let mut add = |text: &str| {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    };
    add(action);
    for (name, value) in parameters.iter().filter(|(name, _)| *name != "DryRun") {
        add(name);
        add(value);
    }
    context.finish()
}

fn check(listing: &Digest, position: &[u8]) -> [u8; CHECK_BYTES] {
    let mut context = DigestContext::new();
    context.update(listing.as_bytes());
    context.update(position);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&context.finish().as_bytes()[..CHECK_BYTES]);
    check
}

fn read(token: &str, listing: &Digest) -> Result<Vec<u8>, ApiError> {
    if token.len() > TOKEN_CHARS_MAX {
        return Err(invalid_token());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid_token())?;
    let (&version, rest) = bytes.split_first().ok_or_else(invalid_token)?;
    let (found, position) = rest
        .split_first_chunk::<CHECK_BYTES>()
        .ok_or_else(invalid_token)?;
    if version != VERSION || *found != check(listing, position) {
        return Err(invalid_token());
    }
    Ok(position.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Source;
    use proptest::prelude::{any, proptest};

    fn page(account: u64, action: &str, form: &str) -> Result<Page, ApiError> {
        let mut parameters = Parameters::default();
        parameters.read(form.as_bytes(), Source::Form).unwrap();
        Page::take(
            action,
            AccountId::from_number(account).unwrap(),
            &mut parameters,
        )
    }

    #[test]
    fn a_token_holds_for_its_listing_alone() {
        let token = page(1, "A", "Filter.1.Name=a&MaxResults=5")
            .unwrap()
            .token(b"here");
        let again = |account, action, form: &str| {
            page(account, action, &format!("{form}&NextToken={token}")).map(|page| page.position)
        };
        let here = Ok(Some(b"here".to_vec()));
        assert_eq!(again(1, "A", "Filter.1.Name=a&MaxResults=5"), here);
        assert_eq!(
            again(1, "A", "Filter.1.Name=a&MaxResults=1000&DryRun=true"),
            here
        );
        assert_eq!(again(1, "A", "Filter.1.Name=a"), here);
        for (account, action, form) in [
            (2, "A", "Filter.1.Name=a"),
            (1, "B", "Filter.1.Name=a"),
            (1, "A", "Filter.1.Name=b"),
            (1, "A", "x="),
        ] {
            assert_eq!(again(account, action, form), Err(invalid_token()));
        }
    }

    #[test]
    fn the_bytes_of_a_token_are_version_1() {
        let token = page(123_456_789_012, "DescribeTags", "")
            .unwrap()
            .token(&7_u64.to_be_bytes());
        assert_eq!(token, "AePtvMtZXF-sZffBOd-RTTwAAAAAAAAABw");
    }

    #[test]
    fn sizes_of_pages_are_bounded() {
        for size in ["4", "1001", "-5", "x", "", "99999999999999999999"] {
            let error = page(1, "A", &format!("MaxResults={size}")).unwrap_err();
            assert_eq!(error.code, Code::InvalidParameterValue);
            let text = format!(
                "Value ({size}) for parameter maxResults is invalid. Expecting a value between 5 and 1000."
            );
            assert_eq!(error.message, text);
        }
        for size in [5, 1000] {
            assert_eq!(
                page(1, "A", &format!("MaxResults={size}"))
                    .unwrap()
                    .bounds
                    .items,
                size
            );
        }
        assert!(!page(1, "A", "NextToken=").unwrap().is_sized);
    }

    proptest! {
        #[test]
        fn other_tokens_are_refused(text in "[A-Za-z0-9_+/=-]{1,60}") {
            assert_eq!(page(1, "A", &format!("NextToken={}", text.replace('+', "%2B"))), Err(invalid_token()));
        }

        #[test]
        fn an_altered_token_is_refused(at in any::<usize>(), to in "[A-Za-z0-9]") {
            let token = page(1, "A", "").unwrap().token(b"position");
            let at = at % token.len();
            let mut altered = token.clone();
            altered.replace_range(at..=at, &to);
            let read = page(1, "A", &format!("NextToken={altered}"));
            assert_eq!(read.is_ok(), altered == token);
        }
    }
}
