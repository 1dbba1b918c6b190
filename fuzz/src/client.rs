//! What the client reads of its user's: whatever stands there, requests go to no other host than it says, and no block is believed
//! to have been moved that was not.

use client::config::{Config, ConfigOptions, Environment, Profiles};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Up to the first empty line the configuration file, then the credentials file. Answers a configuration or an error; without
/// a configured endpoint the host is one of AWS's, with the region as one label of it.
pub fn client_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (config, credentials) = text.split_once("\n\n").unwrap_or((&text, ""));
    let Ok(profiles) = Profiles::parse(config, credentials) else {
        return;
    };
    for profile in [None, Some("a"), Some("my own")] {
        let options = ConfigOptions {
            profile: profile.map(str::to_owned),
            ..ConfigOptions::default()
        };
        let Ok(config) = Config::resolve(&Environment::default(), &options, &profiles) else {
            continue;
        };
        let (ebs, region) = (config.ebs.to_string(), &config.region);
        assert!(!ebs.contains(['@', '#', '?']), "{ebs}");
        if !text.to_ascii_lowercase().contains("endpoint_url") {
            let mut labels = ebs.split('.');
            let service = labels.next().unwrap_or_default();
            assert!(
                matches!(service, "https://ebs" | "https://ebs-fips"),
                "{ebs}"
            );
            assert_eq!(labels.next(), Some(region.as_str()), "{ebs}");
            assert!(!region.contains('/'), "{region}");
        }
        // Formatting reaches the credentials, too.
        assert!(!format!("{config:?}").is_empty());
    }
}

/// A state or digest file: an error, or entries in order that going on with the file keeps.
pub fn client_journal(data: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    client::any_journal_bytes(folder.path(), data);
}
