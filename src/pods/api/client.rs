//! One connection to the API server: GET before a deadline, pages, and what its refusals mean.

use super::ApiError;
use super::in_time::{Late, in_time};
use super::objects::{Page, Status};
use crate::facts::{Lack, Unseen};
use http::header::{HOST, HeaderValue, RETRY_AFTER};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Items of one page: what kubectl asks for.
const PAGE: usize = 500;
/// Largest page that is read: 500 objects of 128 KiB.
const MOST_BYTES: usize = 64 << 20;
/// Items of one list that are kept.
const MOST_ITEMS: usize = 500_000;
/// How often a list that the server has forgotten meanwhile (410) is begun again.
const MOST_RESTARTS: u32 = 3;
/// Pause after a 429 that names none, or too short a one.
const PAUSE: Duration = Duration::from_secs(1);

/// Why one question has no answer.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// 401 and 403, with the server's words.
    Denied(String),
    /// 410: the list is too old to be continued.
    Gone(String),
    /// Anything else; `Failed` reads `the API server at X …`.
    Other(String),
}

impl Refusal {
    /// That something could not be looked at, for this reason.
    pub(super) fn of(&self, what: String) -> Unseen {
        let (why, lack) = match self {
            Self::Denied(why) => (format!("the API server refused: {why}"), Lack::Rights),
            Self::Gone(why) | Self::Other(why) => (format!("the API server {why}"), Lack::Answer),
        };
        Unseen { what, why, lack }
    }
}

/// The API server, not asked yet.
pub(super) struct Api {
    tokio: tokio::runtime::Runtime,
    client: kube::Client,
    host: Option<HeaderValue>,
    deadline: Instant,
    timeout: Duration,
    pub(super) server: String,
    pub(super) credentials: String,
}

impl Api {
    /// Makes the client; nothing is sent, but a credential plugin runs, for as long as there is time. A name becomes an
    /// address by `look_up`; the certificate is still held against the name.
    pub(super) fn new(
        mut config: kube::Config,
        credentials: String,
        timeout: Duration,
        deadline: Instant,
        look_up: &dyn Fn(&str) -> Result<IpAddr, String>,
    ) -> Result<Self, ApiError> {
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let unusable = |why: String| ApiError::Unusable(format!("{credentials}: {why}"));
        let name = config.cluster_url.host().unwrap_or_default().to_owned();
        let mut host = None;
        if name.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
            let address = look_up(&name).map_err(|why| unusable(format!("cannot resolve {name}: {why}")))?;
            host = config.cluster_url.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
            config.cluster_url = at_address(&config.cluster_url, address)
                .ok_or_else(|| unusable(format!("{server} is no URL")))?;
            config.tls_server_name.get_or_insert(name);
        }
        config.connect_timeout = Some(timeout);
        config.read_timeout = Some(timeout);
        config.write_timeout = Some(timeout);
        // A 429 is waited for here, as long as it asks for.
        config.default_retry = false;
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| unusable(format!("cannot start the client: {e}")))?;
        let what = giver(&config);
        let handle = tokio.handle().clone();
        // A credential plugin runs meanwhile.
        let made = in_time(deadline, move || {
            let _inside = handle.enter();
            kube::Client::try_from(config).map_err(|e| chain(&e))
        });
        let client = match made {
            Ok(made) => made.map_err(unusable)?,
            Err(Late::Late) => return Err(ApiError::Late { what, timeout, credentials }),
            Err(Late::Never(why)) => return Err(unusable(why)),
        };
        Ok(Self { tokio, client, host, deadline, timeout, server, credentials })
    }

    /// Lets go. A credential plugin that is still asked for another token is left behind.
    pub(super) fn close(self) {
        self.tokio.shutdown_background();
    }

    /// What a refusal is for the whole command.
    pub(super) fn error(&self, refusal: Refusal) -> ApiError {
        let (server, credentials) = (self.server.clone(), self.credentials.clone());
        match refusal {
            Refusal::Denied(why) => ApiError::Refused { server, why, credentials },
            Refusal::Gone(why) | Refusal::Other(why) => ApiError::Failed { server, why, credentials },
        }
    }

    /// One object.
    pub(super) fn object<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        parse(&self.get(path)?)
    }

    /// Every item of a list, page by page; with what was read when one could not be.
    pub(super) fn list<T: DeserializeOwned, F>(
        &self,
        path: &str,
        field_selector: Option<&str>,
        facts: impl Fn(T) -> F,
    ) -> (Vec<F>, Option<Refusal>) {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        let mut restarts = 0;
        loop {
            let mut query = format!("{path}?limit={PAGE}");
            if let Some(selector) = field_selector {
                query.push_str(&format!("&fieldSelector={}", encode(selector)));
            }
            if let Some(token) = &next {
                query.push_str(&format!("&continue={}", encode(token)));
            }
            let page: Page<T> = match self.object(&query) {
                Ok(page) => page,
                Err(Refusal::Gone(_)) if next.is_some() && restarts < MOST_RESTARTS => {
                    restarts += 1;
                    items.clear();
                    next = None;
                    continue;
                }
                Err(refusal) => return (items, Some(refusal)),
            };
            let Some(page_items) = page.items else {
                return (items, Some(Refusal::Other("answered with something that is no list".into())));
            };
            let before = next;
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_some() && next == before {
                return (items, Some(Refusal::Other("gives the same page again and again".into())));
            }
            items.extend(page_items.into_iter().map(&facts));
            if next.is_none() {
                return (items, None);
            }
            if items.len() >= MOST_ITEMS {
                return (items, Some(Refusal::Other(format!("has more than {MOST_ITEMS} items in {path}"))));
            }
        }
    }

    /// The body of an answer. A server that is too busy (429) is asked again when it says, as long as there is time.
    fn get(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let late = || Refusal::Other(format!("did not answer within {} ms", self.timeout.as_millis()));
        let work = async {
            loop {
                let (status, pause, body) = self.ask(path).await?;
                if status.is_success() {
                    return Ok(body);
                }
                let words = words(&body, status);
                if status == http::StatusCode::TOO_MANY_REQUESTS {
                    let pause = pause.unwrap_or(PAUSE).max(PAUSE);
                    if pause >= self.deadline.saturating_duration_since(Instant::now()) {
                        return Err(Refusal::Other(format!("is too busy: {words}")));
                    }
                    tokio::time::sleep(pause).await;
                    continue;
                }
                return Err(match status.as_u16() {
                    401 | 403 => Refusal::Denied(words),
                    410 => Refusal::Gone(format!("answered {words}")),
                    _ => Refusal::Other(format!("answered {words}")),
                });
            }
        };
        self.tokio
            .block_on(async { tokio::time::timeout_at(self.deadline.into(), work).await })
            .unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, path: &str) -> Result<(http::StatusCode, Option<Duration>, Vec<u8>), Refusal> {
        let mut request = http::Request::get(path);
        if let Some(host) = &self.host {
            request = request.header(HOST, host);
        }
        let request = request
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|e| Refusal::Other(format!("cannot be asked for {path}: {e}")))?;
        let failed = |e: &dyn std::error::Error| Refusal::Other(format!("cannot be asked: {}", chain(e)));
        let response = self.client.send(request).await.map_err(|e| failed(&e))?;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| Refusal::Other(format!("broke off in its answer: {}", chain(&e))))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > MOST_BYTES {
                return Err(Refusal::Other(format!("sent more than {MOST_BYTES} bytes at once")));
            }
            bytes.extend_from_slice(&data);
        }
        Ok((status, pause.map(Duration::from_secs), bytes))
    }
}

