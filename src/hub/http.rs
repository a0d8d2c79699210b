//! Requests: redirects, the token, timeouts, and what an answer means.
//!
//! The token goes to the origin of the endpoint alone, whoever redirects where. Nothing is retried
//! here: an answer says whether it is worth it, and [`super::retry`] does it.

use std::time::Duration;

use ureq::http::{HeaderMap, Uri};

use super::error::HubError;
use super::settings::Settings;

/// As many as a browser follows without doubt.
const MAX_REDIRECTS: usize = 10;

/// Why a request brought nothing.
#[derive(Debug)]
pub enum Fault {
    /// The next attempt may do better.
    Again(Again),
    /// It would not.
    Final(HubError),
}

/// A failed attempt that is worth another one.
#[derive(Debug)]
pub struct Again {
    /// What it ended with.
    pub reason: String,
    /// What the server asked to wait.
    pub wait: Option<Duration>,
    /// The host, when no connection stood at all.
    pub unreachable: Option<String>,
    /// Bytes that came before it ended.
    pub gained: u64,
}

impl Again {
    /// A connection that stood and ended.
    pub fn cut(reason: impl Into<String>, gained: u64) -> Fault {
        Fault::Again(Again {
            reason: reason.into(),
            wait: None,
            unreachable: None,
            gained,
        })
    }
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Fault::Final(error)
    }
}

/// An answer whose status is still to be looked at.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The address that answered, after redirects.
    pub url: String,
    /// What the answers said, first to last.
    pub hops: Vec<HeaderMap>,
    /// The content.
    pub body: ureq::Body,
}

impl Reply {
    /// A header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.hops.last()?.get(name)?.to_str().ok()
    }

    /// A header of the last answer that has it.
    pub fn header_on_the_way(&self, name: &str) -> Option<&str> {
        self.hops
            .iter()
            .rev()
            .find_map(|headers| headers.get(name)?.to_str().ok())
    }
}

/// Makes requests.
pub struct Http {
    agent: ureq::Agent,
    origin: Option<Origin>,
    authorization: Option<String>,
}

impl Http {
    /// By the settings.
    pub fn new(settings: &Settings) -> Self {
        let patience = settings.patience;
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Some(authorities) = &settings.authorities {
            tls = tls.root_certs(authorities.iter().cloned().into());
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, because of what stands in the answers on the way and of the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.no_bytes))
            .timeout_per_read(Some(patience.no_bytes))
            .timeout_per_write(Some(patience.no_bytes))
            .proxy(settings.proxy.clone())
            .tls_config(tls.build())
            .user_agent(concat!("harkd/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Http {
            agent,
            origin: origin(&settings.endpoint),
            authorization: settings
                .token
                .as_ref()
                .map(|token| format!("Bearer {}", token.reveal())),
        }
    }

    /// Whether a token is sent to the hub.
    pub fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Whether `url` is on the hub itself.
    pub fn is_hub(&self, url: &str) -> bool {
        self.origin.is_some() && origin(url) == self.origin
    }

    /// Asks for a file from byte `from` on.
    ///
    /// # Errors
    /// When no answer came.
    pub fn get(&self, what: &str, url: &str, from: u64) -> Result<Reply, Fault> {
        self.follow(
            what,
            url,
            |url| {
                let request = self.agent.get(url);
                if from > 0 {
                    request.header("Range", format!("bytes={from}-"))
                } else {
                    request
                }
            },
            |_| false,
        )
    }

    /// Asks about a file; a redirect that says all there is to know is not followed.
    ///
    /// # Errors
    /// When no answer came.
    pub fn head(&self, what: &str, url: &str) -> Result<Reply, Fault> {
        self.follow(
            what,
            url,
            |url| self.agent.head(url),
            |headers| headers.contains_key("X-Linked-Etag"),
        )
    }

