//! X.509 certificates (RFC 5280), as far as this process looks into them itself: when they are good, and whose they are. Whether to trust one is
//! rustls's business.

mod der;
mod name;

use der::{GENERALIZED_TIME, Reader, SEQUENCE, UTC_TIME};
use std::time::Duration;

/// When a certificate is good, in seconds since the epoch, both ends included (RFC 5280 section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub not_before: i64,
    /// Until then.
    pub not_after: i64,
}

/// What a certificate says of itself, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The subject's common name and organisation, as far as there are such.
    pub subject: String,
    /// The issuer's.
    pub issuer: String,
    /// Subject and issuer are one: signed by nobody else, or a root.
    pub self_issued: bool,
    /// Good from then on, since the epoch.
    pub not_before: Duration,
    /// Good until then, since the epoch.
    pub not_after: Duration,
}

/// Reads the validity of a certificate in DER. `None`: it is no certificate.
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    fields(certificate).map(|fields| fields.validity)
}

/// Reads whose a certificate in DER is, and when it is good. `None`: it is no certificate.
pub fn summary(certificate: &[u8]) -> Option<Summary> {
    let fields = fields(certificate)?;
    // What lies before the epoch is as good as the epoch.
    let since = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Some(Summary {
        subject: name::shown(fields.subject)?,
        issuer: name::shown(fields.issuer)?,
        self_issued: fields.subject == fields.issuer,
        not_before: since(fields.validity.not_before),
        not_after: since(fields.validity.not_after),
    })
}

/// The fields that are looked into (RFC 5280 section 4.1).
struct Fields<'d> {
    issuer: &'d [u8],
    validity: Validity,
    subject: &'d [u8],
}

fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let signed = Reader::new(certificate).expect(SEQUENCE)?;
    let mut tbs = Reader::new(Reader::new(signed).expect(SEQUENCE)?);
    // Version (of v1 certificates it is left out), serial number, algorithm.
    tbs.skip_if(der::context(0));
    tbs.expect(der::INTEGER)?;
    tbs.expect(SEQUENCE)?;
    let issuer = tbs.expect(SEQUENCE)?;
    let mut times = Reader::new(tbs.expect(SEQUENCE)?);
    Some(Fields {
        issuer,
        validity: Validity {
            not_before: time(&mut times)?,
            not_after: time(&mut times)?,
        },
        subject: tbs.expect(SEQUENCE)?,
    })
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`: the only forms that certificates may have.
fn time(reader: &mut Reader<'_>) -> Option<i64> {
    let (tag, text) = reader.next()?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 } else { 1900 } + year, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut fields = [0_i64; 5];
    if rest.len() != 2 * fields.len() {
        return None;
    }
    for (i, field) in fields.iter_mut().enumerate() {
        *field = rest.get(2 * i..2 * i + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = fields;
    let right = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    right.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March: the leap day is the last one.
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719 468: from 0000-03-01 to the epoch.
    year * 365 + leap + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn made(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["webhook".into()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate.der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // From 2050 on, times have four digits of the year.
        for (from, to) in [
            ((1970, 1, 1), (2049, 12, 31)),
            ((2024, 2, 29), (2024, 3, 1)),
            ((2100, 2, 28), (2100, 3, 1)),
            ((1969, 12, 31), (2400, 2, 29)),
        ] {
            let read = validity(&made(from, to)).unwrap();
            let seconds = |(y, m, d)| date_time_ymd(y, m, d).unix_timestamp();
            assert_eq!(
                (read.not_before, read.not_after),
                (seconds(from), seconds(to))
            );
        }
    }

    #[test]
    fn times_in_no_proper_form_are_none() {
        let read = |tag: u8, text: &str| {
            let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
            der.extend_from_slice(text.as_bytes());
            time(&mut Reader::new(&der))
        };
        assert_eq!(read(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(read(GENERALIZED_TIME, "19700101010000Z"), Some(3600));
        for (tag, text) in [
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "700101000000+0100"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "700100000000Z"),
            (UTC_TIME, "700101240000Z"),
            (UTC_TIME, "+00101000000Z"),
            (GENERALIZED_TIME, "700101000000Z"),
            (GENERALIZED_TIME, "19700101000000.5Z"),
            (der::INTEGER, "700101000000Z"),
            (UTC_TIME, ""),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_taken_for_one(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
            static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| made((2024, 1, 1), (2025, 1, 1)));
            let mut good = GOOD.clone();
            let at = at.index(good.len());
            prop_assert_eq!(validity(good.get(..at).unwrap()), None);
            good[at] ^= 0xff;
            // Whatever comes of these, it is no panic.
            let _ = (validity(&good), validity(&bytes), summary(&good), summary(&bytes));
        }
    }
}
