//! Signed requests, and the credentials that a server writes.

use crate::server::{Place, Response, Server};
use auth::{AccessKeyId, PayloadHash, RequestHead, SecretKey, Signer, SignerOptions};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fs;
use std::net::SocketAddr;
use types::{Clock, Digest, SystemClock};

/// An access key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

impl Key {
    /// The key of the first start.
    pub fn of(place: &Place) -> Key {
        let path = place.data().join("credentials");
        Key::in_profile(&fs::read_to_string(path).expect("there are credentials"))
    }

    /// The key in the text of a profile.
    pub fn in_profile(text: &str) -> Key {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.strip_prefix(" = "))
                .expect(name)
                .to_owned()
        };
        Key {
            id: value("aws_access_key_id"),
            secret: value("aws_secret_access_key"),
        }
    }

    fn signer(&self, service: &str) -> Signer {
        Signer::new(SignerOptions {
            access_key_id: AccessKeyId::parse(&self.id).expect("an id"),
            secret: SecretKey::new(self.secret.clone()),
            session_token: None,
            region: "us-east-1".to_owned(),
            service: service.to_owned(),
        })
    }
}

/// A request to be signed and sent.
pub struct Call<'a> {
    pub service: &'a str,
    pub method: &'a str,
    /// With its query.
    pub target: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: &'a [u8],
}

impl Call<'_> {
    pub fn send(&self, server: &Server, key: &Key) -> Response {
        server.exchange(&self.bytes(server.address, key, "close"))
    }

    /// The whole request as it goes over the wire, and whether the connection is to be kept.
    pub fn bytes(&self, address: SocketAddr, key: &Key, connection: &'static str) -> Vec<u8> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        let mut headers = HeaderMap::new();
        let text = |value: &str| HeaderValue::try_from(value).expect("a header value");
        headers.insert(HOST, text(&address.to_string()));
        for (name, value) in self.headers {
            headers.insert(HeaderName::from_static(name), text(value));
        }
        let head = RequestHead {
            method: self.method,
            path,
            query,
            headers: &headers,
        };
        let payload = PayloadHash::Digest(Digest::of(self.body));
        let signed = key
            .signer(self.service)
            .sign(&head, payload, SystemClock::new().now());
        headers.extend(
            signed
                .expect("it can be signed")
                .headers
                .into_iter()
                .map(|(n, v)| (Some(n), v)),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        headers.insert(CONNECTION, HeaderValue::from_static(connection));

        let mut request = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &headers {
            request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        request.extend(self.body);
        request
    }
}

/// Asks STS who the key belongs to: the cheapest thing that only a valid key can do.
pub fn who_is(server: &Server, key: &Key) -> Response {
    Call {
        service: "sts",
        method: "POST",
        target: "/",
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        body: b"Action=GetCallerIdentity&Version=2011-06-15",
    }
    .send(server, key)
}
