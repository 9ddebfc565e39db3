//! What the rules of a policy need of interception: for each rule, what becomes of its requests.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName};

use super::middleware::{Middleware, Request, Verdict};
use super::options::Target;
use super::service::Http;
use crate::policy::HttpService;
use crate::service::Interceptor;

/// Sets header fields of every request.
#[derive(Clone)]
pub struct SetHeaders(HeaderMap);

impl SetHeaders {
    /// These fields, in place of those of the same names.
    #[must_use]
    pub fn new(headers: HeaderMap) -> Self {
        Self(headers)
    }
}

impl fmt::Debug for SetHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be credentials.
        let names: Vec<&HeaderName> = self.0.keys().collect();
        f.debug_tuple("SetHeaders").field(&names).finish()
    }
}

#[async_trait]
impl Middleware for SetHeaders {
    async fn handle(&self, request: &mut Request) -> Verdict {
        for name in self.0.keys() {
            request.headers.remove(name);
        }
        for (name, value) in &self.0 {
            request.headers.append(name, value.clone());
        }
        Verdict::Forward
    }
}

/// Makes the interceptors for the rules of a policy.
pub struct HttpRules {
    http: Arc<Http>,
    rules: Vec<RuleHttp>,
}

struct RuleHttp {
    allow_private: bool,
    middleware: Option<Arc<dyn Middleware>>,
}

impl HttpRules {
    /// For no rule.
    #[must_use]
    pub fn new(http: Arc<Http>) -> Self {
        Self { http, rules: Vec::new() }
    }

    /// Adds what belongs to the next rule; every rule of the policy needs one, of any kind.
    #[must_use]
    pub fn rule(mut self, allow_private: bool, middleware: Option<Arc<dyn Middleware>>) -> Self {
        self.rules.push(RuleHttp { allow_private, middleware });
        self
    }
}

impl HttpService for HttpRules {
    fn interceptor(&self, rule: usize, host: Option<&str>) -> Arc<dyn Interceptor> {
        let rule = self.rules.get(rule);
        let allow_private = rule.is_some_and(|rule| rule.allow_private);
        let middleware = rule.and_then(|rule| rule.middleware.clone());
        let target = match host.map(str::parse) {
            None => Target::Address,
            Some(Ok(host)) => Target::Named { host, allow_private },
            // What is no name fits no request.
            Some(Err(_)) => Target::Nothing,
        };
        self.http.interceptor(target, middleware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_headers_do_not_print_their_values() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer secret".parse().unwrap());
        assert_eq!(format!("{:?}", SetHeaders::new(headers)), "SetHeaders([\"authorization\"])");
    }
}
