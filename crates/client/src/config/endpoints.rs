//! Where services are: as configured, else by region (SPEC 3.18).
//!
//! ```text
//!                     https://SERVICE     .REGION.amazonaws.com   the partition's suffix
//! FIPS                https://SERVICE-fips.REGION.amazonaws.com   GovCloud's EC2 and STS are FIPS without the mark
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

    fn partition(&self) -> &'static Partition {
        let of = |partition: &&Partition| self.0.starts_with(partition.prefix);
        PARTITIONS.iter().find(of).unwrap_or(&COMMERCIAL)
    }
}

/// Regions that share host names and, as a rule, accounts.
struct Partition {
    /// How its regions begin.
    prefix: &'static str,
    suffix: &'static str,
    dual_stack_suffix: &'static str,
    /// Services whose FIPS endpoint is the one without the mark, where it is not dual stack.
    fips_unmarked: &'static [Service],
}

const COMMERCIAL: Partition = Partition {
    prefix: "",
    suffix: "amazonaws.com",
    dual_stack_suffix: "api.aws",
    fips_unmarked: &[],
};

/// All partitions but the commercial one, which has whatever regions the others do not have.
const PARTITIONS: [Partition; 7] = [
    Partition {
        prefix: "cn-",
        suffix: "amazonaws.com.cn",
        dual_stack_suffix: "api.amazonwebservices.com.cn",
        ..COMMERCIAL
    },
    Partition {
        prefix: "us-gov-",
        fips_unmarked: &[Service::Ec2, Service::Sts],
        ..COMMERCIAL
    },
    Partition {
        prefix: "eusc-",
        suffix: "amazonaws.eu",
        dual_stack_suffix: "api.amazonwebservices.eu",
        ..COMMERCIAL
    },
    Partition {
        prefix: "us-iso-",
        suffix: "c2s.ic.gov",
        dual_stack_suffix: "api.aws.ic.gov",
        ..COMMERCIAL
    },
    Partition {
        prefix: "us-isob-",
        suffix: "sc2s.sgov.gov",
        dual_stack_suffix: "api.aws.scloud",
        ..COMMERCIAL
    },
    Partition {
        prefix: "eu-isoe-",
        suffix: "cloud.adc-e.uk",
        dual_stack_suffix: "api.cloud-aws.adc-e.uk",
        ..COMMERCIAL
    },
    Partition {
        prefix: "us-isof-",
        suffix: "csp.hci.ic.gov",
        dual_stack_suffix: "api.aws.hci.ic.gov",
        ..COMMERCIAL
    },
];

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

/// What decides where services are, and who is asking.
pub(super) struct Settings<'a> {
    pub(super) environment: &'a Environment,
    pub(super) options: &'a ConfigOptions,
    pub(super) profile: &'a Profile<'a>,
    pub(super) region: &'a Region,
}