/// What is asked for the credentials while the client is made.
fn giver(config: &kube::Config) -> String {
    let who = &config.auth_info;
    match (&who.exec, &who.auth_provider) {
        (_, Some(provider)) => format!("its auth provider {}", provider.name),
        (Some(exec), None) => {
            format!("its credential plugin {}", exec.command.as_deref().unwrap_or_default())
        }
        (None, None) => "its files".to_owned(),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|e| Refusal::Other(format!("answered with something that is no answer of Kubernetes: {e}")))
}

/// What a refusal says: a Status' message, plain text, else the code's name.
fn words(body: &[u8], status: http::StatusCode) -> String {
    let said = match serde_json::from_slice::<Status>(body) {
        Ok(object) => object.message.unwrap_or_default(),
        Err(_) => String::from_utf8_lossy(body.get(..600).unwrap_or(body)).into_owned(),
    };
    let said: String = said.trim().chars().take(500).collect();
    if said.is_empty() { status.to_string() } else { format!("{}: {said}", status.as_u16()) }
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text.chars().take(500).collect()
}

fn at_address(url: &http::Uri, address: IpAddr) -> Option<http::Uri> {
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let host = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    format!("{}://{host}{port}{}", url.scheme_str()?, url.path()).parse().ok()
}

/// A value of a query, percent-encoded.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words_whatever_its_form() {
        let code = http::StatusCode::GATEWAY_TIMEOUT;
        assert_eq!(words(br#"{"metadata":{},"message":"Timeout: late"}"#, code), "504: Timeout: late");
        assert_eq!(
            words(b"Too many requests.\n", http::StatusCode::TOO_MANY_REQUESTS),
            "429: Too many requests."
        );
        assert_eq!(words(b"", code), "504 Gateway Timeout");
    }

    #[test]
    fn a_name_becomes_an_address_and_a_token_is_encoded() {
        let url: http::Uri = "https://api.example:6443/k8s".parse().unwrap();
        assert_eq!(at_address(&url, "10.0.0.1".parse().unwrap()).unwrap(), "https://10.0.0.1:6443/k8s");
        assert_eq!(at_address(&url, "fd00::1".parse().unwrap()).unwrap(), "https://[fd00::1]:6443/k8s");
        assert_eq!(encode("a=b&c,ü"), "a%3Db%26c%2C%C3%BC");
    }
}
