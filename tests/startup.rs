//! How a node begins and ends: what keeps it from starting is one clear line, and what it held is there again.

#[path = "support/node.rs"]
mod node;

use node::Node;

#[test]
fn sigterm_is_a_clean_end() {
    let node = Node::start();
    assert!(node.rss_bytes() > 0);
    let stopped = node.stop();
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.stderr());
}
