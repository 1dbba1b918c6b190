//! What every command that speaks to a server takes: where it is, who asks, how requests are sent, and how much is said.
//!
//! Precedence is that of the AWS tools: the command line, then the environment, then the profile.

use super::WrongArguments;
use crate::settings::{ByteSize, Span};
use clap::Args;
use client::api::{Api, ApiParts};
use client::config::{ApiOptions, Config, ConfigOptions, Environment};
use client::{Meter, SnapshotId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use types::{Random, SystemClock};

/// Arguments of every command that speaks to one server.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub requests: RequestArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Which server, as whom.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Profile of the AWS configuration files [default: AWS_PROFILE, or `default`]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Region [default: AWS_REGION, AWS_DEFAULT_REGION, or the profile's]
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,

    /// Where the server is [default: AWS_ENDPOINT_URL and its kin, the profile's, or AWS's own]
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,

    /// Certificates to trust instead of the system's [default: AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
}

/// How requests are sent.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// Most bytes of block data a second, such as 50M or `50 MiB` [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub bandwidth: Option<ByteSize>,

    /// Most block requests on the way at once; fewer while that is as fast [default: 64]
    #[arg(long, value_name = "MAX", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub in_flight: Option<u16>,

    /// Most attempts of one request [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub attempts: Option<u32>,

    /// Time for a connection to stand, such as 5s [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub connect_timeout: Option<Duration>,

    /// Longest time without a byte moving within a request [default: 20s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub stall_timeout: Option<Duration>,
}

/// How much is said, and in which form.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the answer as one JSON document (docs/client.md)
    #[arg(long)]
    pub json: bool,

    /// No progress and no final line on standard error; errors and warnings remain
    #[arg(long, short)]
    pub quiet: bool,
}

impl RemoteArgs {
    /// The server, as this process' environment and these arguments say. Connects to nothing yet.
    pub fn connect(&self) -> anyhow::Result<Api> {
        connect(&self.server, &self.requests, &environment())
    }
}

/// This process' environment; what is no text is left out.
pub fn environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Environment::new(std::env::vars_os().filter_map(text))
}

/// A server, with a meter of its own. Connects to nothing yet.
pub fn connect(
    server: &ServerArgs,
    requests: &RequestArgs,
    environment: &Environment,
) -> anyhow::Result<Api> {
    let config = Config::load(
        environment,
        &ConfigOptions {
            profile: server.profile.clone(),
            region: server.region.clone(),
            endpoint_url: server.endpoint_url.clone(),
            ca_bundle: server.ca_bundle.clone(),
        },
    )?;
    Ok(Api::new(ApiParts {
        config,
        options: requests.options(),
        clock: Arc::new(SystemClock::new()),
        random: Random::system(),
        meter: Arc::new(Meter::new()),
    })?)
}

impl RequestArgs {
    fn options(&self) -> ApiOptions {
        let usual = ApiOptions::default();
        ApiOptions {
            connect_timeout: self.connect_timeout.unwrap_or(usual.connect_timeout),
            stall_timeout: self.stall_timeout.unwrap_or(usual.stall_timeout),
            attempt_timeout: usual.attempt_timeout,
            attempts_max: self.attempts.unwrap_or(usual.attempts_max),
            in_flight_max: self.in_flight.map_or(usual.in_flight_max, usize::from),
            bandwidth: self.bandwidth.map(ByteSize::bytes),
        }
    }
}

/// A snapshot id of the command line.
pub fn snapshot(text: &str) -> Result<SnapshotId, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// A number of bytes: binary, with the units of the settings or their first letters alone.
pub fn size(text: &str) -> Result<ByteSize, String> {
    let letter = text.chars().last().filter(|last| "KMGT".contains(*last));
    let whole = letter.map_or_else(|| text.to_owned(), |_| format!("{text}iB"));
    let size: ByteSize = whole
        .parse()
        .map_err(|_| format!("`{text}` is no size; write for example 50M or `50 MiB`"))?;
    if size.bytes() == 0 {
        return Err("nothing would move".to_owned());
    }
    Ok(size)
}

/// A span of time; a bare number is seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = if bare {
        format!("{text}s")
    } else {
        text.to_owned()
    };
    let span: Span = whole
        .parse()
        .map_err(|_| format!("`{text}` is no span of time; write for example 30s or 5m"))?;
    if span.duration().is_zero() {
        return Err("nothing happens in no time".to_owned());
    }
    Ok(span.duration())
}

/// A key and a value, `K=V`; the value may be empty.
pub fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no tag; write KEY=VALUE")),
    }
}

/// Tags of the command line, each key once.
pub fn tags(given: &[(String, String)]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for (key, value) in given {
        if tags.insert(key.clone(), value.clone()).is_some() {
            return Err(WrongArguments(format!("the tag `{key}` is given twice")).into());
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_a_letter_for_a_unit() {
        let check = |text: &str, bytes: Option<u64>| {
            assert_eq!(size(text).ok().map(ByteSize::bytes), bytes, "{text}");
        };
        check("50M", Some(50 << 20));
        check("50 MiB", Some(50 << 20));
        check("1G", Some(1 << 30));
        check("512", Some(512));
        check("0", None);
        check("M", None);
        check("50MB", None);
        check("-1M", None);
        check("99999999999T", None);
    }

    #[test]
    fn bare_times_are_seconds() {
        let check = |text: &str, ms: Option<u128>| {
            assert_eq!(time(text).ok().map(|time| time.as_millis()), ms, "{text}");
        };
        check("5", Some(5_000));
        check("250ms", Some(250));
        check("2 m", Some(120_000));
        check("", None);
        check("0", None);
        check("5 weeks", None);
    }

    #[test]
    fn a_tag_has_a_key_and_is_given_once() {
        assert_eq!(tag("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(tag("a="), Ok(("a".into(), String::new())));
        assert!(tag("a").is_err() && tag("=a").is_err());
        let twice = [("a".into(), "1".into()), ("a".into(), "2".into())];
        assert!(tags(&twice).is_err() && tags(&twice[..1]).is_ok());
    }
}
