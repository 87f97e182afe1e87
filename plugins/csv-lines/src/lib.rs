//! Lines of separated values to JSON, by the names of their columns, and to topics by a number in them.
//!
//! ```yaml
//! config:
//!   columns: [DateTime, Latitude, Longitude, Magnitude]
//!   numbers: [Latitude, Longitude, Magnitude]   # an empty field is null
//!   output: json          # the default; or line: what is right goes on as it is, in front of a topic for instance
//!   key: DateTime         # the column that becomes the record's key; without it the key stays
//!   routes:               # the first that holds; a line for which none does goes to the first of the stage's `to:`
//!     - {column: Magnitude, gte: 5, to: quakes.strong}
//! ```
//!
//! A field may stand in double quotes, in which two of them are one. A line is rejected if it is not UTF-8, has another
//! number of fields than there are columns, a quote that does not end, or text where a number should be.

mod config;
mod line;

use config::{Config, Form, Table};
use millstream_sdk::prelude::*;
use serde_json::{Map, Value};

struct CsvLines(Table);

#[transform]
impl Transform for CsvLines {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check().map(Self).map_err(Error::stop)
    }

    fn record(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result<()> {
        let Table { columns, form, key, routes } = &self.0;
        let text = record.text()?;
        let fields = line::fields(text.strip_suffix('\r').unwrap_or(text)).map_err(Error::reject)?;
        if fields.len() != columns.len() {
            return Err(Error::reject(format!("{} fields, not {}", fields.len(), columns.len())));
        }
        let mut values = Vec::with_capacity(fields.len());
        for ((name, is_number), field) in columns.iter().zip(&fields) {
            values.push(match is_number {
                true => {
                    number(field).map_err(|field| Error::reject(format!("{name} is {field:?}, no number")))?
                }
                false => Value::from(&**field),
            });
        }
        let route = routes
            .iter()
            .find(|route| values[route.column].as_f64().is_some_and(|number| number >= route.gte));
        let mut made = out.record(&record);
        if let Form::Json = form {
            let names = columns.iter().map(|(name, _)| name.clone());
            made = made.json(&names.zip(values).collect::<Map<String, Value>>());
        }
        if let Some(key) = key {
            made = made.key(fields[*key].as_bytes());
        }
        if let Some(route) = route {
            made = made.topic(&route.to);
        }
        made.emit()
    }
}

/// An empty field is null; the error is what is no number.
fn number(field: &str) -> std::result::Result<Value, &str> {
    match field.trim() {
        "" => Ok(Value::Null),
        text => {
            let whole = text.parse::<i64>().map(Value::from);
            let number =
                whole.ok().or_else(|| text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from));
            number.ok_or(field)
        }
    }
}

#[cfg(test)]
mod tests;
