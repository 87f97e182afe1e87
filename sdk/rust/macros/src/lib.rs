//! The attribute macros of `millstream-sdk`.
