//! Points in time as a person or a script writes them: milliseconds since 1970, or RFC 3339.

use thiserror::Error;

#[derive(Debug, Error, PartialEq)]
#[error("not a time: write milliseconds since 1970 or 2026-01-31T12:00:00Z")]
pub(crate) struct NotATime;

const MS_PER_DAY: i64 = 86_400_000;

/// Reads `text` as milliseconds since 1970.
pub(crate) fn parse(text: &str) -> Result<i64, NotATime> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| NotATime);
    }
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let [year, month, day] = numbers(date, '-').ok_or(NotATime)?;
    let (time, offset_ms) = split_offset(time)?;
    let (clock, fraction_ms) = match time.split_once('.') {
        Some((clock, fraction)) => (clock, fraction_to_ms(fraction)?),
        None => (time, 0),
    };
    let [hour, minute, second] = numbers(clock, ':').ok_or(NotATime)?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return Err(NotATime);
    }
    let of_day_ms = ((hour * 60 + minute) * 60 + second) * 1000 + fraction_ms;
    let since_epoch_ms = days_since_epoch(year, month, day) * MS_PER_DAY + of_day_ms - offset_ms;
    if since_epoch_ms < 0 { Err(NotATime) } else { Ok(since_epoch_ms) }
}

/// Milliseconds since 1970 as RFC 3339, to the second.
pub(crate) fn format(ms: i64) -> String {
    let (days, of_day_s) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY) / 1000);
    // At most a day of the next year is guessed.
    let mut year = 1970 + days * 400 / 146_097;
    while days_since_epoch(year, 1, 1) > days {
        year -= 1;
    }
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut day = days - days_since_epoch(year, 1, 1);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let (hour, minute, second) = (of_day_s / 3600, of_day_s / 60 % 60, of_day_s % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

/// Splits `Z`, `+02:00` or `-02:00` off the end; a time without one is UTC.
fn split_offset(time: &str) -> Result<(&str, i64), NotATime> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Ok((time, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Ok((time, 0)) };
    let [hours, minutes] = numbers(&time[at + 1..], ':').ok_or(NotATime)?;
    if hours > 23 || minutes > 59 {
        return Err(NotATime);
    }
    let offset_ms = (hours * 60 + minutes) * 60_000;
    Ok((&time[..at], if time[at..].starts_with('-') { -offset_ms } else { offset_ms }))
}

fn fraction_to_ms(fraction: &str) -> Result<i64, NotATime> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotATime);
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    Ok(digits.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0')))
}

/// Exactly `N` unsigned numbers of at most four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for number in &mut numbers {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let leap_days_before = |year: i64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let of_years = (year - 1970) * 365 + leap_days_before(year) - leap_days_before(1970);
    let of_months: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    of_years + of_months + day - 1
}

#[cfg(test)]
mod tests {
    use super::{NotATime, format, parse};

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(format(951_827_696_789), "2000-02-29T12:34:56Z");
        for ms in (0..253_402_300_799_000).step_by(86_400_000 * 13 + 3_723_000) {
            assert_eq!(parse(&format(ms)), Ok(ms), "{ms}");
        }
    }

    #[test]
    fn the_forms_that_people_and_scripts_write() {
        let check = |text: &str, expected: i64| assert_eq!(parse(text), Ok(expected), "{text}");
        check("0", 0);
        check("1700000000000", 1_700_000_000_000);
        check("1970-01-01T00:00:00Z", 0);
        check("2000-02-29T12:34:56.789Z", 951_827_696_789);
        check("2026-11-22T20:00:00+02:00", 1_795_370_400_000);
        check("2026-11-22 18:00:00.5", 1_795_370_400_500);
        check("2026-11-22", 1_795_305_600_000);
        check("9999-12-31T23:59:59Z", 253_402_300_799_000);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "-1",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1T24:00:00Z",
            "1969-12-31",
            "1970-01-01T00:00:00+01:00",
            "2026-01-01T00:00",
            "2026-01-01T00:00:00.Z",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text), Err(NotATime), "{text}");
        }
    }
}
