//! The two services behind one address: EC2 and STS, both spoken by `POST /` and `GET /?Action=…`.
//!
//! Which one a request means is said by the scope of its credential. A request whose scope says neither is taken for EC2,
//! and refused in EC2's words.

use auth::sigv4::query_parameters;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// A service of the Query protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    /// EC2: snapshots and their tags.
    Ec2,
    /// The security token service.
    Sts,
}

impl Service {
    /// The service that a request means. Nothing is verified here: a wrong guess only changes the words of a refusal.
    pub(crate) fn of_request(headers: &HeaderMap, query: Option<&str>) -> Service {
        let header = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let credential = match header {
            Some(header) => {
                let rest = header.split_once("Credential=").map(|(_, rest)| rest);
                rest.map(|rest| rest.split([',', ' ']).next().unwrap_or(rest).to_owned())
            }
            None => query.and_then(|query| {
                let mut parameters = query_parameters(query).into_iter();
                let credential = parameters.find(|(name, _)| name == "X-Amz-Credential");
                credential.map(|(_, value)| value)
            }),
        };
        let scope = credential
            .as_deref()
            .and_then(|credential| credential.split('/').nth(3));
        match scope {
            Some("sts") => Service::Sts,
            Some(_) | None => Service::Ec2,
        }
    }

    /// The service whose scope a signature must have.
    pub(crate) fn scope(self) -> auth::Service {
        match self {
            Service::Ec2 => auth::Service::Ec2,
            Service::Sts => auth::Service::Sts,
        }
    }

    /// The one version of the API.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Service::Ec2 => "2016-11-15",
            Service::Sts => "2011-06-15",
        }
    }

    /// The namespace of responses.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Service::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
            Service::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        }
    }

    /// What messages call the service.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Ec2 => "AmazonEC2",
            Service::Sts => "AWSSecurityTokenService",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_scope_of_the_credential_decides() {
        let of_header = |scope: &str| {
            let value =
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::try_from(value).unwrap());
            Service::of_request(&headers, Some("X-Amz-Credential=k/d/r/sts/t"))
        };
        assert_eq!(
            of_header("k/20260101/us-east-1/sts/aws4_request"),
            Service::Sts
        );
        assert_eq!(
            of_header("k/20260101/us-east-1/ec2/aws4_request"),
            Service::Ec2
        );
        assert_eq!(
            of_header("k/20260101/us-east-1/ebs/aws4_request"),
            Service::Ec2
        );
        assert_eq!(of_header("nonsense"), Service::Ec2);
        let of_query = |query| Service::of_request(&HeaderMap::new(), query);
        assert_eq!(
            of_query(Some(
                "Action=x&X-Amz-Credential=k%2Fd%2Fr%2Fsts%2Faws4_request"
            )),
            Service::Sts
        );
        assert_eq!(
            of_query(Some("X-Amz-Credential=k/d/r/ec2/aws4_request")),
            Service::Ec2
        );
        assert_eq!(of_query(None), Service::Ec2);
    }
}
