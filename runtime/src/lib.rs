//! The plugin host: engine, sandbox, stages and pipelines. Knows no redb, no openraft, no Kafka messages.
