//! A server on the command line of a copy, where there are two: `NAME` of a profile, a URL, or pairs of what other commands
//! have options for.
//!
//! What is not said comes from the environment and the usual profile, with one exception: a side that names a profile takes its
//! endpoint and region from there before the environment, or both sides would be the same server wherever the environment names one.

use crate::commands::remote::{RequestArgs, ServerArgs, connect};
use client::api::Api;
use client::config::Environment;
use std::path::PathBuf;
use std::str::FromStr;

/// Variables that are about one server.
const ENDPOINTS: [&str; 4] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_EBS",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_STS",
];
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// One side.
#[derive(Clone, Debug, Default)]
pub struct Side(ServerArgs);

impl Side {
    /// Whether nothing was said of it.
    pub fn is_usual(&self) -> bool {
        let ServerArgs {
            profile,
            region,
            endpoint_url,
            ca_bundle,
        } = &self.0;
        profile.is_none() && region.is_none() && endpoint_url.is_none() && ca_bundle.is_none()
    }

    /// The server. Connects to nothing yet.
    pub fn connect(
        &self,
        requests: &RequestArgs,
        environment: &Environment,
    ) -> anyhow::Result<Api> {
        if self.0.profile.is_none() {
            return connect(&self.0, requests, environment);
        }
        let own = environment.without(&ENDPOINTS);
        let connected = connect(&self.0, requests, &own.without(&REGIONS));
        // The profile may leave the region to the environment.
        connected.or_else(|error| connect(&self.0, requests, &own).map_err(|_| error))
    }
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Side, String> {
        let mut side = ServerArgs::default();
        if text.is_empty() {
            return Ok(Side(side));
        }
        if !text.contains('=') || text.starts_with("http://") || text.starts_with("https://") {
            match text.contains("://") {
                true => side.endpoint_url = Some(text.to_owned()),
                false => side.profile = Some(text.to_owned()),
            }
            return Ok(Side(side));
        }
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .filter(|(_, value)| !value.is_empty())
                .ok_or_else(|| format!("`{pair}` is no KEY=VALUE"))?;
            let given = match key {
                "profile" => side.profile.replace(value.to_owned()).is_some(),
                "region" => side.region.replace(value.to_owned()).is_some(),
                "endpoint" => side.endpoint_url.replace(value.to_owned()).is_some(),
                "ca-bundle" => side.ca_bundle.replace(PathBuf::from(value)).is_some(),
                _ => {
                    return Err(format!(
                        "`{key}` is none of profile, endpoint, region, ca-bundle"
                    ));
                }
            };
            if given {
                return Err(format!("`{key}` is given twice"));
            }
        }
        Ok(Side(side))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: [Option<&str>; 4]) {
        let Side(side) = text.parse().expect(text);
        let ca_bundle = side.ca_bundle.as_ref().and_then(|path| path.to_str());
        let found = [
            side.profile.as_deref(),
            side.endpoint_url.as_deref(),
            side.region.as_deref(),
            ca_bundle,
        ];
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_side_is_a_name_a_url_or_pairs() {
        check("", [None; 4]);
        check("backup", [Some("backup"), None, None, None]);
        check(
            "http://[::1]:7070",
            [None, Some("http://[::1]:7070"), None, None],
        );
        check("https://x/?a=b", [None, Some("https://x/?a=b"), None, None]);
        check(
            "profile=p,endpoint=http://x:1,region=eu-west-1,ca-bundle=/ca.pem",
            [
                Some("p"),
                Some("http://x:1"),
                Some("eu-west-1"),
                Some("/ca.pem"),
            ],
        );
        check("region=eu-west-1", [None, None, Some("eu-west-1"), None]);
    }

    #[test]
    fn what_is_none_of_these_is_refused() {
        for text in [
            "profile=",
            "profile=a,profile=b",
            "profile=a,b",
            "password=x",
        ] {
            assert!(text.parse::<Side>().is_err(), "{text}");
        }
    }
}
