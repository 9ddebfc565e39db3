//! One repository of one registry, asked over HTTP with a bound and a deadline for everything.
//!
//! The way of a request: without credentials, or with the token of an earlier one; at 401 what the
//! registry wants is found out (`challenge`), and it is asked once more. Credentials go to the
//! registry and to the token service that it names, never along with a redirection to another host.
//! Redirections are followed (blobs lie on other hosts as a rule), but never from https to http.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::challenge::{Challenge, token_of};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fetch::{self, Answer};
use crate::limits::Patience;
use crate::manifest::ACCEPTED;
use crate::plain_http::{PlainHttp, is_loopback};
use crate::reference::Reference;

/// Redirections of one request.
const HOPS: usize = 5;
/// Bytes of a token service's answer.
const TOKEN_ANSWER: u64 = 256 * 1024;

/// A repository that images are pulled from.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    registry: String,
    /// `https://registry/v2/repository/`.
    base: Url,
    credentials: Option<Credentials>,
    plain: PlainHttp,
    pub(crate) patience: Patience,
    /// What the last request was let in with.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Registry {
    /// Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`] when this machine has no root certificates, or none that can be read.
    pub fn new(
        reference: &Reference,
        credentials: Option<Credentials>,
        plain: PlainHttp,
        patience: Patience,
    ) -> Result<Self> {
        let registry = reference.registry().to_owned();
        let in_clear = plain.allows(&registry);
        let scheme = if in_clear { "http" } else { "https" };
        let base = format!("{scheme}://{registry}/v2/{}/", reference.repository());
        let base = Url::parse(&base).map_err(|error| Error::Reference {
            reference: reference.to_string(),
            reason: error.to_string(),
        })?;
        let client = client(&base, &plain, &patience)?;
        let authorization = Mutex::new(None);
        Ok(Self { client, registry, base, credentials, plain, patience, authorization })
    }

    /// The bytes of an index or manifest, and the media type that they came with. They are those
    /// that the digest names.
    pub(crate) async fn manifest(
        &self,
        digest: &Digest,
        limit: u64,
    ) -> Result<(Vec<u8>, Option<String>)> {
        let what = format!("The manifest {digest}");
        let path = format!("manifests/{digest}");
        let accept = ACCEPTED.join(", ");
        let answer = self.small(&what, &path, Some(&accept), limit).await?;
        fetch::same_digest(&what, digest, &Digest::of(&answer.0))?;
        Ok(answer)
    }

    /// The digest of what a tag leads to now. The answer itself is hashed; a header is not believed.
    ///
    /// # Errors
    ///
    /// What a request can fail with.
    pub async fn digest_now(&self, tag: &str, limit: u64) -> Result<Digest> {
        let accept = ACCEPTED.join(", ");
        let path = format!("manifests/{tag}");
        let (bytes, _) = self.small("The manifest", &path, Some(&accept), limit).await?;
        Ok(Digest::of(&bytes))
    }

    async fn small(&self, what: &str, path: &str, accept: Option<&str>, limit: u64) -> Answer {
        fetch::retried(&self.patience, || {
            fetch::within(what, self.patience.exchange, async {
                let response = self.get(path, accept, None).await?;
                fetch::body(what, response, limit).await
            })
        })
        .await
    }

    /// The answer to a GET below the repository, whose status is one of success.
    pub(crate) async fn get(
        &self,
        path: &str,
        accept: Option<&str>,
        from: Option<u64>,
    ) -> Result<Response> {
        // A digest or tag in a path has no character that would lead elsewhere.
        let url =
            self.base.join(path).map_err(|error| Error::document("The path", error.to_string()))?;
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.send(&url, accept, from, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return success(&url, response);
        }
        let wanted = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = wanted.filter_map(|value| value.to_str().ok()).find_map(Challenge::parse);
        drop(response);
        let authorization = self.answer_to(challenge).await?;
        let response = self.send(&url, accept, from, Some(&authorization)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(self.unauthorized("the credentials are not accepted"));
        }
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        success(&url, response)
    }

    async fn send(
        &self,
        url: &Url,
        accept: Option<&str>,
        from: Option<u64>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response> {
        let mut request = self.client.request(Method::GET, url.clone());
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| fetch::failed(url, error))
    }

    async fn answer_to(&self, challenge: Option<Challenge>) -> Result<HeaderValue> {
        let basic = self.credentials.as_ref().map(Credentials::basic);
        let value = match (challenge, basic) {
            (Some(Challenge::Basic), Some(basic)) => basic,
            (Some(Challenge::Basic), None) => {
                return Err(self.unauthorized("it wants a user name and a password"));
            }
            (Some(Challenge::Bearer { realm, service }), basic) => {
                format!("Bearer {}", self.token(&realm, service.as_deref(), basic).await?)
            }
            (None, _) => return Err(self.unauthorized("what it wants is not understood")),
        };
        sensitive(&value)
            .ok_or_else(|| self.unauthorized("the credentials do not fit into a header"))
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        basic: Option<String>,
    ) -> Result<String> {
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| self.may_be_asked(url))
            .ok_or_else(|| self.unauthorized("its token service is not at an https address"))?;
        url.query_pairs_mut().extend_pairs(service.map(|service| ("service", service)));
        let repository = self.base.path().trim_start_matches("/v2/").trim_end_matches('/');
        url.query_pairs_mut().append_pair("scope", &format!("repository:{repository}:pull"));
        let basic = basic.as_deref().and_then(sensitive);
        let response = self.send(&url, None, None, basic.as_ref()).await?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self
                .unauthorized("its token service does not accept the credentials, or wants some"));
        }
        let response = success(&url, response)?;
        let (answer, _) = fetch::body("The token", response, TOKEN_ANSWER).await?;
        token_of(&answer).ok_or_else(|| self.unauthorized("its token service gives no token"))
    }

    fn may_be_asked(&self, url: &Url) -> bool {
        url.scheme() == "https" || (self.base.scheme() == "http" && goes_plain(url, &self.plain))
    }

    fn unauthorized(&self, reason: &str) -> Error {
        Error::Unauthorized { registry: self.registry.clone(), reason: reason.to_owned() }
    }
}

