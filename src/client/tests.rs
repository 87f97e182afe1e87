//! The client against a broker whose faults are ordered.

mod fake_broker;
mod port;
