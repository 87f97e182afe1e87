//! A line's fields.

use std::borrow::Cow;

/// Splits at commas that are in no quotes.
pub(crate) fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or_else(|| {
                format!("field {}: its quote does not end where the field does", fields.len() + 1)
            })?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..end]), &rest[end..])
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// What is behind an opening quote, and what is behind the closing one: nothing, or a comma.
fn unquoted(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut from = 0;
    loop {
        let end = from + quoted[from..].find('"')?;
        let behind = &quoted[end + 1..];
        if behind.starts_with('"') {
            from = end + 2;
            continue;
        }
        let field = &quoted[..end];
        let field = if from > 0 { field.replace("\"\"", "\"").into() } else { Cow::Borrowed(field) };
        return (behind.is_empty() || behind.starts_with(',')).then_some((field, behind));
    }
}
