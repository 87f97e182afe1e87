//! The client against servers that are not what they should be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::{Call, Failure, HttpClient, INSTANCE_REQUESTS_MAX, LOOKUPS_MAX, REQUESTS_MAX, Resolve, STOPPING};
use crate::grants::{Origin, Scheme};

/// Answers each connection on a thread of its own, after it has read the head of a request.
fn server(answer: impl Fn(TcpStream, String) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let head = head(&stream);
                answer(stream, head);
            });
        }
    });
    address
}

fn head(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
    head
}

fn answers(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    server(move |mut stream, _| _ = stream.write_all(&bytes))
}

/// Says what a name stands for, each time the next of its answers.
struct FakeResolver(Mutex<Vec<Vec<IpAddr>>>);

impl FakeResolver {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let of = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().rev().map(of).collect())))
    }
}

impl Resolve for FakeResolver {
    fn resolve(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let answer = answers.pop().ok_or_else(|| std::io::Error::other("it is asked too often"))?;
        Ok(answer)
    }
}

/// What a server does, where, and which errors that may be.
type Case = (&'static str, SocketAddr, fn(&Error) -> bool);

struct Got {
    status: u16,
    body: Result<Vec<u8>, Error>,
}

fn call(url: &str) -> Call {
    call_with(url, None, &CancellationToken::new())
}

fn call_with(url: &str, options: Option<RequestOptions>, stop: &CancellationToken) -> Call {
    let uri: http::Uri = url.parse().unwrap();
    let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let origin = Origin::new(scheme, uri.authority().unwrap().as_str()).unwrap();
    let body = Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {}).boxed_unsync();
    let request = Request::post(uri).header("x-mine", "1").body(body).unwrap();
    let place = Arc::new(Semaphore::new(INSTANCE_REQUESTS_MAX)).try_acquire_owned().unwrap();
    Call { origin, request, options, share: Arc::new(super::Share::new(16)), place, stop: stop.clone() }
}

/// The whole response, read while its connection moves on.
async fn exchange(client: &HttpClient, call: Call) -> Result<Got, Failure> {
    let (response, io) = client.clone().send(call).await?;
    let _io = spawn(Box::into_pin(io));
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map(|body| body.to_bytes().to_vec());
    Ok(Got { status, body })
}

fn impatient() -> HttpClient {
    let mut client = HttpClient::default();
    let limits = &mut client.limits;
    (limits.connect, limits.first_byte) = (Duration::from_millis(300), Duration::from_millis(300));
    (limits.between_bytes, limits.total) = (Duration::from_millis(300), Duration::from_millis(900));
    (limits.request_body_bytes_max, limits.response_body_bytes_max) = (1000, 100_000);
    client
}

