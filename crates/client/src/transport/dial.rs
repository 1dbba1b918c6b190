//! Makes connections: TCP, and TLS with the system's certificates or a given file of them.

use super::endpoint::Origin;
use super::line::Stream;
use crate::Error;
use futures_util::future::BoxFuture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What makes connections: the network, or what a test puts in its place.
pub(crate) type Dial =
    Arc<dyn Fn(Origin) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Connections over the network.
///
/// # Errors
/// [`Error::Config`]: TLS is needed, and there are no certificates to trust.
pub(crate) fn network(tls: bool, ca_bundle: Option<&Path>) -> Result<Dial, Error> {
    let connector = match tls {
        true => Some(connector(ca_bundle)?),
        false => None,
    };
    Ok(Arc::new(move |origin| {
        Box::pin(connect(connector.clone(), origin))
    }))
}

/// Whether a server's certificate is not to be trusted: it will not be the next time either.
pub(crate) fn is_untrusted(error: &io::Error) -> bool {
    let source = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(source, Some(rustls::Error::InvalidCertificate(_)))
}

async fn connect(connector: Option<TlsConnector>, origin: Origin) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
    stream.set_nodelay(true)?;
    if !origin.tls {
        return Ok(Box::new(stream));
    }
    let connector = connector.ok_or_else(|| io::Error::other("there is no TLS here"))?;
    let name = ServerName::try_from(origin.host)
        .map_err(|_| io::Error::other("no certificate can be for such a host"))?;
    Ok(Box::new(connector.connect(name, stream).await?))
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
