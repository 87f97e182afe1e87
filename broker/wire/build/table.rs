//! The field tables as they stand in the JSON files.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Message {
    pub api_key: Option<i16>,
    #[serde(rename = "type")]
    pub kind: MessageKind,
    pub name: String,
    pub valid_versions: String,
    pub flexible_versions: String,
    pub fields: Vec<Field>,
    #[serde(default)]
    pub common_structs: Vec<CommonStruct>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MessageKind {
    Request,
    Response,
    Header,
    Data,
    CoordinatorKey,
    CoordinatorValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommonStruct {
    pub name: String,
    pub versions: String,
    pub fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub versions: String,
    pub nullable_versions: Option<String>,
    pub tagged_versions: Option<String>,
    pub tag: Option<u32>,
    pub flexible_versions: Option<String>,
    #[serde(default)]
    pub ignorable: bool,
    pub default: Option<serde_json::Value>,
    #[serde(default)]
    pub fields: Vec<Field>,
}