#[tokio::test]
async fn a_request_arrives_and_its_response_comes_back() {
    let (heads, seen) = mpsc::channel();
    let address = server(move |mut stream, head| {
        heads.send(head).unwrap();
        let _ = stream
            .write_all(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    });
    let got = exchange(&impatient(), call(&format!("http://{address}?q=1"))).await.unwrap();
    assert_eq!((got.status, got.body.unwrap()), (201, b"abc".to_vec()));
    let head = seen.recv().unwrap();
    assert!(head.starts_with("POST /?q=1 HTTP/1.1\r\n"), "{head}");
    for line in [format!("host: {address}"), "connection: close".into(), "content-length: 5".into()] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
}

#[tokio::test]
async fn a_redirect_is_a_response() {
    let address =
        answers("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n");
    let got = exchange(&impatient(), call(&format!("http://{address}/"))).await.unwrap();
    assert_eq!((got.status, got.body.unwrap()), (302, Vec::new()));
}

#[tokio::test]
async fn what_a_server_does_wrong_is_an_error_in_time() {
    let endless = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    };
    let drip = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    };
    let silent = server(|stream, _| {
        thread::sleep(Duration::from_secs(5));
        drop(stream);
    });
    let half = server(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        thread::sleep(Duration::from_secs(5));
    });
    let long_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let cases: [Case; 10] = [
        ("no response", silent, |error| matches!(error, Error::ConnectionReadTimeout)),
        ("half a body", half, |error| matches!(error, Error::ConnectionReadTimeout)),
        ("a body without end", server(move |stream, _| endless(stream)), |error| {
            matches!(error, Error::HttpResponseBodySize(Some(_)))
        }),
        ("a body that takes for ever", server(move |stream, _| drip(stream)), |error| {
            matches!(error, Error::HttpResponseTimeout)
        }),
        ("a large head", answers(long_head), |error| {
            matches!(error, Error::HttpResponseHeaderSectionSize(_))
        }),
        ("many headers", answers(many), |error| matches!(error, Error::HttpResponseHeaderSectionSize(_))),
        (
            "a large announcement",
            answers("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
            |error| matches!(error, Error::HttpResponseBodySize(Some(99_999_999_999))),
        ),
        ("a cut body", answers("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), |error| {
            matches!(error, Error::HttpResponseIncomplete)
        }),
        ("no HTTP", answers("SSH-2.0-OpenSSH\r\n\r\n"), |error| matches!(error, Error::HttpProtocolError)),
        ("nothing", answers(""), |error| matches!(error, Error::HttpResponseIncomplete)),
    ];
    for (what, address, is_expected) in cases {
        let began = Instant::now();
        let error = match exchange(&impatient(), call(&format!("http://{address}/"))).await {
            Ok(got) => got.body.expect_err(what),
            Err(failure) => failure.error,
        };
        assert!(is_expected(&error), "{what}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_plugin_can_lower_limits_and_not_raise_them() {
    let address = server(|_stream, _| thread::sleep(Duration::from_secs(5)));
    for (wanted, least, most) in [(100, 100, 290), (60_000, 300, 2_000)] {
        let first_byte_timeout = Some(Duration::from_millis(wanted));
        let options = RequestOptions { first_byte_timeout, ..RequestOptions::default() };
        let began = Instant::now();
        let call = call_with(&format!("http://{address}/"), Some(options), &CancellationToken::new());
        let failure = exchange(&impatient(), call).await.map(|got| got.status).unwrap_err();
        assert!(matches!(failure.error, Error::ConnectionReadTimeout), "{failure:?}");
        let took = began.elapsed().as_millis();
        assert!((least..most).contains(&took), "{wanted}: {took}");
    }
}

#[tokio::test]
async fn what_is_sent_has_limits() {
    let address = server(|mut stream, _| {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let url = format!("http://{address}/");
    let mut large = call(&url);
    *large.request.body_mut() =
        Full::new(Bytes::from(vec![b'x'; 2000])).map_err(|never| match never {}).boxed_unsync();
    let failure = exchange(&impatient(), large).await.map(|got| got.status).unwrap_err();
    assert!(matches!(failure.error, Error::HttpRequestBodySize(Some(2000))), "{failure:?}");
    let mut wide = call(&url);
    let value = "y".repeat(60_000);
    wide.request.headers_mut().insert("a", value.parse().unwrap());
    wide.request.headers_mut().insert("b", value.parse().unwrap());
    let failure = exchange(&impatient(), wide).await.map(|got| got.status).unwrap_err();
    assert!(matches!(failure.error, Error::HttpRequestHeaderSectionSize(Some(120_000..))), "{failure:?}");
}

#[tokio::test]
async fn names_that_stand_for_private_addresses_are_refused_and_none_is_looked_up_twice() {
    let address = answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let url = format!("http://metadata.test:{}/", address.port());
    let with = |answers: &[&[&str]], private_networks| {
        let mut client = impatient();
        (client.resolver, client.private_networks) = (FakeResolver::new(answers), private_networks);
        client
    };
    for bad in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"] {
        let failure = exchange(&with(&[&[bad]], false), call(&url)).await.map(|got| got.status).unwrap_err();
        assert!(matches!(failure.error, Error::DestinationIpProhibited), "{bad}: {failure:?}");
        let line = failure.line.unwrap();
        assert!(line.contains("metadata.test") && line.contains(bad), "{line}");
    }
    // Allowed by the node, but for those that are nobody's.
    let got = exchange(&with(&[&["169.254.169.254", "127.0.0.1"]], true), call(&url)).await.unwrap();
    assert_eq!((got.status, got.body.unwrap()), (200, b"ok".to_vec()));
    let special = exchange(&with(&[&["169.254.169.254"]], true), call(&url)).await.map(|got| got.status);
    assert!(matches!(special.unwrap_err().error, Error::DestinationIpProhibited));
    // A second look-up would find what the first one was not.
    let rebinding = with(&[&["192.0.2.1"], &["127.0.0.1"]], false);
    let failure = exchange(&rebinding, call(&url)).await.map(|got| got.status).unwrap_err();
    assert!(matches!(failure.error, Error::DestinationIpProhibited), "{failure:?}");
    assert_eq!(rebinding.resolver.resolve("").unwrap(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    // Who grants this machine means it, and nothing else that the name may stand for.
    let local = format!("http://localhost:{}/", address.port());
    assert_eq!(exchange(&with(&[&["127.0.0.1"]], false), call(&local)).await.unwrap().status, 200);
    let other = exchange(&with(&[&["10.0.0.1"]], false), call(&local)).await.map(|got| got.status);
    assert!(matches!(other.unwrap_err().error, Error::DestinationIpProhibited));
    let unknown = exchange(&with(&[&[]], false), call(&url)).await.map(|got| got.status);
    assert!(matches!(unknown.unwrap_err().error, Error::DnsError { .. }));
}

/// A resolver that finds nothing for a while.
struct Hanging;

impl Resolve for Hanging {
    fn resolve(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        thread::sleep(Duration::from_secs(2));
        Ok(Vec::new())
    }
}

/// A look-up that was given up counts for whoever began it until it is done, also in the next life of the plugin.
#[tokio::test]
async fn a_plugin_whose_names_are_not_found_keeps_no_other_from_looking_up() {
    let address = answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut client = impatient();
    let working: Arc<dyn Resolve> = FakeResolver::new(&[&["127.0.0.1"]]);
    (client.resolver, client.private_networks) = (Arc::new(Hanging), true);
    let places = Arc::new(Semaphore::new(INSTANCE_REQUESTS_MAX));
    for (began, places_left) in [(1, 7), (2, 6), (2, 6)] {
        let mut call = call("http://a.test/");
        call.share = client.share("p", "a", 16);
        call.place = Arc::clone(&places).try_acquire_owned().unwrap();
        let failure = exchange(&client, call).await.map(|got| got.status).unwrap_err();
        assert!(matches!(failure.error, Error::ConnectionTimeout), "{failure:?}");
        assert_eq!(client.lookups.available_permits(), LOOKUPS_MAX - began);
        assert_eq!(places.available_permits(), places_left);
    }
    client.resolver = working;
    let mut call = call(&format!("http://a.test:{}/", address.port()));
    call.share = client.share("p", "b", 16);
    assert_eq!(exchange(&client, call).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_plugin_has_a_part_of_the_places() {
    let half = server(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        thread::sleep(Duration::from_secs(5));
    });
    let client = impatient();
    let ask = |plugin| {
        let mut call = call(&format!("http://{half}/"));
        call.share = client.share("p", plugin, 16);
        client.clone().send(call)
    };
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(ask("a").await.unwrap());
    }
    let failure = ask("a").await.map(drop).unwrap_err();
    assert!(matches!(failure.error, Error::ConnectionLimitReached), "{failure:?}");
    assert!(ask("b").await.is_ok());
    assert_eq!(client.places.available_permits(), REQUESTS_MAX - 16);
}

/// A resolver that hangs takes its places and no more.
#[tokio::test]
async fn a_name_that_is_not_found_in_time_is_given_up() {
    let mut client = impatient();
    (client.resolver, client.lookups) = (Arc::new(Hanging), Arc::new(Semaphore::new(1)));
    for _ in 0..2 {
        let failure = exchange(&client, call("http://a.test/")).await.map(|got| got.status).unwrap_err();
        assert!(matches!(failure.error, Error::ConnectionTimeout), "{failure:?}");
    }
    assert_eq!(client.lookups.available_permits(), 0);
}

#[tokio::test]
async fn requests_wait_for_a_place_and_give_up() {
    let half = server(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        thread::sleep(Duration::from_secs(5));
    });
    let whole = answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut client = impatient();
    client.places = Arc::new(Semaphore::new(1));
    let (held, io) = client.clone().send(call(&format!("http://{half}/"))).await.unwrap();
    let io = spawn(Box::into_pin(io));
    let url = format!("http://{whole}/");
    let failure = exchange(&client, call(&url)).await.map(|got| got.status).unwrap_err();
    assert!(matches!(failure.error, Error::ConnectionLimitReached), "{failure:?}");
    // Its time is over, whether somebody reads it or not.
    io.await.unwrap();
    assert_eq!(exchange(&client, call(&url)).await.unwrap().status, 200);
    let cut = held.into_body().collect().await.unwrap_err();
    assert!(matches!(cut, Error::HttpResponseTimeout), "{cut:?}");
    // What is left of a response that came to its end is nobody else's.
    let (unread, io) = client.clone().send(call(&url)).await.unwrap();
    Box::into_pin(io).await.unwrap();
    assert_eq!(exchange(&client, call(&url)).await.unwrap().status, 200);
    assert_eq!(&*unread.into_body().collect().await.unwrap().to_bytes(), b"ok");
}

#[tokio::test]
async fn a_stop_leaves_a_request_a_while_and_no_more() {
    let slow = server(|mut stream, _| {
        thread::sleep(Duration::from_millis(500));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let silent = server(|_stream, _| thread::sleep(Duration::from_secs(20)));
    let client = HttpClient::default();
    let stop = CancellationToken::new();
    stop.cancel();
    let got = exchange(&client, call_with(&format!("http://{slow}/"), None, &stop)).await.unwrap();
    assert_eq!(got.body.unwrap(), b"ok");
    let began = Instant::now();
    let failure = exchange(&client, call_with(&format!("http://{silent}/"), None, &stop)).await;
    match failure.map(|got| got.status).unwrap_err().error {
        Error::InternalError(Some(reason)) => assert_eq!(reason, STOPPING),
        error => panic!("{error:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(4));
}

/// A server with a certificate for `localhost` and 127.0.0.1, and the certificate.
fn tls_server() -> (SocketAddr, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, tcp);
            let mut buffer = [0; 1024];
            if stream.read(&mut buffer).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (address, cert.pem())
}

#[tokio::test]
async fn tls_trusts_whom_it_is_told_and_checks_the_name() {
    let (address, pem) = tls_server();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let trusting = HttpClient::new(Some(&file), true).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/", address.port());
        let got = exchange(&trusting, call(&url)).await.unwrap();
        assert_eq!((got.status, got.body.unwrap()), (200, b"ok".to_vec()), "{host}");
        let failure = exchange(&HttpClient::default(), call(&url)).await.map(|got| got.status).unwrap_err();
        assert!(matches!(failure.error, Error::TlsCertificateError), "{failure:?}");
        assert!(failure.line.unwrap().contains("UnknownIssuer"));
    }
    let mut other = trusting;
    other.resolver = FakeResolver::new(&[&["127.0.0.1"]]);
    let url = format!("https://other.test:{}/", address.port());
    let failure = exchange(&other, call(&url)).await.map(|got| got.status).unwrap_err();
    assert!(matches!(failure.error, Error::TlsCertificateError), "{failure:?}");
    let plain = answers("HTTP/1.1 200 OK\r\n\r\n");
    let failure = exchange(&other, call(&format!("https://{plain}/"))).await.map(|got| got.status);
    assert!(matches!(failure.unwrap_err().error, Error::TlsProtocolError));
    for (text, reason) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n", "no PEM file")] {
        std::fs::write(&file, text).unwrap();
        let error = HttpClient::new(Some(&file), false).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(HttpClient::new(Some(&dir.path().join("absent")), false).is_err());
}

#[test]
fn no_header_of_the_connection_is_the_plugins() {
    let forbidden = wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;
    for header in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        assert!(forbidden.contains(&header), "{header}");
    }
}
