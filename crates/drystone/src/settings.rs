//! The settings of a server: the one place that reads configuration.
//!
//! A value comes from the command line, else from the environment, else from the file, else from the default. Unknown
//! keys are errors. Everything is parsed into types here; crates never see [`Settings`]: `serve.rs` builds each
//! component from a small options struct of its own. `docs/drystone.toml` shows every setting at its default, and a
//! test keeps that true.

mod units;

pub use units::{ByteSize, Every, Span};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer, de};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

/// Everything an operator can decide.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port to serve on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The data directory; a relative path is taken from the working directory.
    pub data: PathBuf,
    /// The region that clients must sign for.
    pub region: String,
    /// What is logged, and how.
    pub log: Log,
    /// Connections and requests.
    pub http: Http,
    /// Who may come in.
    pub auth: Auth,
    /// How blocks are stored.
    pub store: Store,
    /// Memory for what is read often.
    pub cache: Cache,
    /// Garbage collection.
    pub collection: Collection,
    /// Verifying what is stored.
    pub scrub: Scrub,
}

/// Logs; they go to standard error.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A level, or directives as in `info,drystone::http=debug` (debug has a line for each request).
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Connections and requests.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Connections served at a time; more wait a moment, then are told to come again.
    pub connections_max: u32,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Span,
    /// How long requests in flight may go on after a stop signal.
    pub stop_timeout: Span,
    /// Items in one page of a listing when the client names no number, 100 to 10,000.
    pub max_results_default: u16,
}

/// Who may come in.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// How far a client's clock may be off.
    pub clock_skew: Span,
    /// Whether a put whose body is not signed must sign its checksum header.
    pub signed_checksum: SignedChecksum,
}

/// What is asked of the checksum header of a put whose body is not signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignedChecksum {
    /// It may be unsigned, as some SDKs send it.
    Optional,
    /// It must be among the signed headers.
    Required,
}

/// How blocks are stored.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The scope in which equal blocks are stored once.
    pub dedup: Dedup,
    /// `none`, or `zstd:LEVEL` with a level from 1 to 19.
    pub compression: Compression,
    /// Free space of the file system that puts leave for deletes and for completing snapshots.
    pub reserve: ByteSize,
    /// Blocks on their way in, and as many on their way out, of 512 KiB each; requests beyond that wait, or are throttled.
    pub buffers: u32,
}

/// The scope in which equal blocks are stored once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dedup {
    /// An account: nobody learns by timing what another account stores.
    Account,
    /// The whole store: for a single tenant with several accounts.
    Store,
}

/// How the content of a block is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// As it is.
    None,
    /// With zstd, where that saves something.
    Zstd {
        /// 1 (fast) to 19 (small).
        level: i32,
    },
}

/// Memory for what is read often.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Pages of block maps.
    pub pages: ByteSize,
    /// The catalog's database pages.
    pub catalog: ByteSize,
}

/// Garbage collection.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collection {
    /// How often a cycle is run when there may be garbage, or `off`.
    pub every: Every,
}

/// Verifying what is stored.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// How often everything is verified, or `off`.
    pub every: Every,
    /// Stored bytes read in a second, at most.
    pub rate: ByteSize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8512)),
            data: PathBuf::from("drystone-data"),
            region: "us-east-1".to_owned(),
            log: Log::default(),
            http: Http::default(),
            auth: Auth::default(),
            store: Store::default(),
            cache: Cache::default(),
            collection: Collection::default(),
            scrub: Scrub::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

impl Default for Http {
    fn default() -> Http {
        Http {
            connections_max: 1024,
            idle_timeout: Span::seconds(75),
            stop_timeout: Span::seconds(10),
            max_results_default: 10_000,
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            clock_skew: Span::seconds(300),
            signed_checksum: SignedChecksum::Optional,
        }
    }
}

impl Default for Store {
    fn default() -> Store {
        Store {
            dedup: Dedup::Account,
            compression: Compression::None,
            reserve: ByteSize::gib(1),
            buffers: 128,
        }
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            pages: ByteSize::mib(64),
            catalog: ByteSize::mib(64),
        }
    }
}

