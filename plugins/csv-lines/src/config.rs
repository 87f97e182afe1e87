//! The pipeline's `config:`.

use serde::Deserialize;

/// As the crate's page describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    columns: Vec<String>,
    #[serde(default)]
    numbers: Vec<String>,
    #[serde(default)]
    output: Form,
    key: Option<String>,
    #[serde(default)]
    routes: Vec<RouteConfig>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    #[default]
    Json,
    Line,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteConfig {
    column: String,
    gte: f64,
    to: String,
}

/// A configuration that makes sense, with columns by their places.
pub(crate) struct Table {
    /// Each column's name, and whether it holds numbers.
    pub(crate) columns: Vec<(String, bool)>,
    pub(crate) form: Form,
    pub(crate) key: Option<usize>,
    pub(crate) routes: Vec<Route>,
}

pub(crate) struct Route {
    pub(crate) column: usize,
    pub(crate) gte: f64,
    pub(crate) to: String,
}

impl Config {
    pub(crate) fn check(self) -> Result<Table, String> {
        let Self { columns, numbers, output, key, routes } = self;
        if columns.is_empty() {
            return Err("`columns` is empty: name the fields of a line, in their order".to_owned());
        }
        let twice = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name));
        if let Some((_, name)) = twice {
            return Err(format!("`columns` names {name:?} twice"));
        }
        let place = |of: &str, name: &str| {
            let place = columns.iter().position(|column| column == name);
            place.ok_or_else(|| format!("`{of}` names {name:?}, which is none of the `columns`"))
        };
        for name in &numbers {
            place("numbers", name)?;
        }
        let key = key.map(|name| place("key", &name)).transpose()?;
        let route = |RouteConfig { column, gte, to }| {
            if !numbers.contains(&column) {
                return Err(format!("`routes` compares {column:?}, which is none of the `numbers`"));
            }
            Ok(Route { column: place("routes", &column)?, gte, to })
        };
        let routes = routes.into_iter().map(route).collect::<Result<_, _>>()?;
        let columns = columns.iter().map(|name| (name.clone(), numbers.contains(name))).collect();
        Ok(Table { columns, form: output, key, routes })
    }
}
