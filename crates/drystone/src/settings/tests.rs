//! What a settings file may say, and how each wrong one is refused.

use super::{
    ByteSize, Compression, Dedup, Every, LogFormat, Overrides, Settings, SignedChecksum, Span,
};
use std::path::PathBuf;

fn parse(text: &str) -> Result<Settings, String> {
    let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
    settings.check().map_err(|error| error.to_string())?;
    Ok(settings)
}

fn refused(text: &str, because: &str) {
    let error = parse(text).expect_err(text);
    assert!(error.contains(because), "{text}: {error}");
}

#[test]
fn the_example_file_shows_the_defaults_and_all_of_them() {
    let example = include_str!("../../../../docs/drystone.toml");
    assert_eq!(parse(example), Ok(Settings::default()));
    let table: toml::Table = example.parse().expect("the example is TOML");
    let count = |table: &toml::Table| table.values().filter(|value| !value.is_table()).count();
    let nested: usize = table
        .values()
        .filter_map(|value| value.as_table())
        .map(count)
        .sum();
    assert_eq!(
        count(&table) + nested,
        20,
        "the example names every setting"
    );
    assert!(example.lines().count() <= 66, "the example fits on a page");
}

/// A table row for each setting, with its default.
#[test]
fn the_operations_page_has_every_setting_with_its_default() {
    let example = include_str!("../../../../docs/drystone.toml");
    let page = include_str!("../../../../docs/operations.md");
    let (_, page) = page.split_once("\n## Settings\n").expect("a section");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let (mut section, mut expected) = (String::new(), Vec::new());
    for line in example.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.replace(']', ".");
        } else if let Some((key, value)) = line.split_once(" = ") {
            expected.push(format!("| `{section}{key}` | `{value}` | "));
        }
    }
    for begin in &expected {
        let found = rows.iter().filter(|row| row.starts_with(begin)).count();
        assert_eq!(found, 1, "no row `{begin}`");
    }
    assert_eq!(
        rows.len(),
        expected.len(),
        "a row for something that is no setting"
    );
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(parse(""), Ok(Settings::default()));
}

#[test]
fn every_setting_can_be_set() {
    let settings = parse(
        r#"
        listen = "[::1]:0"
        data = "/srv/drystone"
        region = "eu-central-1"
        [log]
        format = "json"
        filter = "warn"
        [http]
        connections_max = 10
        idle_timeout = "5 m"
        stop_timeout = "0 s"
        max_results_default = 100
        [auth]
        clock_skew = "15 m"
        signed_checksum = "required"
        [store]
        dedup = "store"
        compression = "zstd:3"
        reserve = "10 GiB"
        buffers = 16
        [cache]
        pages = "1 GiB"
        catalog = "8 MiB"
        [collection]
        every = "off"
        [scrub]
        every = "7 d"
        rate = "200 MiB"
        "#,
    )
    .expect("all values are good");
    assert!(settings.listen.is_ipv6() && settings.listen.port() == 0);
    assert_eq!(settings.data, PathBuf::from("/srv/drystone"));
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.http.idle_timeout, Span::seconds(300));
    assert_eq!(settings.auth.signed_checksum, SignedChecksum::Required);
    assert_eq!(settings.store.dedup, Dedup::Store);
    assert_eq!(settings.store.compression, Compression::Zstd { level: 3 });
    assert_eq!(settings.cache.pages, ByteSize::gib(1));
    assert_eq!(settings.collection.every, Every::Off);
    let week = Span::seconds(7 * 24 * 60 * 60);
    assert_eq!(settings.scrub.every, Every::Each(week));
    assert_eq!(settings.scrub.rate, ByteSize::mib(200));
}

#[test]
fn unknown_keys_are_errors() {
    refused("lisen = \"127.0.0.1:1\"", "unknown field `lisen`");
    refused("[store]\ndedupe = \"store\"", "unknown field `dedupe`");
    refused("[stores]\n", "unknown field `stores`");
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    refused("listen = \"8512\"", "invalid socket address");
    refused("[log]\nformat = \"xml\"", "`text` or `json`");
    refused("[store]\ncompression = \"zstd\"", "`zstd:1`");
    refused("[store]\ncompression = \"zstd:20\"", "`zstd:1`");
    refused("[store]\nreserve = \"1 GB\"", "`1 GiB`");
    refused("[store]\nbuffers = 0", "use 8 to 65536");
    refused("[http]\nidle_timeout = 75", "`5 m`");
    refused("[http]\nidle_timeout = \"10 ms\"", "shorter than `1 s`");
    refused("[http]\nconnections_max = 0", "use 1 to 100000");
    refused("[http]\nmax_results_default = 99", "use 100 to 10000");
    refused("[collection]\nevery = \"never\"", "or `off`");
    refused("[collection]\nevery = \"30 s\"", "shorter than `1 m`");
    refused("[scrub]\nevery = \"0 s\"", "shorter than `1 m`");
    refused("[scrub]\nrate = \"1 KiB\"", "less than `1 MiB`");
    refused("region = \"US East\"", "lower-case letters");
    refused("data = \"\"", "name a directory");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(
        file.path(),
        "region = \"eu-west-1\"\ndata = \"from-file\"\n",
    )
    .expect("written");
    let settings = Settings::load(Overrides {
        config: Some(file.path().to_owned()),
        region: Some("ap-south-1".to_owned()),
        ..Overrides::default()
    })
    .expect("both are good");
    assert_eq!(settings.region, "ap-south-1");
    assert_eq!(settings.data, PathBuf::from("from-file"));
}

#[test]
fn a_missing_file_is_named() {
    let overrides = Overrides {
        config: Some(PathBuf::from("/nowhere/drystone.toml")),
        ..Overrides::default()
    };
    let error = format!(
        "{:#}",
        Settings::load(overrides).expect_err("there is no such file")
    );
    assert!(
        error.contains("/nowhere/drystone.toml cannot be read"),
        "{error}"
    );
}
