//! Where the hub and its cache are, from the environment variables that `huggingface_hub` 2.4 reads
//! (`constants.py`, `utils/_auth.py`), so that both programs share one cache and one token.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;

/// The hub where `HF_ENDPOINT` names none.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A secret that stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token as it goes into a request.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a name to resolve and a connection to stand.
    pub connect: Duration,
    /// For the next byte.
    pub no_bytes: Duration,
    /// Attempts that bring nothing before giving up.
    pub attempts: u32,
    /// Before the second attempt; doubled for each one after it.
    pub first_wait: Duration,
    /// The longest wait that a server may ask for; with more, the pull ends and says so.
    pub longest_wait: Duration,
    /// What waits.
    pub wait: fn(Duration),
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(10),
            no_bytes: Duration::from_secs(60),
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(90),
            wait: std::thread::sleep,
        }
    }
}

/// Everything that a pull depends on besides its arguments.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache: `$HF_HUB_CACHE`, else `$HF_HOME/hub`.
    pub cache: PathBuf,
    /// The hub: `$HF_ENDPOINT`, without a final `/`.
    pub endpoint: String,
    /// `$HF_TOKEN`, else what the token file holds.
    pub token: Option<Token>,
    /// `$HF_HUB_OFFLINE`: no request is made.
    pub offline: bool,
    /// `$ALL_PROXY`, `$HTTPS_PROXY` or `$HTTP_PROXY`, with `$NO_PROXY`.
    pub proxy: Option<ureq::Proxy>,
    /// What `$SSL_CERT_FILE` holds: the authorities that are believed in place of the built-in ones
    /// of Mozilla, for a mirror or a proxy with a certificate of its own.
    pub authorities: Option<Vec<ureq::tls::Certificate<'static>>>,
    /// Timeouts and retries.
    pub patience: Patience,
}

impl Settings {
    /// The settings for the user and environment of this process.
    ///
    /// # Errors
    /// When a variable does not hold what it should.
    pub fn from_env() -> Result<Self, HubError> {
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        let mut settings = Self::new(&home, |name| std::env::var_os(name))?;
        settings.proxy = ureq::Proxy::try_from_env();
        Ok(settings)
    }

    /// The settings for a home and the values of environment variables, without a proxy. An empty
    /// value counts as none. The token file is read.
    ///
    /// # Errors
    /// When a variable does not hold what it should.
    pub fn new(home: &Path, var: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| var(name).map(|value| expand(value, home, &var));
        let hub_home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME")
                .unwrap_or_else(|| home.join(".cache"))
                .join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| hub_home.join("hub"));
        let given = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = given.trim().trim_end_matches('/').to_owned();
        if super::http::origin(&endpoint).is_none() {
            return Err(HubError::Settings(format!(
                "HF_ENDPOINT: expected an address like {DEFAULT_ENDPOINT}, got '{}'",
                given.escape_debug()
            )));
        }
        let is_true = |name: &str| {
            text(name).is_some_and(|value| {
                ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
            })
        };
        // The file is only there for whoever has logged in; unreadable is as good as absent.
        let stored = || {
            let path = path("HF_TOKEN_PATH").unwrap_or_else(|| hub_home.join("token"));
            std::fs::read_to_string(path).ok()
        };
        let token = if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            text("HF_TOKEN")
                .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
                .or_else(stored)
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty())
        };
        if let Some(token) = &token
            && !token.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(HubError::Settings(
                "HF_TOKEN or the token file: a token is one word of ASCII characters".to_owned(),
            ));
        }
        let authorities = path("SSL_CERT_FILE")
            .map(|path| read_certificates(&path))
            .transpose()?;
        Ok(Settings {
            cache: std::path::absolute(&cache).map_err(HubError::io(&cache))?,
            endpoint,
            token: token.map(Token),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            proxy: None,
            authorities,
            patience: Patience::default(),
        })
    }
}