fn success(url: &Url, response: Response) -> Result<Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    // What an error's body says is the registry's word; nobody reads it.
    Err(Error::Status { url: fetch::without_query(url), status: response.status().as_u16() })
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn goes_plain(url: &Url, plain: &PlainHttp) -> bool {
    let port = url.port_or_known_default().unwrap_or(80);
    url.scheme() == "http"
        && url.host_str().is_some_and(|host| plain.allows(&format!("{host}:{port}")))
}

fn client(base: &Url, plain: &PlainHttp, patience: &Patience) -> Result<Client> {
    let tls = |reason: String| Error::Tls { reason };
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() && base.scheme() == "https" {
        return Err(tls(
            "this machine has no root certificates; install ca-certificates".to_owned()
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let allowed = plain.clone();
    let redirections = Policy::custom(move |attempt| {
        let was_plain = attempt.previous().last().is_some_and(|url| url.scheme() == "http");
        let good =
            attempt.url().scheme() == "https" || (was_plain && goes_plain(attempt.url(), &allowed));
        if !good {
            attempt.error(
                "it is redirected from https to http, or to http on a host that is not named",
            )
        } else if attempt.previous().len() > HOPS {
            attempt.error("it is redirected too often")
        } else {
            attempt.follow()
        }
    });
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .redirect(redirections)
        .referer(false)
        .connect_timeout(patience.connect)
        .read_timeout(patience.idle)
        .user_agent(concat!("lanebox/", env!("CARGO_PKG_VERSION")));
    if base.host_str().is_some_and(is_loopback) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| tls(error.to_string()))
}
