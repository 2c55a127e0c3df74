//! The HTTP client of every request to AWS: one pool of connections for all services.
//!
//! AWS's endpoints have certificates of Amazon Trust Services. Its five root certificates are compiled
//! in. To load the system's, over a hundred, would take six times as long as everything else that
//! the first invocation does.
//!
//! Amazon advises against trusting its present roots alone. A certificate that they do not vouch for
//! is therefore checked against the system's trust store: behind a proxy that inspects TLS, for
//! example, or if AWS changes its roots.
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

/// Trusts Amazon's root certificates, and those of the system once Amazon's do not suffice.
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
        self.system.get_or_init(|| connector(TrustStore::default()))
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
                // Nothing of the request has been sent over a connection that was not trusted.
                (Err(error), Some(again)) if issuer_is_unknown(&error) => {
                    if !connectors.needs_system.swap(true, Ordering::Relaxed) {
                        tracing::info!(
                            "Amazon's root certificates do not suffice: using the system's"
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

/// Returns whether a request failed because no trusted root certificate vouches for the server's.
fn issuer_is_unknown(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) =
            error.downcast_ref()
        {
            return true;
        }
        next = match error.downcast_ref::<io::Error>() {
            // Its source is not what it wraps, but the source of that.
            Some(error) => error
                .get_ref()
                .map(|wrapped| wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    false
}