impl Default for Collection {
    fn default() -> Collection {
        Collection {
            every: Every::Each(Span::seconds(60 * 60)),
        }
    }
}

impl Default for Scrub {
    fn default() -> Scrub {
        Scrub {
            every: Every::Each(Span::seconds(30 * 24 * 60 * 60)),
            rate: ByteSize::mib(64),
        }
    }
}

/// What the command line and the environment say over the file.
#[derive(Clone, Default, Debug, Args)]
pub struct Overrides {
    /// Settings file (TOML); docs/drystone.toml shows all of them
    #[arg(long, value_name = "FILE", env = "DRYSTONE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Address to serve on; port 0 takes a free one [default: 127.0.0.1:8512]
    #[arg(long, value_name = "ADDR:PORT", env = "DRYSTONE_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Data directory; made when it does not exist [default: drystone-data]
    #[arg(long, value_name = "DIR", env = "DRYSTONE_DATA")]
    pub data: Option<PathBuf>,

    /// Region that clients sign for [default: us-east-1]
    #[arg(long, value_name = "NAME", env = "DRYSTONE_REGION")]
    pub region: Option<String>,

    /// Form of the log lines on standard error [default: text]
    #[arg(long, value_name = "FORM", env = "DRYSTONE_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Level or directives, as in `info,drystone::http=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "DRYSTONE_LOG")]
    pub log: Option<String>,
}

impl Settings {
    /// The settings that the file, the environment and the command line make together.
    pub fn load(overrides: Overrides) -> anyhow::Result<Settings> {
        let mut settings = match &overrides.config {
            Some(path) => Settings::from_file(path)?,
            None => Settings::default(),
        };
        settings.listen = overrides.listen.unwrap_or(settings.listen);
        settings.data = overrides.data.unwrap_or(settings.data);
        settings.region = overrides.region.unwrap_or(settings.region);
        settings.log.format = overrides.log_format.unwrap_or(settings.log.format);
        settings.log.filter = overrides.log.unwrap_or(settings.log.filter);
        settings.check()?;
        Ok(settings)
    }

    fn from_file(path: &Path) -> anyhow::Result<Settings> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the settings file {} cannot be read", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("the settings file {} is not right", path.display()))
    }

    /// Refuses what each value alone allows and the server cannot work with.
    fn check(&self) -> anyhow::Result<()> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.region.is_empty() || self.region.len() > 64 || !self.region.bytes().all(letter) {
            bail!(
                "region `{}` can be no region: use lower-case letters, digits and hyphens, as in `us-east-1`",
                self.region
            );
        }
        if self.data.as_os_str().is_empty() {
            bail!("data is empty: name a directory");
        }
        if !(1..=100_000).contains(&self.http.connections_max) {
            bail!(
                "http.connections_max is {}: use 1 to 100000",
                self.http.connections_max
            );
        }
        if !(100..=10_000).contains(&self.http.max_results_default) {
            bail!(
                "http.max_results_default is {}: use 100 to 10000",
                self.http.max_results_default
            );
        }
        if !(8..=65_536).contains(&self.store.buffers) {
            bail!("store.buffers is {}: use 8 to 65536", self.store.buffers);
        }
        if self.http.idle_timeout < Span::seconds(1) {
            bail!("http.idle_timeout is shorter than `1 s`");
        }
        for (name, every) in [
            ("collection.every", self.collection.every),
            ("scrub.every", self.scrub.every),
        ] {
            if matches!(every, Every::Each(span) if span < Span::seconds(60)) {
                bail!("{name} is shorter than `1 m`");
            }
        }
        if self.scrub.rate < ByteSize::mib(1) {
            bail!("scrub.rate is less than `1 MiB` a second");
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            return Ok(Compression::None);
        }
        text.strip_prefix("zstd:")
            .and_then(|level| level.parse().ok())
            .filter(|level| (1..=19).contains(level))
            .map(|level| Compression::Zstd { level })
            .ok_or_else(|| {
                de::Error::custom(format!(
                    "`{text}` is no compression; write `none` or `zstd:1` to `zstd:19`"
                ))
            })
    }
}

#[cfg(test)]
mod tests;