fn read_certificates(path: &Path) -> Result<Vec<ureq::tls::Certificate<'static>>, HubError> {
    let trouble =
        |why: String| HubError::Settings(format!("SSL_CERT_FILE: {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| trouble(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let ureq::tls::PemItem::Certificate(certificate) =
            item.map_err(|error| trouble(error.to_string()))?
        {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(trouble("expected certificates in PEM, got none".to_owned()));
    }
    Ok(certificates)
}

/// Replaces a leading `~` and every `$NAME` or `${NAME}` that is set, as Python's `expanduser` and
/// `expandvars` do.
fn expand(value: OsString, home: &Path, var: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(text) = value.to_str() else {
        return PathBuf::from(value);
    };
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, after) = variable(&rest[1..]);
        match var(name).and_then(|value| value.into_string().ok()) {
            Some(value) if !name.is_empty() => expanded.push_str(&value),
            _ => expanded.push_str(&rest[..rest.len() - after.len()]),
        }
        rest = after;
    }
    expanded.push_str(rest);
    match expanded.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(below) if below.starts_with('/') => home.join(below.trim_start_matches('/')),
        _ => PathBuf::from(expanded),
    }
}

/// The name of a variable at the beginning of `text`, and what follows it.
fn variable(text: &str) -> (&str, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (name, after);
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::new(Path::new("/home/a"), |name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let check = |vars: &[(&str, &str)], expected: &str| {
            assert_eq!(
                settings(vars).unwrap().cache,
                Path::new(expected),
                "{vars:?}"
            );
        };
        check(&[], "/home/a/.cache/huggingface/hub");
        check(&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub");
        check(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub");
        check(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")], "/c");
        check(
            &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")],
            "/old",
        );
        check(&[("HF_HUB_CACHE", "")], "/home/a/.cache/huggingface/hub");
        check(&[("HF_HOME", "~/hf")], "/home/a/hf/hub");
        check(&[("HF_HUB_CACHE", "~")], "/home/a");
        check(
            &[
                ("HF_HUB_CACHE", "$BASE/${SUB}x/$NONE"),
                ("BASE", "/b"),
                ("SUB", "s"),
            ],
            "/b/sx/$NONE",
        );
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let check = |vars: &[(&str, &str)], expected: Option<&str>| {
            let token = settings(vars).unwrap().token;
            assert_eq!(token.as_ref().map(Token::reveal), expected, "{vars:?}");
        };
        check(&[], None);
        check(&[("HF_HOME", home)], Some("hf_file"));
        check(
            &[("HF_HOME", home), ("HF_TOKEN", " hf_var ")],
            Some("hf_var"),
        );
        check(
            &[("HF_TOKEN_PATH", &format!("{home}/token"))],
            Some("hf_file"),
        );
        check(
            &[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")],
            None,
        );
        let shown = format!("{:?}", settings(&[("HF_TOKEN", "hf_secret")]).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        assert!(settings(&[("HF_TOKEN", "a\nb")]).is_err());
    }

    #[test]
    fn an_endpoint_that_is_no_address_is_told() {
        assert_eq!(settings(&[]).unwrap().endpoint, DEFAULT_ENDPOINT);
        let mirror = settings(&[("HF_ENDPOINT", "http://m:8080/hub/")]).unwrap();
        assert_eq!(mirror.endpoint, "http://m:8080/hub");
        for bad in ["huggingface.co", "ftp://x", "http://", "file:///etc"] {
            let error = settings(&[("HF_ENDPOINT", bad)]).unwrap_err().to_string();
            assert!(
                error.contains("HF_ENDPOINT") && error.contains(bad),
                "{error}"
            );
        }
    }

    #[test]
    fn authorities_that_cannot_be_read_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let check = |part: &str| {
            let vars = [("SSL_CERT_FILE", path.to_str().unwrap())];
            let error = settings(&vars).unwrap_err().to_string();
            assert!(error.contains("ca.pem") && error.contains(part), "{error}");
        };
        check("No such file");
        std::fs::write(&path, "nothing").unwrap();
        check("got none");
    }

    #[test]
    fn offline_is_what_python_takes_for_true() {
        for (value, expected) in [("1", true), ("yes", true), ("On", true), ("0", false)] {
            let offline = settings(&[("HF_HUB_OFFLINE", value)]).unwrap().offline;
            assert_eq!(offline, expected, "{value}");
        }
    }
}
