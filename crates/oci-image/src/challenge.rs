//! What a registry says that it wants: `WWW-Authenticate` (RFC 9110, 11.6.1) and the token service
//! of the distribution specification.

use serde::Deserialize;

/// A token longer than this does not fit into a request.
const MAX_TOKEN: usize = 16 * 1024;

/// How the registry wants to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a user name and a password.
    Basic,
    /// With a token that `realm` hands out.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The first challenge in the header that is understood; `Bearer` before `Basic`.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let offered = http_auth::parse_challenges(header).ok()?;
        let bearer = offered.iter().find_map(|one| {
            let parameter = |name: &str| {
                one.params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_unescaped())
            };
            let is_bearer = one.scheme.eq_ignore_ascii_case("bearer");
            let realm = is_bearer.then(|| parameter("realm")).flatten()?;
            Some(Self::Bearer { realm, service: parameter("service") })
        });
        let basic = || offered.iter().any(|one| one.scheme.eq_ignore_ascii_case("basic"));
        bearer.or_else(|| basic().then_some(Self::Basic))
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in a token service's answer.
pub(crate) fn token_of(answer: &[u8]) -> Option<String> {
    let answer: TokenAnswer = serde_json::from_slice(answer).ok()?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
    let fits = !token.is_empty()
        && token.len() <= MAX_TOKEN
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood_or_not() {
        let bearer = |service: Option<&str>| {
            let realm = "https://auth.example/token".to_owned();
            Some(Challenge::Bearer { realm, service: service.map(str::to_owned) })
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="r",scope="x""#,
                bearer(Some("r")),
            ),
            (r#"bearer Realm="https://auth.example/token""#, bearer(None)),
            (r#"Basic realm="x", Bearer realm="https://auth.example/token""#, bearer(None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            (r#"Bearer service="x""#, None),
            ("Negotiate", None),
            ("", None),
            ("=,,\"", None),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn a_token_is_one_that_fits_into_a_header() {
        assert_eq!(token_of(br#"{"token":"a.b"}"#).as_deref(), Some("a.b"));
        assert_eq!(token_of(br#"{"access_token":"c"}"#).as_deref(), Some("c"));
        for wrong in [&br#"{"token":"a\nb"}"#[..], br#"{"token":""}"#, b"{}", b"[]", b"x"] {
            assert_eq!(token_of(wrong), None);
        }
        assert_eq!(token_of(format!(r#"{{"token":"{}"}}"#, "a".repeat(20_000)).as_bytes()), None);
    }
}
