//! Makes connections: TCP, and TLS with the system's certificates or a given file of them.

use super::endpoint::Origin;
use super::line::Stream;
use crate::Error;
use futures_util::future::BoxFuture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What makes connections: the network, or what a test puts in its place.
pub(crate) type Dial =
    Arc<dyn Fn(Origin) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Longest time for one address of a host, unless it is the last one: packets to some vanish where another answers.
const ADDRESS_MAX: Duration = Duration::from_secs(2);

/// Connections over the network. TLS is set up at once if it is `needed`, else when a server is first called that wants it.
///
/// # Errors
/// [`Error::Config`]: TLS is needed, and there are no certificates to trust.
pub(crate) fn network(needed: bool, ca_bundle: Option<&Path>) -> Result<Dial, Error> {
    let tls = Arc::new(Tls {
        ca_bundle: ca_bundle.map(Path::to_owned),
        connector: OnceLock::new(),
    });
    if needed {
        tls.connector()?;
    }
    Ok(Arc::new(move |origin| {
        Box::pin(connect(Arc::clone(&tls), origin))
    }))
}

struct Tls {
    ca_bundle: Option<PathBuf>,
    connector: OnceLock<TlsConnector>,
}

impl Tls {
    fn connector(&self) -> Result<TlsConnector, Error> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector.clone());
        }
        let connector = connector(self.ca_bundle.as_deref())?;
        Ok(self.connector.get_or_init(|| connector).clone())
    }
}

/// Whether a server's certificate is not to be trusted: it will not be the next time either.
pub(crate) fn is_untrusted(error: &io::Error) -> bool {
    let source = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(source, Some(rustls::Error::InvalidCertificate(_)))
}

async fn connect(tls: Arc<Tls>, origin: Origin) -> io::Result<Box<dyn Stream>> {
    let found = lookup_host((origin.host.as_str(), origin.port)).await?;
    let stream = connect_to_any(&in_turns(found)).await?;
    stream.set_nodelay(true)?;
    if !origin.tls {
        return Ok(Box::new(stream));
    }
    let connector = tls.connector().map_err(io::Error::other)?;
    let name = ServerName::try_from(origin.host)
        .map_err(|_| io::Error::other("no certificate can be for such a host"))?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// A connection to the first that answers. The limit of the last one is that of the whole.
async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else {
        return Err(io::Error::other("the host has no address"));
    };
    for address in others {
        if let Ok(Ok(stream)) = timeout(ADDRESS_MAX, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await
}

/// Addresses of both families in turns, that of the first first: where one family leads nowhere, the next address is of the other.
fn in_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let is_first_ipv4 = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (first, other): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv4() == is_first_ipv4);
    let mut turns = Vec::with_capacity(first.len() + other.len());
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    loop {
        let turn = [first.next(), other.next()];
        if turn == [None, None] {
            return turns;
        }
        turns.extend(turn.into_iter().flatten());
    }
}

/// HTTP/1.1 alone is spoken, so that nothing is negotiated.
fn connector(ca_bundle: Option<&Path>) -> Result<TlsConnector, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Config(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots(ca_bundle)?)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(ca_bundle: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_bundle else {
        // A few certificates of the system may be unfit; the rest count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let text =
                "the system has no certificates to trust; name a file of them with AWS_CA_BUNDLE";
            return Err(Error::Config(text.to_owned()));
        }
        return Ok(roots);
    };
    let unfit = |why: String| {
        let path = path.display();
        Error::Config(format!("certificates of {path} cannot be used: {why}"))
    };
    let file = std::fs::read(path).map_err(|error| unfit(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&file) {
        let certificate = certificate.map_err(|error| unfit(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unfit(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unfit("there are none in it".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
