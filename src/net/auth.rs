//! Bearer tokens: reading the challenge of a 401 and where to fetch the token that it names.
//!
//! In: `WWW-Authenticate` values; out: the address of a token, and the token in the answer. With a login the caller
//! shows it there, without one the token service is asked as anyone.

use super::doctor::AuthReport;
use super::failure::printable;
use super::url::{Url, encoded};
use crate::error::{Error, Result};
use serde::Deserialize;

/// A bearer challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
    /// Instead of `scope`, where there are any.
    scopes: Vec<String>,
}

/// The first bearer challenge with a realm among header values.
pub(super) fn bearer<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    values.find_map(|value| {
        let found = challenges(value).into_iter().find(|(scheme, parameters)| {
            scheme.eq_ignore_ascii_case("bearer") && get(parameters, "realm").is_some()
        });
        found.map(|(_, parameters)| Challenge {
            realm: get(&parameters, "realm").unwrap_or_default(),
            service: get(&parameters, "service"),
            scope: get(&parameters, "scope"),
            scopes: Vec::new(),
        })
    })
}

/// Whether a name and a password are asked for.
pub(super) fn wants_basic<'a>(mut values: impl Iterator<Item = &'a str>) -> bool {
    values.any(|value| {
        challenges(value).iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
    })
}

/// The first challenge among header values, to show.
pub(super) fn asked<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<AuthReport> {
    let (scheme, parameters) = values.find_map(|value| challenges(value).into_iter().next())?;
    let shown = |name| get(&parameters, name).map(|text| printable(&text, 200));
    Some(AuthReport {
        scheme: printable(&scheme, 40),
        realm: shown("realm"),
        service: shown("service"),
    })
}

impl Challenge {
    /// Asks for these scopes, whatever the registry named; for what it named where there are none.
    pub(super) fn with(self, scopes: Vec<String>) -> Self {
        Self { scopes, ..self }
    }

    /// Where to ask for a token to pull from `repository`; without one for a token that is good for nothing but to show
    /// that a login is. `plain`: whether an address may be asked by plain http.
    pub(super) fn token_url(&self, repository: &str, plain: &dyn Fn(&Url) -> bool) -> Result<Url> {
        let scopes = self.wanted(repository);
        let scopes = scopes.iter().map(|scope| format!("scope={}", encoded(scope)));
        let service = self.service.iter().map(|service| format!("service={}", encoded(service)));
        let query: Vec<String> = service.chain(scopes).collect();
        let realm = self.realm(plain)?;
        if query.is_empty() {
            return Ok(realm);
        }
        let uri = realm.uri().to_string();
        let joint = if uri.contains('?') { '&' } else { '?' };
        Url::parse(&format!("{uri}{joint}{}", query.join("&"))).ok_or_else(|| self.no_address())
    }

    /// Where to exchange an identity token for one to pull from `repository`, and the form to send there.
    pub(super) fn token_form(
        &self,
        repository: &str,
        plain: &dyn Fn(&Url) -> bool,
        identity: &str,
    ) -> Result<(Url, String)> {
        let scope = self.wanted(repository).join(" ");
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", "nativebuild"),
            ("service", self.service.as_deref().unwrap_or_default()),
            ("scope", &scope),
            ("refresh_token", identity),
        ];
        let fields = fields.iter().filter(|(_, value)| !value.is_empty());
        let fields = fields.map(|(name, value)| format!("{name}={}", encoded(value)));
        Ok((self.realm(plain)?, fields.collect::<Vec<_>>().join("&")))
    }

    fn wanted(&self, repository: &str) -> Vec<String> {
        let own = || (!repository.is_empty()).then(|| format!("repository:{repository}:pull"));
        if self.scopes.is_empty() {
            return self.scope.clone().or_else(own).into_iter().collect();
        }
        self.scopes.clone()
    }

    fn realm(&self, plain: &dyn Fn(&Url) -> bool) -> Result<Url> {
        Url::parse(&self.realm)
            .filter(|url| url.is_https() || plain(url))
            .ok_or_else(|| self.no_address().cause("it must be https"))
    }

    fn no_address(&self) -> Error {
        let shown = printable(&self.realm, 200);
        Error::registry(format!("`{shown}` is no address to get a token from"))
    }
}

