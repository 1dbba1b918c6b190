//! Where services are: as configured, else by region (SPEC 3.18).
//!
//! ```text
//!                     https://SERVICE     .REGION.amazonaws.com   the partition's suffix
//! FIPS                https://SERVICE-fips.REGION.amazonaws.com
//! dual stack          https://SERVICE     .REGION.api.aws         the partition's other suffix
//! ```
//!
//! A region is a part of host names that requests with credentials go to, so it must be a label and nothing else.

use super::profiles::Profile;
use super::{ConfigOptions, Environment};
use crate::Error;
use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// A region's name, which is a label of a host name.
pub(super) struct Region(String);

impl Region {
    pub(super) fn parse(text: &str) -> Result<Region, Error> {
        let label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let good = bytes.len() <= 63
            && bytes.iter().all(|&byte| label(byte))
            && edge(bytes.first())
            && edge(bytes.last());
        if !good {
            let shown: String = text.chars().take(64).collect();
            return Err(Error::Config(format!(
                "{shown:?} is no region: regions are up to 63 letters, digits and hyphens, as in us-east-1"
            )));
        }
        Ok(Region(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn partition(&self) -> Partition {
        if self.0.starts_with("cn-") {
            Partition {
                suffix: "amazonaws.com.cn",
                dual_stack_suffix: "api.amazonwebservices.com.cn",
            }
        } else {
            // GovCloud, too: a partition of its own, with the same host names.
            Partition {
                suffix: "amazonaws.com",
                dual_stack_suffix: "api.aws",
            }
        }
    }
}

struct Partition {
    suffix: &'static str,
    dual_stack_suffix: &'static str,
}

/// The services that the client speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    Ebs,
    Ec2,
    Sts,
}

impl Service {
    /// As it begins host names and stands in `services` sections.
    fn name(self) -> &'static str {
        match self {
            Service::Ebs => "ebs",
            Service::Ec2 => "ec2",
            Service::Sts => "sts",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Service::Ebs => "AWS_ENDPOINT_URL_EBS",
            Service::Ec2 => "AWS_ENDPOINT_URL_EC2",
            Service::Sts => "AWS_ENDPOINT_URL_STS",
        }
    }
}

/// What decides where services are.
pub(super) struct Endpoints<'a> {
    pub(super) environment: &'a Environment,
    pub(super) options: &'a ConfigOptions,
    pub(super) profile: &'a Profile<'a>,
    pub(super) region: &'a Region,
}

impl Endpoints<'_> {
    pub(super) fn of(&self, service: Service) -> Result<Uri, Error> {
        let fips = self.switch("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?;
        let dual_stack = self.switch("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?;
        if let Some((url, origin)) = self.configured(service)? {
            if fips || dual_stack {
                let switch = if fips { "FIPS" } else { "dual-stack" };
                return Err(Error::Config(format!(
                    "{origin} cannot be used together with {switch} endpoints: a configured endpoint is used as it is"
                )));
            }
            return parse(url, origin);
        }
        let partition = self.region.partition();
        let host = format!(
            "https://{}{}.{}.{}",
            service.name(),
            if fips { "-fips" } else { "" },
            self.region.as_str(),
            if dual_stack {
                partition.dual_stack_suffix
            } else {
                partition.suffix
            }
        );
        parse(&host, "the endpoint of the region")
    }

    /// The URL that is configured for a service, and where.
    fn configured(&self, service: Service) -> Result<Option<(&str, &'static str)>, Error> {
        if let Some(url) = &self.options.endpoint_url {
            return Ok(Some((url, "--endpoint-url")));
        }
        if self.switch(
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
            "ignore_configured_endpoint_urls",
        )? {
            return Ok(None);
        }
        let variable = |name| Some((self.environment.get(name)?, name));
        let in_profile = |url: Option<_>| Some((url?, "endpoint_url of the profile"));
        Ok(variable(service.variable())
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .or_else(|| in_profile(self.profile.of_service(service.name(), "endpoint_url")))
            .or_else(|| in_profile(self.profile.get("endpoint_url"))))
    }

    fn switch(&self, variable: &str, property: &str) -> Result<bool, Error> {
        let in_environment = self
            .environment
            .get(variable)
            .map(|value| (value, variable));
        let in_profile = || Some((self.profile.get(property)?, property));
        match in_environment.or_else(in_profile) {
            None => Ok(false),
            Some((value, _)) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some((value, _)) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some((_, name)) => Err(Error::Config(format!("{name} must be true or false"))),
        }
    }
}

/// A URL of scheme, host, port, and perhaps a path; the path without a slash at its end.
fn parse(url: &str, origin: &str) -> Result<Uri, Error> {
    let wrong = |what: &str| Error::Config(format!("{origin} is no endpoint: {what}"));
    let uri: Uri = url
        .trim()
        .parse()
        .map_err(|_| wrong("it must be a URL such as http://127.0.0.1:8512"))?;
    let scheme = uri
        .scheme()
        .ok_or_else(|| wrong("it needs http:// or https://"))?;
    if scheme != &Scheme::HTTP && scheme != &Scheme::HTTPS {
        return Err(wrong("it must begin with http:// or https://"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    if authority.host().is_empty() {
        return Err(wrong("it names no host"));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("a user name has no place in it"));
    }
    // `Uri` reads a port when asked for it, and drops fragments.
    let port = authority.as_str().strip_prefix(authority.host());
    if port.is_some_and(|port| !port.is_empty()) && authority.port_u16().is_none() {
        return Err(wrong("its port is none"));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(wrong("it can have a path, but no query and no fragment"));
    }
    let path = uri.path().trim_end_matches('/');
    let path = if path.is_empty() { "/" } else { path };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query =
        Some(PathAndQuery::try_from(path).map_err(|_| wrong("its path cannot be read"))?);
    Uri::from_parts(parts).map_err(|_| wrong("its parts do not fit"))
}
