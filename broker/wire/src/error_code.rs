//! Kafka's error codes.

use std::fmt;

/// An error code of the protocol. Codes that this table lacks are kept as they are.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    pub fn is_error(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(formatter, "{name}({})", self.0),
            None => write!(formatter, "ErrorCode({})", self.0),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "error code {}", self.0),
        }
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.0
    }
}

/// Whether a client may send the same request again, as Kafka's own client sees it.
macro_rules! is_retriable {
    (retriable) => {
        true
    };
    (fatal) => {
        false
    };
}

/// Code, Kafka's name, whether it is retriable, and a message.
macro_rules! error_codes {
    ($($code:literal $name:ident $retry:ident $message:literal,)*) => {
        impl ErrorCode {
            $(#[doc = $message] pub const $name: Self = Self($code);)*

            /// Every code that Kafka 4.3 knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Kafka's name for the code, such as `NOT_LEADER_OR_FOLLOWER`.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What the code means, as a fragment.
            pub const fn message(self) -> &'static str {
                match self.0 {
                    $($code => $message,)*
                    _ => "an unknown error code",
                }
            }

            /// Whether sending the same request again may succeed.
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($code => is_retriable!($retry),)*
                    _ => false,
                }
            }
        }
    };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR fatal "an unexpected error on the broker",
    0 NONE fatal "no error",
    1 OFFSET_OUT_OF_RANGE fatal "the offset lies outside the partition's log",
    2 CORRUPT_MESSAGE retriable "the batch is corrupt: its checksum or its form is wrong",
    3 UNKNOWN_TOPIC_OR_PARTITION retriable "the broker does not host this topic or partition",
    4 INVALID_FETCH_SIZE fatal "the fetch size is invalid",
    5 LEADER_NOT_AVAILABLE retriable "the partition has no leader at the moment",
    6 NOT_LEADER_OR_FOLLOWER retriable "this broker is not the partition's leader, or not one of its replicas",
    7 REQUEST_TIMED_OUT retriable "the request timed out",
    8 BROKER_NOT_AVAILABLE fatal "the broker is not available",
    9 REPLICA_NOT_AVAILABLE retriable "the replica is not available",
    10 MESSAGE_TOO_LARGE fatal "the batch is larger than the topic or the broker allows",
    11 STALE_CONTROLLER_EPOCH fatal "the controller's epoch is out of date",
    12 OFFSET_METADATA_TOO_LARGE fatal "the metadata committed with the offset is too long",
    13 NETWORK_EXCEPTION retriable "the connection was lost before the response",
    14 COORDINATOR_LOAD_IN_PROGRESS retriable "the coordinator is still loading",
    15 COORDINATOR_NOT_AVAILABLE retriable "the coordinator is not available",
    16 NOT_COORDINATOR retriable "this broker is not the coordinator",
    17 INVALID_TOPIC_EXCEPTION fatal "the topic's name is invalid",
    18 RECORD_LIST_TOO_LARGE fatal "the request's record list is larger than a segment",
    19 NOT_ENOUGH_REPLICAS retriable "too few replicas are in sync",
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable "the batch was appended, but too few replicas are in sync",
    21 INVALID_REQUIRED_ACKS fatal "the required acks are none of 0, 1 and all",
    22 ILLEGAL_GENERATION fatal "the member's generation is not the group's",
    23 INCONSISTENT_GROUP_PROTOCOL fatal "the member's protocols do not fit the group's",
    24 INVALID_GROUP_ID fatal "the group id is invalid",
    25 UNKNOWN_MEMBER_ID fatal "the group does not know this member",
    26 INVALID_SESSION_TIMEOUT fatal "the session timeout lies outside the allowed range",
    27 REBALANCE_IN_PROGRESS fatal "the group is rebalancing",
    28 INVALID_COMMIT_OFFSET_SIZE fatal "the committed offsets are too large to store",
    29 TOPIC_AUTHORIZATION_FAILED fatal "access to the topic is denied",
    30 GROUP_AUTHORIZATION_FAILED fatal "access to the group is denied",
    31 CLUSTER_AUTHORIZATION_FAILED fatal "access to the cluster is denied",
    32 INVALID_TIMESTAMP fatal "the timestamp is outside the allowed range",
    33 UNSUPPORTED_SASL_MECHANISM fatal "the SASL mechanism is not enabled",
    34 ILLEGAL_SASL_STATE fatal "the request does not fit the state of the SASL handshake",
    35 UNSUPPORTED_VERSION fatal "this version of the API is not supported",
    36 TOPIC_ALREADY_EXISTS fatal "a topic of this name exists already",
    37 INVALID_PARTITIONS fatal "the number of partitions is invalid",
    38 INVALID_REPLICATION_FACTOR fatal "the replication factor is invalid",
    39 INVALID_REPLICA_ASSIGNMENT fatal "the replica assignment is invalid",
    40 INVALID_CONFIG fatal "the configuration is invalid",
    41 NOT_CONTROLLER retriable "this broker is not the controller",
    42 INVALID_REQUEST fatal "the request contradicts itself or the protocol",
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT fatal "the log's message format does not support this",
    44 POLICY_VIOLATION fatal "the request violates a policy of the cluster",
    45 OUT_OF_ORDER_SEQUENCE_NUMBER fatal "a batch before this one is missing",
    46 DUPLICATE_SEQUENCE_NUMBER fatal "the batch was appended before",
    47 INVALID_PRODUCER_EPOCH fatal "the producer's epoch is out of date",
    48 INVALID_TXN_STATE fatal "the transaction's state does not allow this",
    49 INVALID_PRODUCER_ID_MAPPING fatal "the producer id is not the one of the transactional id",
    50 INVALID_TRANSACTION_TIMEOUT fatal "the transaction's timeout exceeds the allowed maximum",
    51 CONCURRENT_TRANSACTIONS retriable "another operation on the transaction is in progress",
    52 TRANSACTION_COORDINATOR_FENCED fatal "the transaction's coordinator has been replaced",
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED fatal "access to the transactional id is denied",
    54 SECURITY_DISABLED fatal "security features are disabled",
    55 OPERATION_NOT_ATTEMPTED fatal "the operation was not attempted, because another of the request failed",
    56 KAFKA_STORAGE_ERROR retriable "the disk failed",
    57 LOG_DIR_NOT_FOUND fatal "there is no such log dir",
    58 SASL_AUTHENTICATION_FAILED fatal "the authentication failed",
    59 UNKNOWN_PRODUCER_ID fatal "the producer id is unknown",
    60 REASSIGNMENT_IN_PROGRESS fatal "a reassignment of the partition is in progress",
    61 DELEGATION_TOKEN_AUTH_DISABLED fatal "delegation tokens are not enabled",
    62 DELEGATION_TOKEN_NOT_FOUND fatal "there is no such delegation token",
    63 DELEGATION_TOKEN_OWNER_MISMATCH fatal "the delegation token belongs to someone else",
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED fatal "delegation tokens can't be requested on this connection",
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED fatal "access to the delegation token is denied",
    66 DELEGATION_TOKEN_EXPIRED fatal "the delegation token has expired",
    67 INVALID_PRINCIPAL_TYPE fatal "the type of the principal is not supported",
    68 NON_EMPTY_GROUP fatal "the group is not empty",
    69 GROUP_ID_NOT_FOUND fatal "there is no such group",
    70 FETCH_SESSION_ID_NOT_FOUND retriable "there is no such fetch session",
    71 INVALID_FETCH_SESSION_EPOCH retriable "the fetch session's epoch is out of step",
    72 LISTENER_NOT_FOUND retriable "the leader has no endpoint on this listener",
    73 TOPIC_DELETION_DISABLED fatal "the deletion of topics is disabled",
    74 FENCED_LEADER_EPOCH retriable "the leader epoch is older than the broker's",
    75 UNKNOWN_LEADER_EPOCH retriable "the leader epoch is newer than the broker's",
    76 UNSUPPORTED_COMPRESSION_TYPE fatal "the codec is not supported by this version",
    77 STALE_BROKER_EPOCH fatal "the broker's epoch is out of date",
    78 OFFSET_NOT_AVAILABLE retriable "the leader does not know its high watermark yet",
    79 MEMBER_ID_REQUIRED fatal "join again with the member id of this response",
    80 PREFERRED_LEADER_NOT_AVAILABLE retriable "the preferred leader is not available",
    81 GROUP_MAX_SIZE_REACHED fatal "the group is full",
    82 FENCED_INSTANCE_ID fatal "another member has taken over this group instance id",
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE retriable "none of the eligible leaders is available",
    84 ELECTION_NOT_NEEDED retriable "the partition has the leader that it should have",
    85 NO_REASSIGNMENT_IN_PROGRESS fatal "no reassignment of the partition is in progress",
    86 GROUP_SUBSCRIBED_TO_TOPIC fatal "a member of the group is subscribed to the topic",
    87 INVALID_RECORD fatal "a record is invalid",
    88 UNSTABLE_OFFSET_COMMIT retriable "offsets of open transactions are not settled yet",
    89 THROTTLING_QUOTA_EXCEEDED retriable "a quota is exceeded",
    90 PRODUCER_FENCED fatal "a newer producer has taken over the transactional id",
    91 RESOURCE_NOT_FOUND fatal "there is no such resource",
    92 DUPLICATE_RESOURCE fatal "the resource is named twice",
    93 UNACCEPTABLE_CREDENTIAL fatal "the credential does not meet the requirements",
    94 INCONSISTENT_VOTER_SET fatal "the voters differ from those expected",
    95 INVALID_UPDATE_VERSION fatal "the feature's version can't be set",
    96 FEATURE_UPDATE_FAILED fatal "the update of a feature failed",
    97 PRINCIPAL_DESERIALIZATION_FAILURE fatal "the forwarded principal can't be read",
    98 SNAPSHOT_NOT_FOUND fatal "there is no such snapshot",
    99 POSITION_OUT_OF_RANGE fatal "the position lies outside the snapshot",
    100 UNKNOWN_TOPIC_ID retriable "no topic has this id",
    101 DUPLICATE_BROKER_REGISTRATION fatal "another broker is registered under this id",
    102 BROKER_ID_NOT_REGISTERED fatal "the broker is not registered",
    103 INCONSISTENT_TOPIC_ID retriable "the topic's id is not the one of the log",
    104 INCONSISTENT_CLUSTER_ID fatal "the cluster's id is not the one of the request",
    105 TRANSACTIONAL_ID_NOT_FOUND fatal "there is no such transactional id",
    106 FETCH_SESSION_TOPIC_ID_ERROR retriable "the fetch session can't mix topic names and topic ids",
    107 INELIGIBLE_REPLICA fatal "the replica is not eligible for the in-sync set",
    108 NEW_LEADER_ELECTED fatal "a new leader has been elected",
    109 OFFSET_MOVED_TO_TIERED_STORAGE fatal "the offset has moved to tiered storage",
    110 FENCED_MEMBER_EPOCH fatal "the member's epoch has been fenced",
    111 UNRELEASED_INSTANCE_ID fatal "another member still holds this group instance id",
    112 UNSUPPORTED_ASSIGNOR fatal "the assignor is not supported",
    113 STALE_MEMBER_EPOCH fatal "the member's epoch is out of date",
    114 MISMATCHED_ENDPOINT_TYPE fatal "the endpoint is of the wrong type for this request",
    115 UNSUPPORTED_ENDPOINT_TYPE fatal "this type of endpoint is not supported",
    116 UNKNOWN_CONTROLLER_ID fatal "no controller has this id",
    117 UNKNOWN_SUBSCRIPTION_ID fatal "no subscription has this id",
    118 TELEMETRY_TOO_LARGE fatal "the telemetry is larger than allowed",
    119 INVALID_REGISTRATION fatal "the registration is invalid",
    120 TRANSACTION_ABORTABLE fatal "the transaction must be aborted",
    121 INVALID_RECORD_STATE fatal "the record's state does not allow this",
    122 SHARE_SESSION_NOT_FOUND retriable "there is no such share session",
    123 INVALID_SHARE_SESSION_EPOCH retriable "the share session's epoch is out of step",
    124 FENCED_STATE_EPOCH fatal "the share state's epoch is out of date",
    125 INVALID_VOTER_KEY fatal "the voter's key does not match",
    126 DUPLICATE_VOTER fatal "the voter exists already",
    127 VOTER_NOT_FOUND fatal "there is no such voter",
    128 INVALID_REGULAR_EXPRESSION fatal "the regular expression is invalid",
    129 REBOOTSTRAP_REQUIRED fatal "the client must bootstrap again",
    130 STREAMS_INVALID_TOPOLOGY fatal "the streams topology is invalid",
    131 STREAMS_INVALID_TOPOLOGY_EPOCH fatal "the streams topology's epoch is invalid",
    132 STREAMS_TOPOLOGY_FENCED fatal "the streams topology's epoch is out of date",
    133 SHARE_SESSION_LIMIT_REACHED retriable "there are too many share sessions",
}
