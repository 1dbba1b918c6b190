//! Where to send requests, and with whose credentials: what the AWS tools read, in their order of precedence.
//!
//! ```text
//! profiles.rs     the two files, and the profile in them; ini.rs: their form
//! endpoints.rs    where services are, by region or as configured
//! credentials.rs  access keys, fetched again before they expire
//! process.rs      programs that print access keys
//! elsewhere.rs    what to do where keys must come from AWS; aws_chain.rs in builds with `--cfg aws_config`
//! ```
//!
//! Everywhere an option comes before the environment, the environment before the profile, and the profile before what is built
//! in. One exception, as in the AWS CLI: the access keys of a profile that an option names come before those of the
//! environment.

mod credentials;
#[cfg_attr(aws_config, path = "config/aws_chain.rs")]
mod elsewhere;
mod endpoints;
mod ini;
mod process;
mod profiles;
#[cfg(test)]
mod tests;

pub use credentials::{Credentials, SigningKeys};
pub use profiles::Profiles;

use crate::Error;
use credentials::Source;
use endpoints::{Region, Service, Settings};
use profiles::Profile;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variables of a process, taken once.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// These variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        Environment(variables.into_iter().collect())
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The others.
    pub fn without(&self, names: &[&str]) -> Environment {
        let mut others = self.0.clone();
        others.retain(|name, _| !names.contains(&name.as_str()));
        Environment(others)
    }

    /// The value of the first of two variables that is set and not empty.
    fn either(&self, name: &str, older: &str) -> Option<&str> {
        self.get(name).or_else(|| self.get(older))
    }

    /// A path in which `~/` stands for the home directory.
    fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(path),
        }
    }
}

impl fmt::Debug for Environment {
    /// The names alone: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the command line says, each before what environment and files say.
#[derive(Clone, Debug, Default)]
pub struct ConfigOptions {
    /// The profile.
    pub profile: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The endpoint of all services.
    pub endpoint_url: Option<String>,
    /// A file of certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Where, and with whose credentials.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region of the signatures.
    pub region: String,
    /// Where the EBS direct APIs are: scheme, host, port, and perhaps a path before all paths.
    pub ebs: http::Uri,
    /// Where EC2 is.
    pub ec2: http::Uri,
    /// Where STS is.
    pub sts: http::Uri,
    /// A file of certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Who is asking.
    pub credentials: Credentials,
}

impl Config {
    /// Reads the files that the environment names and resolves everything but the credentials themselves, which are fetched
    /// when the first request needs them.
    ///
    /// # Errors
    /// [`Error::Config`]: no region, an unknown profile, an unreadable or malformed file, an endpoint that is no URL.
    pub fn load(environment: &Environment, options: &ConfigOptions) -> Result<Config, Error> {
        Config::resolve(environment, options, &Profiles::read(environment)?)
    }

    /// The same with files that have been read; touches nothing outside.
    ///
    /// # Errors
    /// [`Error::Config`], as [`Config::load`].
    pub fn resolve(
        environment: &Environment,
        options: &ConfigOptions,
        profiles: &Profiles,
    ) -> Result<Config, Error> {
        let profile = Profile::choose(environment, options, profiles)?;
        let region = options
            .region
            .as_deref()
            .or_else(|| environment.either("AWS_REGION", "AWS_DEFAULT_REGION"))
            .or_else(|| profile.get("region"))
            .ok_or_else(|| {
                Error::Config(format!(
                    "no region: name one with --region, AWS_REGION, or 'region' in {profile}"
                ))
            })?;
        let region = Region::parse(region)?;
        let settings = Settings {
            environment,
            options,
            profile: &profile,
            region: &region,
        };
        Ok(Config {
            ebs: settings.endpoint(Service::Ebs)?,
            ec2: settings.endpoint(Service::Ec2)?,
            sts: settings.endpoint(Service::Sts)?,
            region: region.as_str().to_owned(),
            ca_bundle: ca_bundle(environment, options, &profile),
            credentials: Credentials::from_source(Source::find(&settings)?)
                .of_profile(profile.name()),
        })
    }
}

fn ca_bundle(
    environment: &Environment,
    options: &ConfigOptions,
    profile: &Profile<'_>,
) -> Option<PathBuf> {
    let configured = || {
        environment
            .get("AWS_CA_BUNDLE")
            .or_else(|| profile.get("ca_bundle"))
            .map(|path| environment.expand(path))
    };
    options.ca_bundle.clone().or_else(configured)
}

/// How requests are sent.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Time for a connection to stand, TLS included.
    pub connect_timeout: Duration,
    /// Longest time without a byte moving in either direction, once a request has begun.
    pub stall_timeout: Duration,
    /// Longest time of one attempt.
    pub attempt_timeout: Duration,
    /// Most attempts of one request.
    pub attempts_max: u32,
    /// Most block requests on the way at once, however fast the server is.
    pub in_flight_max: usize,
    /// Most bytes of block data a second, if limited.
    pub bandwidth: Option<u64>,
}

impl Default for ApiOptions {
    fn default() -> ApiOptions {
        ApiOptions {
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(20),
            attempt_timeout: Duration::from_secs(120),
            attempts_max: 10,
            in_flight_max: 64,
            bandwidth: None,
        }
    }
}
