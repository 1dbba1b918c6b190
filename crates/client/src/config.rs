//! Where to send requests, and with whose credentials: what the AWS tools read, in their order of precedence.

use crate::Error;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The environment variables of a process, taken once.
#[derive(Clone, Debug, Default)]
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
    /// Resolves everything but the credentials themselves, which are fetched when the first request needs them.
    ///
    /// # Errors
    /// [`Error::Config`]: no region, an unknown profile, an unreadable or malformed file, an endpoint that is no URL.
    pub fn load(environment: &Environment, options: &ConfigOptions) -> Result<Config, Error> {
        let _ = (environment, options);
        unimplemented!()
    }
}

/// Credentials and where they come from; they are fetched again before they expire.
#[derive(Clone, Debug)]
pub struct Credentials;

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
