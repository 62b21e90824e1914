//! HTTPS to a server whose certificate nobody vouches for: the key must not reach it.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{KEY, request};
use crate::call::{FaultKind, Scope};
use crate::config;
use crate::provider::Provider;
use crate::provider::openai::OpenAi;

/// `openssl req -x509 -newkey ec …` for `localhost` and 127.0.0.1; valid until 2126.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBmDCCAT6gAwIBAgIUXirbj+a85iWSXqFUgkEJ3sDBtsYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzIzMjU0OFoYDzIxMjYxMDMw
MjMyNTQ4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATgmpHMbJseg3R0Zh8fq8uD41Ddxhq5t6E8RPOERd9KpG1CcHmZqjgA
pcJlGMGvJAjDr2DwZeT+vzHpLp3UUZDqo2wwajAdBgNVHQ4EFgQUG7ctqIZHwFsg
dJUsiyioeuPCaFgwHwYDVR0jBBgwFoAUG7ctqIZHwFsgdJUsiyioeuPCaFgwDAYD
VR0TAQH/BAIwADAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZIzj0E
AwIDSAAwRQIgGIvz1SwHRYxNxop0WQqxSjfHPfFlR4eAt8kpIMfnvjECIQCWQcwm
4R9uGqDipR/gga69d0Pli8dl/PbNQ5ahxvpfCA==
-----END CERTIFICATE-----
";

/// Made for this file and used nowhere else: it protects nothing.
const PRIVATE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgb2SFAf/m6FYr2Pi/
LLtRqBnZWH532GFCD1kadxLH9++hRANCAATgmpHMbJseg3R0Zh8fq8uD41Ddxhq5
t6E8RPOERd9KpG1CcHmZqjgApcJlGMGvJAjDr2DwZeT+vzHpLp3UUZDq
-----END PRIVATE KEY-----
";

/// Waits for one connection and returns what came through its TLS, or why nothing did.
fn serve(listener: TcpListener) -> thread::JoinHandle<Result<Vec<u8>, std::io::Error>> {
    let certificates = vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(PRIVATE_KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let mut received = Vec::new();
        tls.read_to_end(&mut received).map(|_| received)
    })
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://{}/v1", listener.local_addr().unwrap());
    let server = serve(listener);
    let config = config::Provider {
        name: "test".into(),
        kind: config::ProviderKind::OpenAi {
            base_url: base_url.parse().unwrap(),
            api_key_env: Some("API_KEY".to_owned()),
            output_cap_field: "max_tokens".to_owned(),
            api: config::Api::Chat,
        },
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
    };
    let provider = OpenAi::new(&config, Some(KEY.into())).unwrap();
    let fault = provider.call(&request(), 1).await.unwrap_err();
    assert_eq!((fault.kind, fault.scope), (FaultKind::Connection, Scope::Attempt));
    assert!(
        fault.message.starts_with("cannot connect to `127.0.0.1:"),
        "{}",
        fault.message
    );
    assert!(fault.message.contains("certificate"), "{}", fault.message);
    let received = server.join().unwrap();
    assert!(
        received.is_err(),
        "no handshake, so nothing was read: {received:?}"
    );
}
