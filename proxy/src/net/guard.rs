//! Which resolved addresses may be connected to. It looks at addresses after the resolver, for every attempt, never at the
//! spelling of a name: a name that is rebound to the metadata service is refused like the literal. Not a firewall: it guards this process's own dialling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a destination may resolve to, beside ordinary unicast addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Anything but the addresses that are never a destination, and but loopback.
    Remote,
    /// As `Remote`, and loopback too: the configured host is itself a loopback literal or `localhost`, or a proxy beside us.
    LoopbackToo,
    /// Loopback only: plain http may not leave the pod.
    LoopbackOnly,
}

impl Guard {
    /// The guard for a configured host: loopback names may resolve to loopback, others may not.
    /// `plain` asks for loopback only (plain http without an explicit permission).
    pub fn for_host(host: &str, plain: bool) -> Self {
        if plain {
            Self::LoopbackOnly
        } else if is_loopback_name(host) {
            Self::LoopbackToo
        } else {
            Self::Remote
        }
    }

    /// Whether a connection to `address` may be opened.
    pub fn allows(self, address: IpAddr) -> bool {
        let address = unmap(address);
        match self {
            Self::LoopbackOnly => address.is_loopback(),
            Self::LoopbackToo => address.is_loopback() || !never(address),
            Self::Remote => !address.is_loopback() && !never(address),
        }
    }
}

/// Whether a host is spelled as a loopback address or as `localhost` (RFC 6761 section 6.3).
pub fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => unmap(address).is_loopback(),
        Err(_) => {
            let name = bare.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost")
                || name.len() > 10
                    && name.is_char_boundary(name.len() - 10)
                    && name[name.len() - 10..].eq_ignore_ascii_case(".localhost")
        }
    }
}

/// IPv4 in its IPv6 disguises: mapped (::ffff:0:0/96), compatible (::/96), NAT64 (64:ff9b::/96 and 64:ff9b:1::/48, RFC 6052 and 8215), 6to4
/// (2002::/16, RFC 3056).
fn unmap(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // ::1 and :: are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => address,
    }
}

/// Never a destination: link-local (with it the metadata services at 169.254.169.254), the wire server of Azure, the metadata services of
/// Alibaba and (IPv6) AWS, unspecified, multicast, broadcast.
fn never(address: IpAddr) -> bool {
    const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const AWS_METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(a) => {
            a.octets()[0] == 0
                || a.is_link_local()
                || a.is_multicast()
                || a.is_broadcast()
                || a == AZURE_WIRE_SERVER
                || a == ALIBABA_METADATA
        }
        IpAddr::V6(a) => {
            a.is_unspecified()
                || a.is_unicast_link_local()
                || a.is_multicast()
                || a == AWS_METADATA_V6
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn metadata_and_link_local_are_never_a_destination() {
        for a in [
            "169.254.169.254",
            "169.254.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::168.63.129.16",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "::169.254.169.254",
        ] {
            assert!(!Guard::Remote.allows(ip(a)), "{a}");
            assert!(!Guard::LoopbackToo.allows(ip(a)), "{a}");
            assert!(!Guard::LoopbackOnly.allows(ip(a)), "{a}");
        }
    }

    #[test]
    fn loopback_needs_a_loopback_name() {
        for a in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!Guard::Remote.allows(ip(a)), "{a}");
            assert!(Guard::LoopbackToo.allows(ip(a)), "{a}");
            assert!(Guard::LoopbackOnly.allows(ip(a)), "{a}");
        }
        for a in ["10.0.0.1", "20.190.160.1", "2603:1006::1"] {
            assert!(Guard::Remote.allows(ip(a)), "{a}");
            assert!(Guard::LoopbackToo.allows(ip(a)), "{a}");
            assert!(!Guard::LoopbackOnly.allows(ip(a)), "{a}");
        }
    }

    #[test]
    fn names_of_loopback() {
        for n in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
            "::1",
            "[::1]",
        ] {
            assert!(is_loopback_name(n), "{n}");
        }
        for n in [
            "localhost.example.com",
            "notlocalhost",
            "10.0.0.1",
            "127.0.0.1.example.com",
            "",
            "éééééé.localhos",
        ] {
            assert!(!is_loopback_name(n), "{n}");
        }
        assert_eq!(Guard::for_host("localhost", false), Guard::LoopbackToo);
        assert_eq!(Guard::for_host("example.com", false), Guard::Remote);
        assert_eq!(Guard::for_host("localhost", true), Guard::LoopbackOnly);
    }
}
