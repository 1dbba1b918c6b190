//! TLS over real sockets, with a certificate made for that (testdata/tls).

use super::*;
use crate::api::{Api, ListPage, ListedBlock, PageStart};
use crate::config::ApiOptions;
use crate::testing::parts_at;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use types::BlockIndex;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"Blocks\":[]}";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/tls")
        .join(name)
}

/// Answers every request on every connection to this address; the port.
async fn serve(address: &str) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = CertificateDer::pem_file_iter(testdata("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(testdata("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.ok()?;
                }
                assert!(stream.get_ref().1.alpn_protocol().is_none());
                stream.write_all(ANSWER.as_bytes()).await.ok()
            });
        }
    });
    port
}

async fn list(host: &str, bundle: &str) -> Result<ListPage<ListedBlock>, Error> {
    let address = if host == "localhost" {
        "127.0.0.1"
    } else {
        host
    };
    let url = format!("https://{host}:{}", serve(address).await);
    let mut parts = parts_at(&url, ApiOptions::default());
    parts.config.ca_bundle = Some(testdata(bundle));
    let id = "snap-0".parse().unwrap();
    let start = PageStart::Index(BlockIndex::ZERO);
    Api::new(parts)?.list_blocks(&id, start).await
}

#[tokio::test]
async fn names_and_addresses_are_verified() {
    for host in ["localhost", "127.0.0.1"] {
        let page = list(host, "ca.pem").await.unwrap();
        assert!(page.blocks.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_tried_once() {
    // Signed by another, and what it says of itself does not count.
    for (host, bundle) in [("localhost", "server.pem"), ("127.0.0.2", "ca.pem")] {
        let result = list(host, bundle).await;
        assert!(
            matches!(&result, Err(Error::Unreachable { attempts: 1, reason, .. }) if reason.contains("certificate")),
            "{result:?}"
        );
    }
}

#[test]
fn certificates_that_cannot_be_used_are_told() {
    for name in ["absent.pem", "server.key", "README.md"] {
        let dial = network(true, Some(&testdata(name)));
        let Err(Error::Config(text)) = dial else {
            panic!("{name}");
        };
        assert!(text.contains(name), "{text}");
    }
    assert!(network(false, Some(&testdata("absent.pem"))).is_ok());
}

#[test]
fn families_of_addresses_take_turns() {
    let check = |given: &[&str], expected: &[&str]| {
        let given = given.iter().map(|address| address.parse().unwrap());
        let found = in_turns(given).into_iter();
        let found: Vec<_> = found.map(|address| address.to_string()).collect();
        assert_eq!(found, expected);
    };
    let (a, b, c) = ("[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1");
    check(&[a, b, c], &[a, c, b]);
    check(&[c, a, b], &[c, a, b]);
    check(&[a, b], &[a, b]);
    check(&[], &[]);
}

#[tokio::test]
async fn an_address_that_refuses_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = gone.local_addr().unwrap();
    drop(gone);
    assert!(connect_to_any(&[refusing, good]).await.is_ok());
    assert!(connect_to_any(&[refusing]).await.is_err());
    assert!(connect_to_any(&[]).await.is_err());
}
