//! The time of a request: `17/May/2015:10:05:03 +0000`.

use crate::line::{LineError, excerpt};

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A moment, and the clock on the wall where the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    year: u16,
    month: u16,
    day: u16,
    hour: u16,
    minute: u16,
    /// 60 in a leap second.
    second: u16,
    zone_minutes: i16,
}

impl Time {
    pub(crate) fn parse(time: &[u8]) -> Result<Self, LineError> {
        let wrong = || LineError::Time(excerpt(time));
        let [
            d1,
            d2,
            b'/',
            month @ ..,
            b'/',
            y1,
            y2,
            y3,
            y4,
            b':',
            h1,
            h2,
            b':',
            m1,
            m2,
            b':',
            s1,
            s2,
            b' ',
            sign,
            z1,
            z2,
            z3,
            z4,
        ] = time
        else {
            return Err(wrong());
        };
        let month =
            MONTHS.iter().zip(1..).find(|(name, _)| name.eq_ignore_ascii_case(month)).ok_or_else(wrong)?.1;
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0, |number, &byte| {
                byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0')).ok_or_else(wrong)
            })
        };
        let zone_minutes = 60 * number(&[*z1, *z2])?.cast_signed() + number(&[*z3, *z4])?.cast_signed();
        let parsed = Self {
            year: number(&[*y1, *y2, *y3, *y4])?,
            month,
            day: number(&[*d1, *d2])?,
            hour: number(&[*h1, *h2])?,
            minute: number(&[*m1, *m2])?,
            second: number(&[*s1, *s2])?,
            zone_minutes: match sign {
                b'+' => zone_minutes,
                b'-' => -zone_minutes,
                _ => return Err(wrong()),
            },
        };
        if !parsed.exists() {
            return Err(LineError::NoSuchTime(excerpt(time)));
        }
        if parsed.epoch_ms() < 0 {
            return Err(LineError::BeforeEpoch);
        }
        Ok(parsed)
    }

    /// RFC 3339, with the server's own offset.
    pub(crate) fn to_rfc3339(self) -> String {
        let Self { year, month, day, hour, minute, second, zone_minutes } = self;
        let local = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        match zone_minutes {
            0 => local + "Z",
            _ => {
                let sign = if zone_minutes < 0 { '-' } else { '+' };
                let zone = zone_minutes.unsigned_abs();
                format!("{local}{sign}{:02}:{:02}", zone / 60, zone % 60)
            }
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn epoch_ms(self) -> i64 {
        let minutes = (self.days() * 24 + i64::from(self.hour)) * 60 + i64::from(self.minute);
        ((minutes - i64::from(self.zone_minutes)) * 60 + i64::from(self.second)) * 1000
    }

    /// Days since 1970-01-01. Years are counted from March here, so that the leap day is a year's last.
    fn days(self) -> i64 {
        let (year, month) = (i64::from(self.year), i64::from(self.month));
        let (year, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        // Five months from March on have 153 days, and so have the next five.
        let day_of_year = (153 * months + 2) / 5 + i64::from(self.day) - 1;
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        let day_of_epoch = 719_468;
        year * 365 + leap_days + day_of_year - day_of_epoch
    }

    fn exists(self) -> bool {
        let year = self.year;
        let is_leap_year = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match self.month {
            2 if is_leap_year => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (1..=days).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && self.zone_minutes.unsigned_abs() < 24 * 60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(time: &str, rfc3339: &str, epoch_ms: i64) {
        let parsed = Time::parse(time.as_bytes()).unwrap();
        assert_eq!((parsed.to_rfc3339().as_str(), parsed.epoch_ms()), (rfc3339, epoch_ms));
    }

    #[test]
    fn times() {
        check("17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03Z", 1_431_857_103_000);
        check("01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00Z", 0);
        check("10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00", 971_211_336_000);
        check("29/Feb/2024:23:59:59 +0530", "2024-02-29T23:59:59+05:30", 1_709_231_399_000);
        check("01/Mar/2100:00:00:00 +0000", "2100-03-01T00:00:00Z", 4_107_542_400_000);
        check("31/Dec/2016:23:59:60 +0000", "2016-12-31T23:59:60Z", 1_483_228_800_000);
    }

    #[test]
    fn what_is_no_time() {
        let check = |time: &str, expect| assert_eq!(Time::parse(time.as_bytes()), Err(expect));
        for time in ["", "17/May/2015:10:05:03", "17/Mai/2015:10:05:03 +0000", "1x/May/2015:10:05:03 +0000"] {
            check(time, LineError::Time(time.to_owned()));
        }
        check("2015-05-17T10:05:03Z", LineError::Time("2015-05-17T10:05:03Z".to_owned()));
        for time in ["30/Feb/2024", "29/Feb/2100", "00/Jan/2024", "31/Apr/2024"] {
            let time = format!("{time}:00:00:00 +0000");
            check(&time, LineError::NoSuchTime(time.clone()));
        }
        for time in ["24:00:00 +0000", "00:60:00 +0000", "00:00:61 +0000", "00:00:00 +2400"] {
            let time = format!("01/Jan/2024:{time}");
            check(&time, LineError::NoSuchTime(time.clone()));
        }
        check("31/Dec/1969:23:59:59 +0000", LineError::BeforeEpoch);
    }
}
