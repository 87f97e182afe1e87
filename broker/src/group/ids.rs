//! The names of groups and their members.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_id! {
    /// A group's id, as its clients chose it (`group.id`).
    GroupId
}
text_id! {
    /// A member's id, given out by the coordinator. The empty id is a client that has none yet.
    MemberId
}
text_id! {
    /// What a static member calls itself across restarts (`group.instance.id`, KIP-345).
    GroupInstanceId
}

impl MemberId {
    /// The id of a client that has not been given one.
    pub fn unknown() -> Self {
        Self::new("")
    }
}

/// Counts a group's rebalances; 0 before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub i32);

impl GenerationId {
    /// What a client sends that takes no part in a group's rebalances.
    pub const NONE: Self = Self(-1);

    pub fn next(self) -> Self {
        // After 2^31 rebalances counting starts again; negative generations mean "none" on the wire.
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
