//! Kafka's protocol messages, generated from its field tables.
