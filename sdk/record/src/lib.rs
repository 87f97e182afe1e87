//! Kafka record batch v2, pure: no I/O, no unsafe.
