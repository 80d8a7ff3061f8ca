//! Names in certificates (RFC 5280 section 4.1.2.4), as a person would call whoever bears one. Not for comparing.

use super::der::{Reader, SEQUENCE};

/// Longer names are cut.
const NAME_MAX: usize = 120;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// `common name (organisation)`, or what there is of it; what a name holds is given.
pub(super) fn shown(name: &[u8]) -> Option<String> {
    let (mut common, mut organisation) = (None, None);
    let mut sets = Reader::new(name);
    while let Some((tag, set)) = sets.next() {
        if tag != SET {
            return None;
        }
        let mut attributes = Reader::new(set);
        while let Some((SEQUENCE, attribute)) = attributes.next() {
            let mut attribute = Reader::new(attribute);
            let kind = attribute.expect(OBJECT_IDENTIFIER)?;
            let value = text(attribute.next()?);
            match kind {
                COMMON_NAME => common = Some(value),
                ORGANISATION => organisation = Some(value),
                _ => {}
            }
        }
    }
    Some(match (common, organisation) {
        (Some(common), Some(organisation)) if common != organisation => {
            format!("{common} ({organisation})")
        }
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => "(no name)".to_owned(),
    })
}

/// A string of any of the types that names have, made harmless: whoever made the certificate chose it.
fn text((tag, content): (u8, &[u8])) -> String {
    let decoded = match tag {
        BMP_STRING => {
            let (pairs, _) = content.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(content).into_owned(),
    };
    let printable = |c: &char| c.is_alphanumeric() || c.is_ascii_graphic() || *c == ' ';
    decoded.chars().filter(printable).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::super::summary;
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
        date_time_ymd,
    };
    use std::time::Duration;

    fn params(names: &[(DnType, &str)]) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        params.not_before = date_time_ymd(1960, 1, 1);
        params.not_after = date_time_ymd(2051, 1, 1);
        params
    }

    #[test]
    fn whose_it_is_and_who_signed_it() {
        let mut root = params(&[
            (DnType::CommonName, "Inspecting root\u{1b}[31m"),
            (DnType::OrganizationName, "Example Ltd"),
            (DnType::CountryName, "DE"),
        ]);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let own = summary(root.self_signed(&root_key).unwrap().der()).unwrap();
        assert!(own.self_issued);
        assert_eq!(own.subject, "Inspecting root[31m (Example Ltd)");
        let issuer = Issuer::new(root, root_key);
        for (names, shown) in [
            (vec![(DnType::CommonName, "login.example")], "login.example"),
            (vec![(DnType::OrganizationName, "Example")], "Example"),
            (vec![(DnType::CountryName, "DE")], "(no name)"),
            (vec![], "(no name)"),
        ] {
            let key = KeyPair::generate().unwrap();
            let leaf = params(&names).signed_by(&key, &issuer).unwrap();
            let seen = summary(leaf.der()).unwrap();
            assert!(!seen.self_issued);
            assert_eq!((&*seen.subject, &*seen.issuer), (shown, &*own.subject));
            assert_eq!(seen.not_before, Duration::ZERO);
            assert_eq!(seen.not_after, Duration::from_secs(2_556_144_000));
        }
    }
}
