//! The harnesses on the stable toolchain: plain bytes, bytes that look like requests, and seeds that reach far.

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::string::string_regex;

/// Pieces of requests, so that more than noise comes together.
const PIECES: [&str; 40] = [
    "GET\n",
    "PUT\n",
    "POST\n",
    "/",
    "/snapshots",
    "/{id}/blocks",
    "/changedblocks",
    "/completion/",
    "{id}",
    "?maxResults=100",
    "&pageToken=",
    "?firstSnapshotId={id}",
    "&startingBlockIndex=",
    "1e%2B05",
    "%",
    "%2",
    "\n",
    "\n\n",
    "authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260925/us-east-1/ebs/aws4_request, ",
    "SignedHeaders=host;x-amz-date, ",
    "Signature=0000000000000000000000000000000000000000000000000000000000000000",
    "\nhost: 127.0.0.1:8512",
    "\nx-amz-date: 20260925T115720Z",
    "\nx-amz-checksum: ",
    "x-amz-data-length: 524288",
    "\nx-amz-changedblockscount: 1",
    "{\"VolumeSize\":1",
    ",\"Tags\":[{\"Key\":\"k\"}]",
    ",\"Timeout\":60}",
    "null",
    "Action=DescribeSnapshots",
    "&Version=2016-11-15",
    "&Filter.1.Name=tag%3Aa",
    "&Filter.1.Value.1=*",
    "&MaxResults=5",
    "Action=CreateTags",
    "&ResourceId.1=",
    "&Tag.1.Key=a&Tag.1.Value=b",
    "&SnapshotId.1=snap-0",
    "&DryRun=true",
];

const PROFILES: [&str; 24] = [
    "[default]\n",
    "[profile a]\n",
    "[profile \"my own\"]\n",
    "[services s]\n",
    "[a]\n",
    "region = us-east-1\n",
    "region = cn-north-1\n",
    "region = ",
    "services = s\n",
    "ebs =\n  endpoint_url = http://h:1/p\n",
    "endpoint_url = ",
    "https://h\n",
    "use_fips_endpoint = true\n",
    "use_dualstack_endpoint = true\n",
    "aws_access_key_id = AKIA\n",
    "aws_secret_access_key = s\n",
    "credential_process = sh -c 'a \"b\" c'\n",
    "role_arn = r\n",
    "# comment\n",
    "\n\n",
    "\n",
    "  ",
    "=",
    "[",
];

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let word = string_regex("[ -~]{0,12}").expect("a good expression");
    let piece = prop_oneof![
        4 => (0..PIECES.len()).prop_map(|at| PIECES[at].as_bytes().to_vec()),
        1 => word.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

/// Pieces of answers, in JSON and XML.
const ANSWERS: [&str; 36] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    "null",
    "\"Blocks\":[",
    "\"ChangedBlocks\":[",
    "{\"BlockIndex\":1,\"BlockToken\":\"a\"}",
    "{\"BlockIndex\":2,\"SecondBlockToken\":\"\\u0041\"}",
    "{\"BlockIndex\":134217727,\"BlockToken\":\"",
    ",\"Checksum\":\"B4VNL+8pega6gWheZgwzLeNtXRjVRpJ9MNqtbX/aFUE=\"",
    ",\"FirstChecksum\":null",
    "\"NextToken\":\"\"",
    ",\"VolumeSize\":65536",
    ",\"BlockSize\":524288",
    "\"__type\":\"a#B:c\",",
    "\"message\":\"\\n\"",
    "\"Reason\":\"INVALID_BLOCK\"",
    "<DescribeSnapshotsResponse xmlns=\"u\">",
    "</DescribeSnapshotsResponse>",
    "<snapshotSet>",
    "</snapshotSet>",
    "<item>",
    "</item>",
    "<snapshotId>snap-0</snapshotId><status>pending</status>",
    "<description>&amp;&#65;<![CDATA[x]]></description>",
    "<tagSet><item><key>k</key><value/></item></tagSet>",
    "<drystone><rootDigest>00</rootDigest></drystone>",
    "<startTime>2026-09-25T11:57:20.570Z</startTime>",
    "<Response><Errors><Error><Code>A</Code><Message>&#10;</Message></Error></Errors></Response>",
    "<a:b c='d'/>",
    "<!-- -->",
    "<?xml version=\"1.0\"?>",
    "<!DOCTYPE a [<!ENTITY b \"c\">]>",
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
];

fn answers() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::sample::select(ANSWERS.as_slice()).prop_map(str::as_bytes);
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// Lines of the AWS tools' files, whole and broken.
fn profiles() -> impl Strategy<Value = Vec<u8>> {
    let word = string_regex("[ -~\n\t]{0,12}").expect("a good expression");
    let piece = prop_oneof![
        6 => (0..PROFILES.len()).prop_map(|at| PROFILES[at].as_bytes().to_vec()),
        1 => word.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
    ];
    let lines = vec(piece, 0..24).prop_map(|pieces| pieces.concat());
    lines.prop_map(|lines| [b"[default]\nregion = us-east-1\n", &lines[..]].concat())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn authorization(data in prop_oneof![requests(), bytes()]) {
        drystone_fuzz::authorization(&data);
    }

    #[test]
    fn canonical_request(data in prop_oneof![requests(), bytes()]) {
        drystone_fuzz::canonical_request(&data);
    }

    #[test]
    fn ebs_request(data in prop_oneof![requests(), bytes()]) {
        drystone_fuzz::ebs_request(&data);
    }

    #[test]
    fn query_body(choice in any::<u8>(), data in prop_oneof![requests(), bytes()]) {
        drystone_fuzz::query_body(&[&[choice], &data[..]].concat());
    }

    #[test]
    fn tokens(choice in 0..4_u8, data in vec(any::<u8>(), 0..120)) {
        drystone_fuzz::tokens(&[&[choice], &data[..]].concat());
    }

    #[test]
    fn tokens_with_one_letter_changed(kind in 0..2_u8, place in any::<u8>(), letter in "[A-Za-z0-9]") {
        drystone_fuzz::tokens(&[2 | kind, place, letter.as_bytes()[0]]);
    }

    #[test]
    fn client_config(data in prop_oneof![profiles(), bytes()]) {
        drystone_fuzz::client_config(&data);
    }

    #[test]
    fn client_listings(data in prop_oneof![answers(), bytes()]) {
        drystone_fuzz::client_listings(&data);
    }

    #[test]
    fn client_xml(data in prop_oneof![answers(), bytes()]) {
        drystone_fuzz::client_xml(&data);
    }

    #[test]
    fn client_journal(data in bytes()) {
        drystone_fuzz::client_journal(&data);
    }

    #[test]
    fn frame(data in bytes()) {
        drystone_fuzz::frame(&data);
    }

    #[test]
    fn page(data in bytes(), level in 0..5_u8) {
        drystone_fuzz::page(&data);
        let mut page = blockmap::empty_root().bytes.to_vec();
        let at = usize::from(level) % page.len();
        if let Some(&byte) = data.first() {
            page[at] ^= byte;
        }
        page.extend_from_slice(&data);
        drystone_fuzz::page(&page);
    }
}

proptest! {
    // Each case opens a store.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn segment_headers(data in bytes()) {
        drystone_fuzz::segment_headers(&data);
    }
}
