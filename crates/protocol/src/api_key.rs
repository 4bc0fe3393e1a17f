//! What is known of an API without decoding any of its messages. The table is `schemas/apis.tsv`.

use std::ops::RangeInclusive;

use crate::ApiKey;

impl ApiKey {
    /// The API of this number, if Kafka 4.3.1 or Dohle knows one.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        let place = Self::ALL.binary_search_by_key(&code, |key| key.code());
        place.ok().and_then(|place| Self::ALL.get(place)).copied()
    }

    /// Whether Kafka knows the API; those that only Dohle has are numbered from 20000 on, far above Kafka's.
    #[must_use]
    pub const fn is_kafka(self) -> bool {
        self.code() < Self::FIRST_OF_DOHLE
    }

    /// The lowest number of an API that only Dohle has.
    pub const FIRST_OF_DOHLE: i16 = 20_000;

    /// The number that stands first in every request.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Its name, Kafka's where it is Kafka's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// The versions that Kafka 4.3.1 (of its own APIs: Dohle) serves, unstable ones left out; none for the APIs of
    /// ZooKeeper's time.
    ///
    /// Produce begins at 3 here, though it has to be advertised from 0 for the sake of librdkafka (KAFKA-18659).
    #[must_use]
    pub const fn versions(self) -> RangeInclusive<i16> {
        let (_, oldest, latest, _) = self.facts();
        oldest..=latest
    }

    /// Whether requests and responses of this version have compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.facts().3
    }

    /// The version of the `RequestHeader` before a request of this version. A version from the future is taken to
    /// be flexible, as all are.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the `ResponseHeader` before a response of this version.
    ///
    /// The one of `ApiVersions` never has tagged fields: who asks does not yet know what the broker speaks, and has
    /// to be able to read an answer in version 0 (KIP-511).
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        if matches!(self, Self::ApiVersions) || !self.is_flexible(version) { 0 } else { 1 }
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_to_its_key_and_no_other_does() {
        assert_eq!(ApiKey::ALL.iter().filter(|key| key.is_kafka()).count(), 93);
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_code(key.code()), Some(*key));
        }
        assert_eq!(ApiKey::from_code(-1), None);
        assert_eq!(ApiKey::from_code(93), None);
        assert_eq!(ApiKey::from_code(20_000), Some(ApiKey::ListTrash));
    }

    #[test]
    fn what_is_gone_has_no_versions() {
        assert!(ApiKey::LeaderAndIsr.versions().is_empty());
        assert_eq!(ApiKey::InitProducerId.versions(), 0..=5, "6 is not stable");
    }

    #[test]
    fn headers_are_flexible_as_the_bodies_are() {
        let headers = |key: ApiKey, version| {
            (key.request_header_version(version), key.response_header_version(version))
        };
        assert_eq!(headers(ApiKey::Fetch, 11), (1, 0));
        assert_eq!(headers(ApiKey::Fetch, 12), (2, 1));
        assert_eq!(headers(ApiKey::ApiVersions, 4), (2, 0));
        assert_eq!(headers(ApiKey::ApiVersions, i16::MAX), (2, 0));
        assert_eq!(headers(ApiKey::SaslHandshake, 1), (1, 0));
        assert_eq!(headers(ApiKey::Vote, 0), (2, 1));
    }
}
