//! Keeps web pages out: a page that someone on this machine looks at must not speak to the admin listener.
//!
//! What changes the node is JSON, PUT or DELETE, which a browser sends to another origin only after asking, and
//! nobody says yes. What is left is a page whose own name is made to resolve to this machine (DNS rebinding):
//! it is told by the name in the Host header. On a loopback listener that can only be a loopback one. On others it may
//! be any that reaches this machine, but a browser (it sends an Origin with what changes anything) must have been
//! pointed at an address, which nobody rebinds.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::failed;

/// Refuses what a foreign page sent.
pub(super) async fn refuse_foreign_pages(
    State(listener): State<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match check(listener.ip(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => failed(StatusCode::FORBIDDEN, error),
    }
}

fn check(listener: IpAddr, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).and_then(|host| host.parse::<Authority>().ok());
    if listener.is_loopback() && !host.as_ref().is_some_and(|host| is_loopback(host.host())) {
        return Err("the Host header must name localhost or a loopback address");
    }
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let origin = origin.parse::<Uri>().ok().and_then(|origin| origin.authority().cloned());
    if origin.is_none() || origin != host {
        return Err("the Origin header names another site");
    }
    match host.is_some_and(|host| is_loopback(host.host()) || is_address(host.host())) {
        true => Ok(()),
        false => Err("a page must address this listener by an IP address or as localhost"),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|ip| ip.is_loopback())
}

fn is_address(host: &str) -> bool {
    address(host).is_some()
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::check;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn allowed(listener: &str, headers: &[(&str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        });
        check(listener.parse().unwrap(), &headers.collect::<HeaderMap>()).is_ok()
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_only() {
        for host in ["localhost:9644", "LOCALHOST", "127.0.0.1:9644", "127.8.0.1", "[::1]:9644"] {
            assert!(allowed("127.0.0.1", &[("host", host)]), "{host}");
        }
        for host in ["evil.example:9644", "127.0.0.1.evil.example", "10.0.0.1", "", "a b"] {
            assert!(!allowed("127.0.0.1", &[("host", host)]), "{host}");
            assert!(allowed("10.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(!allowed("::1", &[]));
    }

    #[test]
    fn a_page_from_elsewhere_is_refused_wherever_the_node_listens() {
        for (origin, same) in [
            ("http://localhost:9644", true),
            ("http://localhost:3000", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            for listener in ["127.0.0.1", "0.0.0.0"] {
                assert_eq!(allowed(listener, &[("host", "localhost:9644"), ("origin", origin)]), same);
            }
        }
    }

    /// Symptom: a page could change a node that listens on more than loopback, by having its own name resolve to the
    /// node. Cause: its Host and Origin agree then. Fix: with an Origin, the Host must be one that no DNS answers for.
    #[test]
    fn a_page_whose_name_resolves_to_this_machine_is_refused() {
        for (host, accepted) in [
            ("rebound.example:9644", false),
            ("localhost.evil.example", false),
            ("192.168.1.5:9644", true),
            ("[fd00::5]:9644", true),
            ("localhost:9644", true),
        ] {
            let origin = format!("http://{host}");
            assert_eq!(allowed("0.0.0.0", &[("host", host), ("origin", &origin)]), accepted, "{host}");
            assert!(allowed("0.0.0.0", &[("host", host)]), "{host}: what is no page sends no Origin");
        }
    }
}
