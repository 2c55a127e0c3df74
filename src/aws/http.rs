//! The HTTP client of every request to AWS: one pool of connections for all services.
//!
//! AWS's endpoints have certificates that Amazon Trust Services has signed. Its five root
//! certificates are compiled in. Loading the system's root certificates, of which there are over a hundred, takes
//! six times as many instructions as everything else in the first invocation.
//!
//! Amazon advises against trusting only its present root certificates. If none of the five leads to an endpoint's
//! certificate, the client therefore loads the system's trust store, too. This happens behind a proxy
//! that inspects TLS, for example, or if AWS changes its roots.
//!
//! Source: <https://www.amazontrust.com/repository/>.

use std::{
    error::Error,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_smithy_http_client::{
    ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector, http_client_fn,
    },
    orchestrator::HttpRequest,
};
use rustls::CertificateError;

use super::CONNECT_TIME;

/// The root certificates of Amazon Trust Services, each with its fingerprint in a comment.
const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// Returns a client whose clones share connections. It loads its certificates when it sends its
/// first request.
pub(super) fn client() -> SharedHttpClient {
    let connector = SharedHttpConnector::new(TrustingConnector::default());
    http_client_fn(move |_, _| connector.clone())
}

/// Trusts Amazon's root certificates, and the system's as well once a request has needed them.
#[derive(Clone, Debug, Default)]
struct TrustingConnector(Arc<Connectors>);

#[derive(Debug, Default)]
struct Connectors {
    amazon: OnceLock<SharedHttpConnector>,
    system: OnceLock<SharedHttpConnector>,
    needs_system: AtomicBool,
}

impl Connectors {
    fn amazon(&self) -> &SharedHttpConnector {
        self.amazon.get_or_init(|| {
            connector(
                TrustStore::empty()
                    .with_native_roots(false)
                    .with_pem_certificate(AMAZON_ROOTS),
            )
        })
    }

    fn system(&self) -> &SharedHttpConnector {
        self.system.get_or_init(|| {
            connector(
                TrustStore::empty()
                    .with_native_roots(true)
                    .with_pem_certificate(AMAZON_ROOTS),
            )
        })
    }
}

impl HttpConnector for TrustingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if self.0.needs_system.load(Ordering::Relaxed) {
            return self.0.system().call(request);
        }
        let again = request.try_clone();
        let answer = self.0.amazon().call(request);
        let connectors = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            match (answer.await, again) {
                // The TLS handshake failed, so nothing of the request was sent. It can be sent again.
                (Err(error), Some(again)) if issuer_is_unknown(&error) => {
                    if !connectors.needs_system.swap(true, Ordering::Relaxed) {
                        tracing::info!(
                            "the endpoint's certificate was not issued under Amazon's root certificates: \
                             the system's are trusted as well from now on"
                        );
                    }
                    connectors.system().call(again).await
                }
                (answer, _) => answer,
            }
        })
    }
}

fn connector(trusted: TrustStore) -> SharedHttpConnector {
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let mut builder = ConnectorBuilder::default()
        .connector_settings(
            HttpConnectorSettings::builder()
                .connect_timeout(CONNECT_TIME)
                .build(),
        )
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls.expect("a trust store is all that it holds"));
    builder.set_proxy_config(Some(ProxyConfig::from_env()));
    SharedHttpConnector::new(builder.build())
}

/// Returns whether a request failed because no trusted root certificate leads to the server's.
fn issuer_is_unknown(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) =
            error.downcast_ref()
        {
            return true;
        }
        next = match error.downcast_ref::<io::Error>() {
            // `io::Error::source` skips the error that it wraps, and returns the source of that.
            Some(error) => error
                .get_ref()
                .map(|wrapped| wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    false
}
