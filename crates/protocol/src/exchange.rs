//! One request and its response as frames: length, header, body.

use dohle_types::Str;

use crate::messages::{RequestHeader, ResponseHeader};
use crate::{ApiKey, DecodeError, EncodeError, Frame, Message, Reader, Request, Writer};

/// Reads the header of a request, and leaves the reader at the body.
///
/// An answer needs no more than the first eight bytes, which are the same in all versions. So in a request of an
/// unknown API, or of a version from the future, whatever is wrong behind them leaves a header without a client id
/// instead of an error; what the reader is at then is of no use.
pub fn decode_request_header(r: &mut Reader<'_>) -> Result<RequestHeader, DecodeError> {
    let mut header = RequestHeader {
        request_api_key: r.i16()?,
        request_api_version: r.i16()?,
        correlation_id: r.i32()?,
        client_id: None,
    };
    let version = header.request_api_version;
    let api = ApiKey::from_code(header.request_api_key);
    match decode_rest(r, api.map_or(1, |api| api.request_header_version(version))) {
        Ok(client_id) => header.client_id = client_id,
        Err(error) if api.is_some_and(|api| api.versions().contains(&version)) => return Err(error),
        Err(_) => {}
    }
    Ok(header)
}

/// The header behind its fixed part. The client id has a 16-bit length even in flexible versions.
fn decode_rest(r: &mut Reader<'_>, header_version: i16) -> Result<Option<Str>, DecodeError> {
    let client_id = r.nullable_string(false)?;
    if header_version >= RequestHeader::FLEXIBLE_FROM {
        r.skip_tagged_fields()?;
    }
    Ok(client_id)
}

/// A request as it goes onto a connection.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    body: &R,
    version: i16,
) -> Result<Frame, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(Str::from),
    };
    encode_frame(&header, R::KEY.request_header_version(version), body, version)
}

/// A response as it goes onto a connection; `header_version` is [`ApiKey::response_header_version`].
pub fn encode_response<M: Message>(
    correlation_id: i32,
    header_version: i16,
    body: &M,
    version: i16,
) -> Result<Frame, EncodeError> {
    encode_frame(&ResponseHeader { correlation_id }, header_version, body, version)
}

fn encode_frame<H: Message, M: Message>(
    header: &H,
    header_version: i16,
    body: &M,
    version: i16,
) -> Result<Frame, EncodeError> {
    let mut w = Writer::with_capacity(256);
    w.i32(0);
    header.encode(&mut w, header_version);
    body.encode(&mut w, version);
    w.finish_frame()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};

    fn header(bytes: &'static [u8]) -> Result<(RequestHeader, usize), DecodeError> {
        let bytes = Bytes::from_static(bytes);
        let mut r = Reader::new(&bytes);
        let header = decode_request_header(&mut r)?;
        Ok((header, r.remaining()))
    }

    #[test]
    fn a_header_without_tagged_fields() {
        // Metadata (3) version 1, correlation id 7, client id "ab"; the body is one byte.
        let (header, left) = header(b"\0\x03\0\x01\0\0\0\x07\0\x02ab!").unwrap();
        assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (3, 1, 7));
        assert_eq!(header.client_id.as_deref(), Some("ab"));
        assert_eq!(left, 1);
    }

    #[test]
    fn a_header_with_an_unknown_tagged_field() {
        // ApiVersions (18) version 3, null client id, one tagged field 5 of two bytes.
        let (header, left) = header(b"\0\x12\0\x03\0\0\0\x07\xff\xff\x01\x05\x02zz!").unwrap();
        assert_eq!(header.client_id, None);
        assert_eq!(left, 1);
    }

    #[test]
    fn eight_bytes_are_enough_for_an_answer_to_what_is_not_known() {
        // ApiVersions in version 99, and API 999.
        for bytes in
            [&b"\0\x12\0\x63\0\0\0\x07"[..], b"\0\x12\0\x63\0\0\0\x07\x7f\xff", b"\x03\xe7\0\0\0\0\0\x07"]
        {
            let (header, _) = header(bytes).unwrap();
            assert_eq!(header.correlation_id, 7);
            assert_eq!(header.client_id, None);
        }
        assert_eq!(header(b"\0\x12\0\x63\0\0\0").unwrap_err(), DecodeError::UnexpectedEnd);
    }

    #[test]
    fn a_broken_header_of_a_known_version_is_an_error() {
        assert_eq!(header(b"\0\x12\0\x03\0\0\0\x07\0\x09ab").unwrap_err(), DecodeError::UnexpectedEnd);
    }

    #[test]
    fn the_bytes_of_an_api_versions_request() {
        let request =
            ApiVersionsRequest { client_software_name: "kit".into(), client_software_version: "1".into() };
        let frame = encode_request(1, Some("c"), &request, 3).unwrap().into_bytes();
        assert_eq!(&frame[..], b"\0\0\0\x13\0\x12\0\x03\0\0\0\x01\0\x01c\0\x04kit\x021\0");
    }

    #[test]
    fn the_bytes_of_a_metadata_request_for_all_topics() {
        let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
        let frame = encode_request(2, None, &request, 9).unwrap().into_bytes();
        assert_eq!(&frame[..], b"\0\0\0\x10\0\x03\0\x09\0\0\0\x02\xff\xff\0\0\x01\0\0\0");
        let frame = encode_request(2, None, &request, 1).unwrap().into_bytes();
        assert_eq!(&frame[..], b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x02\xff\xff\xff\xff\xff\xff");
        let refused = EncodeError::Null { field: "MetadataRequest.Topics" };
        assert_eq!(encode_request(2, None, &request, 0).unwrap_err(), refused);
    }

    #[test]
    fn the_bytes_of_an_answer_to_an_unsupported_api_versions_request() {
        let response = ApiVersionsResponse { error_code: 35, ..ApiVersionsResponse::default() };
        let frame =
            encode_response(7, ApiKey::ApiVersions.response_header_version(99), &response, 0).unwrap();
        assert_eq!(&frame.into_bytes()[..], b"\0\0\0\x0a\0\0\0\x07\0\x23\0\0\0\0");
    }
}
