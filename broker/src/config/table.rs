//! The macro that turns rows into a typed struct and the list of their definitions.

/// Each row: `field: Type, "key" = default | null, range, effect, [synonyms], "documentation";`
macro_rules! config_table {
    (@default null) => { None };
    (@default $default:literal) => { Some($default) };
    (
        $(#[$meta:meta])*
        pub struct $name:ident, $table:ident $(, { $($extra:ident: $extra_type:ty),* })?;
        $(
            $field:ident: $type:ty, $key:literal = $default:tt, $valid:expr, $effect:ident,
            [$($synonym:literal $unit:ident),*], $doc:expr;
        )*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`")] pub $field: $type,)*
            $($(pub(super) $extra: $extra_type,)*)?
        }

        /// The rows, by name.
        pub static $table: &[$crate::config::definition::ConfigDef] = &[$(
            $crate::config::definition::ConfigDef {
                name: $key,
                config_type: <$type as $crate::config::value::ConfigValue>::TYPE,
                default: config_table!(@default $default),
                valid: $valid,
                effect: $crate::config::definition::Effect::$effect,
                synonyms: &[$($crate::config::definition::Synonym {
                    name: $synonym,
                    unit: $crate::config::definition::Unit::$unit,
                }),*],
                doc: $doc,
                parses: |text| <$type as $crate::config::value::ConfigValue>::parse(text).map(drop),
            },
        )*];

        impl $name {
            /// `text` gives a key's value where it is set; it has passed the key's validation. Elsewhere the
            /// default holds.
            pub(super) fn from_texts(text: impl Fn(&'static str) -> Option<String>) -> Self {
                Self {
                    $($field: {
                        let set = text($key);
                        let default: Option<&str> = config_table!(@default $default);
                        $crate::config::table::typed($key, set.as_deref().or(default))
                    },)*
                    $($($extra: Default::default(),)*)?
                }
            }
        }
    };
}

/// The typed value of a text that has been validated, or of a default, which a test validates.
pub(super) fn typed<T: super::value::ConfigValue>(key: &str, text: Option<&str>) -> T {
    match text {
        Some(text) => T::parse(text).unwrap_or_else(|e| panic!("{key} was not validated: {e}")),
        None => T::null().unwrap_or_else(|| panic!("{key} has neither a value nor a default")),
    }
}
