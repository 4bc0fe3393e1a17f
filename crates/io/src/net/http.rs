//! As much of HTTP/1.1 (RFC 9112) as it takes to serve metrics: one request of a connection, by GET or HEAD, is answered
//! and the connection closed.

use dohle_metrics::Format;
use httparse::{EMPTY_HEADER, Error, Request, Status};

/// The path of the metrics.
const PATH: &str = "/metrics";

/// The longest head of a request. Prometheus sends some 300 bytes.
pub const HEAD_BYTES_MAX: usize = 8 << 10;

/// The most header fields of a request.
const HEADERS_MAX: usize = 64;

/// What the bytes that have come so far ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// More of them is needed.
    Incomplete,
    /// The metrics; of HEAD the answer has no body.
    Metrics(Format, Body),
    /// Something that is refused.
    Refused(Refusal),
}

/// Whether an answer has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It has.
    Whole,
    /// Its length alone is told.
    LengthOnly,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is no HTTP request.
    BadRequest,
    /// It is for another path.
    NotFound,
    /// It is neither GET nor HEAD.
    MethodNotAllowed,
    /// It did not come in time.
    TooSlow,
    /// Its head is too long.
    HeadTooLarge,
}

impl Refusal {
    /// The status, its name, and what to do instead.
    const fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => {
                (400, "Bad Request", "this is no HTTP/1.1 request; the metrics are at /metrics")
            }
            Self::NotFound => (404, "Not Found", "the metrics are at /metrics"),
            Self::MethodNotAllowed => (405, "Method Not Allowed", "ask for /metrics by GET"),
            Self::TooSlow => (408, "Request Timeout", "the request did not come in time"),
            Self::HeadTooLarge => {
                (431, "Request Header Fields Too Large", "send fewer or shorter header fields")
            }
        }
    }

    /// Its HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.parts().0
    }

    /// The whole answer.
    #[must_use]
    pub fn answer(self) -> String {
        let (status, name, hint) = self.parts();
        let allow = if matches!(self, Self::MethodNotAllowed) { "Allow: GET, HEAD\r\n" } else { "" };
        let length = hint.len() + 1;
        format!(
            "HTTP/1.1 {status} {name}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             {allow}Connection: close\r\n\r\n{hint}\n"
        )
    }
}

/// The head of an answer with `length` bytes of metrics.
#[must_use]
pub fn answer_head(format: Format, length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
        format.content_type()
    )
}

/// What was asked for.
#[must_use]
pub fn parse(received: &[u8]) -> Asked {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(received) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if received.len() < HEAD_BYTES_MAX => return Asked::Incomplete,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Asked::Refused(Refusal::HeadTooLarge),
        Err(_) => return Asked::Refused(Refusal::BadRequest),
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if target.split('?').next() != Some(PATH) {
        return Asked::Refused(Refusal::NotFound);
    }
    let body = match method {
        "GET" => Body::Whole,
        "HEAD" => Body::LengthOnly,
        _ => return Asked::Refused(Refusal::MethodNotAllowed),
    };
    let accepts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let wants_openmetrics =
        accepts.filter_map(|header| std::str::from_utf8(header.value).ok()).any(prefers_openmetrics);
    Asked::Metrics(if wants_openmetrics { Format::OpenMetrics } else { Format::Prometheus }, body)
}

/// Whether a list of media types has OpenMetrics' before that of plain text, as Prometheus sorts them, or alone.
fn prefers_openmetrics(accept: &str) -> bool {
    let types = accept.split(',').filter_map(|range| range.split(';').next()).map(str::trim);
    let wanted = ["application/openmetrics-text", "text/plain"];
    let first =
        types.filter_map(|name| wanted.iter().position(|wanted| name.eq_ignore_ascii_case(wanted))).next();
    first == Some(0)
}

#[cfg(test)]
mod tests {
    use dohle_types::Rng;

    use super::*;

    const PLAIN: Asked = Asked::Metrics(Format::Prometheus, Body::Whole);

    #[test]
    fn metrics_are_asked_for_by_get_and_head() {
        for (text, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", PLAIN),
            ("GET /metrics?name[]=a HTTP/1.0\r\n\r\n", PLAIN),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Asked::Metrics(Format::Prometheus, Body::LengthOnly)),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Asked::Incomplete),
            ("", Asked::Incomplete),
            ("GET / HTTP/1.1\r\n\r\n", Asked::Refused(Refusal::NotFound)),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Asked::Refused(Refusal::NotFound)),
            ("GET http://x/metrics HTTP/1.1\r\n\r\n", Asked::Refused(Refusal::NotFound)),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
                Asked::Refused(Refusal::MethodNotAllowed),
            ),
            ("GET /metrics HTTP/2.0\r\n\r\n", Asked::Refused(Refusal::BadRequest)),
            ("\0\0\0\x20\0\x12\0\0", Asked::Refused(Refusal::BadRequest)),
            ("\x16\x03\x01\x02\0\x01", Asked::Refused(Refusal::BadRequest)),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        let asked =
            |accept: &str| parse(format!("GET /metrics HTTP/1.1\r\naccept: {accept}\r\n\r\n").as_bytes());
        let open = Asked::Metrics(Format::OpenMetrics, Body::Whole);
        assert_eq!(
            asked("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"),
            open
        );
        assert_eq!(asked("text/html, Application/OpenMetrics-Text"), open);
        assert_eq!(asked("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4"), PLAIN);
        assert_eq!(asked("*/*"), PLAIN);
        assert_eq!(asked("\u{fe}\u{1f980}"), PLAIN);
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let too_large = Asked::Refused(Refusal::HeadTooLarge);
        let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(
            parse(endless.as_bytes().get(..HEAD_BYTES_MAX - 1).unwrap_or_default()),
            Asked::Incomplete
        );
        assert_eq!(parse(endless.as_bytes().get(..HEAD_BYTES_MAX).unwrap_or_default()), too_large);
        let fields = |count: usize| format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(parse(fields(HEADERS_MAX).as_bytes()), PLAIN);
        assert_eq!(parse(fields(HEADERS_MAX + 1).as_bytes()), too_large);
    }

    #[test]
    fn whatever_bytes_come_are_judged_the_same_in_pieces() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost:9464\r\nAccept: */*\r\n\r\n";
        let mut rng = Rng::from_seed(7);
        for _ in 0..10_000 {
            let mut bytes = request.to_vec();
            for _ in 0..rng.below(4) {
                let place = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
                bytes[place] = u8::try_from(rng.below(256)).unwrap();
            }
            let whole = parse(&bytes);
            let decided =
                (0..=bytes.len()).map(|end| parse(&bytes[..end])).find(|asked| *asked != Asked::Incomplete);
            // An error may be noticed early, and then stays; what is complete is so only at its end.
            assert_eq!(decided.unwrap_or(Asked::Incomplete), whole, "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        assert_eq!(
            Refusal::MethodNotAllowed.answer(),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 24\r\n\
             Allow: GET, HEAD\r\nConnection: close\r\n\r\nask for /metrics by GET\n"
        );
        assert_eq!(answer_head(Format::Prometheus, 5).split("\r\n").nth(2), Some("Content-Length: 5"));
    }
}