impl Settings<'_> {
    pub(super) fn fips(&self) -> Result<bool, Error> {
        self.switch("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")
    }

    pub(super) fn dual_stack(&self) -> Result<bool, Error> {
        self.switch("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")
    }

    pub(super) fn endpoint(&self, service: Service) -> Result<Uri, Error> {
        let (fips, dual_stack) = (self.fips()?, self.dual_stack()?);
        if let Some((url, origin)) = self.configured(service)? {
            if fips || dual_stack {
                let switch = if fips { "FIPS" } else { "dual-stack" };
                return Err(Error::Config(format!(
                    "{origin} cannot be used together with {switch} endpoints: a configured endpoint is used as it is"
                )));
            }
            return parse(url, origin);
        }
        let Partition {
            suffix,
            dual_stack_suffix,
            fips_unmarked,
            ..
        } = self.region.partition();
        let marked = fips && (dual_stack || !fips_unmarked.contains(&service));
        let name = service.name();
        let mark = if marked { "-fips" } else { "" };
        let region = self.region.as_str();
        let suffix = if dual_stack {
            dual_stack_suffix
        } else {
            suffix
        };
        let url = format!("https://{name}{mark}.{region}.{suffix}");
        parse(&url, "the endpoint of the region")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profiles;

    #[test]
    fn regions_are_labels() {
        let check = |text: &str, good: bool| {
            assert_eq!(Region::parse(text).is_ok(), good, "{text}");
        };
        check("us-east-1", true);
        check("local", true);
        check(&"a".repeat(63), true);
        for bad in [
            "", "-a", "a-", "a.b", "a/b", "a@b", "a b", "a:1", "ü", "a\n",
        ] {
            check(bad, false);
        }
        check(&"a".repeat(64), false);
    }

    #[test]
    fn host_names_are_those_of_the_partition() {
        let check = |region: &str, switches: &str, service: Service, host: &str| {
            let switch = |name: &str| {
                let on = switches.contains(name);
                (format!("AWS_USE_{name}_ENDPOINT"), on.to_string())
            };
            let environment = Environment::new([switch("FIPS"), switch("DUALSTACK")]);
            let (options, profiles) = (ConfigOptions::default(), Profiles::default());
            let profile = Profile::choose(&environment, &options, &profiles).expect("a profile");
            let settings = Settings {
                environment: &environment,
                options: &options,
                profile: &profile,
                region: &Region::parse(region).expect("a region"),
            };
            let uri = settings.endpoint(service).expect("an endpoint");
            assert_eq!(uri.to_string(), format!("https://{host}/"));
        };
        use Service::{Ebs, Ec2, Sts};
        check("eu-west-1", "", Ebs, "ebs.eu-west-1.amazonaws.com");
        check("eu-west-1", "FIPS", Ebs, "ebs-fips.eu-west-1.amazonaws.com");
        check("eu-west-1", "DUALSTACK", Ec2, "ec2.eu-west-1.api.aws");
        check(
            "eu-west-1",
            "FIPS DUALSTACK",
            Sts,
            "sts-fips.eu-west-1.api.aws",
        );
        check("cn-north-1", "", Ebs, "ebs.cn-north-1.amazonaws.com.cn");
        let china = "ebs.cn-north-1.api.amazonwebservices.com.cn";
        check("cn-north-1", "DUALSTACK", Ebs, china);
        let gov = "us-gov-west-1";
        check(gov, "", Ebs, "ebs.us-gov-west-1.amazonaws.com");
        check(gov, "FIPS", Ebs, "ebs-fips.us-gov-west-1.amazonaws.com");
        check(gov, "FIPS", Ec2, "ec2.us-gov-west-1.amazonaws.com");
        check(gov, "FIPS", Sts, "sts.us-gov-west-1.amazonaws.com");
        check(gov, "FIPS DUALSTACK", Ec2, "ec2-fips.us-gov-west-1.api.aws");
        check("us-iso-east-1", "", Ebs, "ebs.us-iso-east-1.c2s.ic.gov");
        check(
            "us-isob-east-1",
            "",
            Ebs,
            "ebs.us-isob-east-1.sc2s.sgov.gov",
        );
    }

    #[test]
    fn endpoints_are_urls_without_more_than_a_path() {
        let check = |url: &str, expected: Option<&str>| {
            let found = parse(url, "here").ok().map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        };
        check("http://127.0.0.1:8512", Some("http://127.0.0.1:8512/"));
        check(" https://h/ ", Some("https://h/"));
        check("http://[::1]:8512/a/b/", Some("http://[::1]:8512/a/b"));
        for bad in [
            "",
            "h",
            "/path",
            "h:8512",
            "ftp://h",
            "http://",
            "http:///x",
            "http://h:x",
            "http://h:99999",
            "http://me:secret@h",
            "http://h?q",
            "http://h/#f",
            "http://h h",
        ] {
            check(bad, None);
        }
        let message = parse("http://me:hush@h", "here").expect_err("no endpoint");
        assert!(!message.to_string().contains("hush"));
    }
}
