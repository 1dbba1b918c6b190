//! Where one service is: what to connect to, and what stands in every request to it.

use crate::Error;
use http::{HeaderValue, Uri};

/// Where one service is.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    origin: Origin,
    host_header: HeaderValue,
    prefix: String,
    label: String,
}

/// What connections are made to; endpoints of one origin share them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Origin {
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    /// The port, given or the scheme's.
    pub(crate) port: u16,
}

impl Endpoint {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// [`Error::Config`]: neither http nor https, no host, a query.
    pub(crate) fn new(url: &Uri) -> Result<Endpoint, Error> {
        let unfit = |why: &str| Error::Config(format!("the endpoint {url} {why}"));
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(unfit("begins neither with https:// nor with http://")),
        };
        let host = url.host().unwrap_or_default();
        if host.is_empty() {
            return Err(unfit("names no host"));
        }
        if url.query().is_some() {
            return Err(unfit("has a query, which an endpoint cannot have"));
        }
        let port_default = if tls { 443 } else { 80 };
        let port = url.port_u16().unwrap_or(port_default);
        let shown = match port == port_default {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        let scheme = if tls { "https" } else { "http" };
        Ok(Endpoint {
            origin: Origin {
                tls,
                host: host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
                port,
            },
            host_header: HeaderValue::try_from(&shown)
                .map_err(|_| unfit("has a host that no header can hold"))?,
            prefix: url.path().trim_end_matches('/').to_owned(),
            label: format!("{scheme}://{shown}"),
        })
    }

    /// What to connect to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The header `host`: without the port where that is the scheme's.
    pub(crate) fn host_header(&self) -> HeaderValue {
        self.host_header.clone()
    }

    /// What stands before every path; without a slash at its end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Scheme, host and port, for messages.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, origin: (bool, &str, u16), host: &str, prefix: &str, label: &str) {
        let endpoint = Endpoint::new(&url.parse().unwrap()).unwrap();
        let found = endpoint.origin();
        assert_eq!(
            (found.tls, found.host.as_str(), found.port),
            origin,
            "{url}"
        );
        assert_eq!(endpoint.host_header(), host, "{url}");
        assert_eq!(endpoint.prefix(), prefix, "{url}");
        assert_eq!(endpoint.label(), label, "{url}");
    }

    #[test]
    fn urls_are_taken_apart() {
        let aws = "https://ebs.us-east-1.amazonaws.com";
        let host = "ebs.us-east-1.amazonaws.com";
        check(aws, (true, host, 443), host, "", aws);
        check(
            "http://127.0.0.1:9877/",
            (false, "127.0.0.1", 9877),
            "127.0.0.1:9877",
            "",
            "http://127.0.0.1:9877",
        );
        check(
            "https://x.example:443/a/b/",
            (true, "x.example", 443),
            "x.example",
            "/a/b",
            "https://x.example",
        );
        check(
            "http://[::1]:8080",
            (false, "::1", 8080),
            "[::1]:8080",
            "",
            "http://[::1]:8080",
        );
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for url in ["/path", "ftp://host", "http://host/?a=b", "host:80"] {
            let endpoint = Endpoint::new(&url.parse().unwrap());
            assert!(matches!(endpoint, Err(Error::Config(_))), "{url}");
        }
    }
}
