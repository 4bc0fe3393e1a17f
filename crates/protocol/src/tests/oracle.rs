//! The same bytes as another implementation writes: the `kafka-protocol` crate, for the versions that it knows.

use std::fmt::Debug;

use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};

use super::sample_each_version;
use crate::sample::Sample;
use crate::{Message, messages as ours};

/// Ours as bytes, read and written again by theirs, are the same bytes, and give our value back.
fn check<M, T>()
where
    M: Message + Sample + PartialEq + Debug,
    T: TheirMessage + Decodable + Encodable + Debug,
{
    sample_each_version(10, |sent: M, version| {
        if version < T::VERSIONS.min || version > T::VERSIONS.max {
            return;
        }
        let bytes = sent.to_bytes(version).unwrap();
        let mut rest = bytes.clone();
        let read = T::decode(&mut rest, version).unwrap_or_else(|e| panic!("{} {version}: {e}", M::NAME));
        assert!(rest.is_empty(), "{} {version}", M::NAME);
        let mut back = bytes::BytesMut::new();
        read.encode(&mut back, version).unwrap_or_else(|e| panic!("{} {version}: {e}", M::NAME));
        assert_eq!(back, bytes, "{} {version}: {read:?}", M::NAME);
    });
}

macro_rules! agrees {
    ($($test:ident: $($message:ident),*;)*) => {
        $(#[test]
        fn $test() {
            $(check::<ours::$message, theirs::$message>();)*
        })*
    };
}

// The control records with a `Version` field are missing: theirs decode what follows in that version.
agrees! {
    headers: RequestHeader, ResponseHeader, ApiVersionsRequest, ApiVersionsResponse;
    records: ProduceRequest, ProduceResponse, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
        InitProducerIdRequest, InitProducerIdResponse, DeleteRecordsRequest, DeleteRecordsResponse,
        OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, DescribeProducersRequest,
        DescribeProducersResponse;
    cluster: MetadataRequest, MetadataResponse, DescribeClusterRequest, DescribeClusterResponse,
        DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeLogDirsRequest,
        DescribeLogDirsResponse;
    topics: CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
        CreatePartitionsRequest, CreatePartitionsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, AlterConfigsRequest, AlterConfigsResponse;
    groups: FindCoordinatorRequest, FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
        SyncGroupResponse, HeartbeatRequest, HeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse,
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, OffsetDeleteRequest,
        OffsetDeleteResponse, ListGroupsRequest, ListGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
        DeleteGroupsRequest, DeleteGroupsResponse, ConsumerProtocolSubscription, ConsumerProtocolAssignment, EndTxnMarker;
}