    fn follow(
        &self,
        what: &str,
        url: &str,
        request: impl Fn(&str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody>,
        enough: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Reply, Fault> {
        let mut url = url.to_owned();
        let mut hops = Vec::new();
        loop {
            // Compressed, lengths and ranges would mean other bytes.
            let mut request = request(&url).header("Accept-Encoding", "identity");
            if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_hub(&url)) {
                request = request.header("Authorization", authorization);
            }
            let response = request
                .call()
                .map_err(|error| fault_of(what, &url, error))?;
            let (parts, body) = response.into_parts();
            let redirect = matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let stop = !redirect || enough(&parts.headers);
            hops.push(parts.headers);
            if stop {
                return Ok(Reply {
                    // A redirect that was enough is as good as an answer.
                    status: if redirect { 200 } else { parts.status.as_u16() },
                    url,
                    hops,
                    body,
                });
            }
            let refuse = |reason: String| Err(HubError::refused(what, reason).into());
            let location = hops.last().and_then(|headers| headers.get("Location"));
            let next = location
                .and_then(|location| location.to_str().ok())
                .and_then(|location| join(&url, location));
            let Some(next) = next else {
                return refuse(format!(
                    "{} redirects, and not to an address of the web: {location:?}",
                    shown(&url)
                ));
            };
            if url.starts_with("https:") && !next.starts_with("https:") {
                return refuse(format!(
                    "{} redirects to {}, which is not encrypted",
                    shown(&url),
                    shown(&next)
                ));
            }
            if hops.len() > MAX_REDIRECTS {
                return refuse(format!("more than {MAX_REDIRECTS} redirects"));
            }
            url = next;
        }
    }
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// The origin of an address of the web, if it is one.
pub fn origin(url: &str) -> Option<Origin> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?.to_lowercase();
    Some(Origin {
        port: uri.port_u16().unwrap_or(port),
        scheme,
        host,
    })
}

/// An address as it may be shown: what is signed into the query of a redirect stays out.
pub fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// Where a `Location` leads from `base`.
fn join(base: &str, location: &str) -> Option<String> {
    let next = if location.contains("://") {
        location.to_owned()
    } else {
        let (scheme, rest) = base.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let path = shown(path);
            let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
            format!("{scheme}://{authority}{folder}{location}")
        }
    };
    let next = next.split('#').next()?.to_owned();
    origin(&next).map(|_| next)
}

fn fault_of(what: &str, url: &str, error: ureq::Error) -> Fault {
    use std::io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    use ureq::{Error, Timeout};
    let away = match &error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::ConnectProxyFailed(_)
        | Error::InvalidProxyUrl
        | Error::Tls(_)
        | Error::Rustls(_)
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) => matches!(
            error.kind(),
            ConnectionRefused
                | HostUnreachable
                | NetworkUnreachable
                | NetworkDown
                | AddrNotAvailable
        ),
        _ => false,
    };
    let host = origin(url).map_or_else(
        || shown(url).to_owned(),
        |at| format!("{}://{}:{}", at.scheme, at.host, at.port),
    );
    match error {
        Error::BadUri(_) | Error::Http(_) | Error::LargeResponseHeader(..) => {
            HubError::refused(what, format!("{}: {error}", shown(url))).into()
        }
        _ => Fault::Again(Again {
            reason: match error {
                Error::HostNotFound => "the name does not resolve".to_owned(),
                Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                    "no connection in time".to_owned()
                }
                Error::Timeout(_) => "nothing came for too long".to_owned(),
                other => other.to_string(),
            },
            wait: None,
            unreachable: away.then_some(host),
            gained: 0,
        }),
    }
}

/// The failure that a status of 4xx or 5xx is, when another attempt may help.
pub fn passing(reply: &Reply) -> Option<Again> {
    let status = reply.status;
    if !(status == 408 || status == 429 || (500..600).contains(&status)) {
        return None;
    }
    let header = |name: &str| reply.header(name);
    Some(Again {
        reason: format!("{} answers with status {status}", shown(&reply.url)),
        wait: header("Retry-After")
            .and_then(|text| retry_after(text, header("Date")))
            .or_else(|| header("RateLimit").and_then(rate_limit)),
        unreachable: None,
        gained: 0,
    })
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is taken against the server's own
/// clock.
fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let parse = |text: &str| {
        jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(text)
            .ok()
    };
    let seconds = parse(text)?.as_second() - parse(date?)?.as_second();
    Some(Duration::from_secs(seconds.max(0).unsigned_abs()))
}

/// `RateLimit: "api";r=0;t=55`, as the hub says when its window ends (draft-ietf-httpapi-ratelimit).
fn rate_limit(text: &str) -> Option<Duration> {
    let seconds = text
        .split(';')
        .find_map(|part| part.trim().strip_prefix("t="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_differ_in_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(a).is_some() && origin(a) == origin(b);
        assert!(same("https://a/x", "https://A:443/y?z"));
        assert!(!same("https://a", "http://a"));
        assert!(!same("https://a", "https://a:8443"));
        assert!(!same("https://a", "https://a.b"));
        assert!(!same("https://a@b", "https://a"));
        for bad in ["", "a/b", "ftp://a", "file:///x", "https://"] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let check = |location: &str, expected: Option<&str>| {
            let next = join("https://h:1/a/b?c=/d", location);
            assert_eq!(next.as_deref(), expected, "{location}");
        };
        check("https://cdn/x?s=1#f", Some("https://cdn/x?s=1"));
        check("//cdn/x", Some("https://cdn/x"));
        check("/x", Some("https://h:1/x"));
        check("x", Some("https://h:1/a/x"));
        check("file:///etc/passwd", None);
        check("javascript://x", None);
    }

    #[test]
    fn the_wait_that_a_server_asks_for_is_read() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let check = |text: &str, expected: Option<u64>| {
            let wait = retry_after(text, date).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{text}");
        };
        check("7", Some(7));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        check("Sun, 06 Nov 1994 08:49:07 GMT", Some(0));
        check("soon", None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
        assert_eq!(
            rate_limit("\"api\";r=0;t=55"),
            Some(Duration::from_secs(55))
        );
    }
}
