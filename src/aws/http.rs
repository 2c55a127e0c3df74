//! The HTTP client of every request to AWS: one pool of connections for all services.
//!
//! AWS's endpoints have certificates that Amazon Trust Services has signed. Its five root
//! certificates are part of the function. The system has over a hundred. Loading them takes six
//! times as many instructions as everything else in the first invocation.
//!
//! Amazon advises against trusting only its present root certificates. If an endpoint's certificate
//! was issued under none of them, the client also loads the system's. A proxy that inspects TLS can
//! cause this, or a change of AWS's root certificates.
//!
//! Source: <https://www.amazontrust.com/repository/>.

use std::{
    error::Error,
    io,
    sync::{Arc, OnceLock},
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

/// Returns a client whose clones share connections.
pub(super) fn client() -> SharedHttpClient {
    let connector = SharedHttpConnector::new(TrustingConnector(Arc::new(Connectors {
        amazon: connector(false),
        system: OnceLock::new(),
    })));
    http_client_fn(move |_, _| connector.clone())
}

/// Trusts Amazon's root certificates, and the system's as well once a request has needed them.
#[derive(Debug)]
struct TrustingConnector(Arc<Connectors>);

#[derive(Debug)]
struct Connectors {
    amazon: SharedHttpConnector,
    /// Made when a request needs it, and used for all requests from then on.
    system: OnceLock<SharedHttpConnector>,
}

impl Connectors {
    fn system(&self) -> &SharedHttpConnector {
        self.system.get_or_init(|| {
            tracing::info!(
                "the endpoint's certificate was not issued under Amazon's root certificates: the \
                 system's are trusted as well from now on"
            );
            connector(true)
        })
    }
}

impl HttpConnector for TrustingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if let Some(system) = self.0.system.get() {
            return system.call(request);
        }
        let again = request.try_clone();
        let answer = self.0.amazon.call(request);
        let connectors = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            match (answer.await, again) {
                // The TLS handshake failed, so nothing of the request was sent. It can be sent again.
                (Err(error), Some(again)) if issuer_is_unknown(&error) => {
                    connectors.system().call(again).await
                }
                (answer, _) => answer,
            }
        })
    }
}

/// Returns a connector that trusts Amazon's root certificates, and the system's if asked to.
fn connector(trusts_system: bool) -> SharedHttpConnector {
    let trusted = TrustStore::empty()
        .with_native_roots(trusts_system)
        .with_pem_certificate(AMAZON_ROOTS);
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
