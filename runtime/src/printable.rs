//! Text from outside on its way to people: to a log, a status, a terminal.

/// One line that is safe to print: no control characters, and no more bytes than that.
pub fn printable(text: &str, bytes_max: usize) -> String {
    let mut safe = String::new();
    for character in text.chars() {
        let character = if is_unsafe(character) { '\u{fffd}' } else { character };
        if safe.len() + character.len_utf8() > bytes_max {
            break;
        }
        safe.push(character);
    }
    safe
}

/// Control characters move a terminal's cursor; the bidirectional ones reorder what is read.
fn is_unsafe(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\x1b[31mred\r\nb", 100), "a\u{fffd}[31mred\u{fffd}\u{fffd}b");
        assert_eq!(printable("tab\there \u{202e}x", 100), "tab\there \u{fffd}x");
    }

    #[test]
    fn the_limit_is_that_of_the_result() {
        assert_eq!(printable(&"\u{e9}".repeat(100), 99).len(), 98);
        assert_eq!(printable(&"\x1b".repeat(100), 99), "\u{fffd}".repeat(33));
    }
}