/// The token in a token service's answer.
pub(super) fn token_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    body.token.or(body.access_token).filter(|token| !token.is_empty())
}

type Parameters = Vec<(String, String)>;

fn get(parameters: &Parameters, name: &str) -> Option<String> {
    let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
}

/// `Scheme key=value, key="quoted", Scheme …`; what does not fit is passed over.
fn challenges(text: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after_space = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after_space.strip_prefix('=')
            && !word.is_empty()
        {
            let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else if !word.is_empty() {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
        } else {
            // A stray `=` or quote.
            let Some(stray) = rest.chars().next() else { return found };
            rest = &rest[stray.len_utf8()..];
        }
    }
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<Challenge> {
        bearer([text].into_iter())
    }

    #[test]
    fn challenges_are_read() {
        let full = Challenge {
            realm: "https://auth.example/token".to_owned(),
            service: Some("r.example".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
            scopes: Vec::new(),
        };
        for text in [
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#,
            r#"bearer  service=r.example , scope="repository:a/b:pull,push", REALM = "https://auth.example/token""#,
            r#"Basic realm="x", Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull\,push""#,
        ] {
            assert_eq!(one(text).as_ref(), Some(&full), "{text}");
        }
        for text in
            ["", "Basic realm=\"x\"", "Bearer", "Bearer service=x", "=,\"", "Bearer realm=\"\""]
        {
            assert_eq!(one(text), None, "{text}");
        }
        assert_eq!(one("Bearer realm=\"open").unwrap().realm, "open");
    }

    #[test]
    fn a_name_and_a_password_may_be_asked_for() {
        for (text, wanted) in [
            ("Basic realm=\"x\"", true),
            ("Bearer realm=\"x\", basic", true),
            ("Bearer realm=\"basic\"", false),
            ("", false),
        ] {
            assert_eq!(wants_basic([text].into_iter()), wanted, "{text}");
        }
    }

    #[test]
    fn token_addresses_are_made_and_refused() {
        let url = |realm: &str, local| {
            let challenge = one(&format!("Bearer realm=\"{realm}\",service=\"s x\"")).unwrap();
            challenge
                .token_url("a/b", &|url| local && url.is_loopback())
                .map(|url| url.uri().to_string())
        };
        assert_eq!(
            url("https://h/token?x=1", false).unwrap(),
            "https://h/token?x=1&service=s%20x&scope=repository%3Aa%2Fb%3Apull"
        );
        let challenge = one("Bearer realm=\"https://h/t\",scope=\"named\"").unwrap();
        let challenge = challenge.with(vec!["a:pull,push".to_owned(), "b:pull".to_owned()]);
        assert_eq!(
            challenge.token_url("a", &|_| false).unwrap().uri().to_string(),
            "https://h/t?scope=a%3Apull%2Cpush&scope=b%3Apull"
        );
        let challenge = one("Bearer realm=\"https://h/t\",service=\"s\"").unwrap();
        let (to, form) = challenge.token_form("a", &|_| false, "i&").unwrap();
        assert_eq!(to.uri().to_string(), "https://h/t");
        assert_eq!(
            form,
            "grant_type=refresh_token&client_id=nativebuild&service=s&scope=repository%3Aa%3Apull&refresh_token=i%26"
        );
        assert_eq!(
            challenge.token_url("", &|_| false).unwrap().uri().to_string(),
            "https://h/t?service=s"
        );
        let bare = one("Bearer realm=\"https://h/t\"").unwrap();
        assert_eq!(bare.token_url("", &|_| false).unwrap().uri().to_string(), "https://h/t");
        assert!(url("http://127.0.0.1:1/token", true).is_ok());
        assert!(url("http://127.0.0.1:1/token", false).is_err());
        assert!(url("http://h/token", true).is_err());
        assert!(url("file:///etc/passwd", true).is_err());
    }

    #[test]
    fn tokens_are_found() {
        assert_eq!(token_of(br#"{"token":"t","access_token":"a"}"#).as_deref(), Some("t"));
        assert_eq!(token_of(br#"{"access_token":"a"}"#).as_deref(), Some("a"));
        for none in [&b"{}"[..], b"", b"[]", br#"{"token":""}"#, br#"{"token":1}"#] {
            assert_eq!(token_of(none), None);
        }
    }
}
