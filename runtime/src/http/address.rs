//! Which addresses a name may stand for. Whoever names a host does not decide what it resolves to: a name that points
//! into the node's own network would let a plugin reach what trusts that network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The internet.
    Public,
    Loopback,
    /// A private network: RFC 1918, unique local addresses, and those of carriers.
    Private,
    /// Nothing that a server is reached by: link-local addresses (with the metadata services of clouds), multicast,
    /// reserved ranges, and those of documentation.
    Special,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [10, ..] | [192, 168, ..] => Self::Private,
            [172, second, ..] if second & 0xf0 == 16 => Self::Private,
            // Metadata services, of which one lies among the addresses of carriers, and one among the public ones.
            [169, 254, ..] | [100, 100, 100, 200] | [168, 63, 129, 16] => Self::Special,
            [100, second, ..] if second & 0xc0 == 64 => Self::Private,
            [0 | 224..=255, ..] => Self::Special,
            [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Self::Special,
            [198, 51, 100, _] | [203, 0, 113, _] => Self::Special,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let segments = address.segments();
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match segments {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Special,
            // Addresses of IPv4 in other clothes: mapped, compatible, translated by NAT64, and 6to4.
            [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                embedded(high, low)
            }
            [0x2002, high, low, ..] => embedded(high, low),
            // Metadata services.
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
            | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
            | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
            | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Self::Special,
            [first, ..] if first & 0xfe00 == 0xfc00 => Self::Private,
            // Teredo and other protocols' own, documentation.
            [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => Self::Special,
            // The only part of all addresses that is given out.
            [first, ..] if first & 0xe000 == 0x2000 => Self::Public,
            _ => Self::Special,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_whatever_they_are_wrapped_in() {
        let cases = [
            (
                Reach::Public,
                "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.1.1 223.255.255.255 \
                 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2001:200::1",
            ),
            (
                Reach::Loopback,
                "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1::",
            ),
            (
                Reach::Private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 fc00::1 fdff::1 ::ffff:10.1.2.3 \
                 64:ff9b::192.168.0.1",
            ),
            (
                Reach::Special,
                "0.0.0.0 0.1.2.3 169.254.169.254 100.100.100.200 168.63.129.16 fd00:ec2::254 fd20:ce::254 \
                 fd00:c1::a9fe:a9fe fd00:42::42 ::ffff:168.63.129.16 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 192.0.0.1 192.0.2.1 \
                 198.18.0.1 198.51.100.1 203.0.113.1 192.88.99.1 :: fe80::1 fec0::1 ff02::1 2001:db8::1 2001::1 \
                 3fff::1 100::1 64:ff9b:1::1 ::ffff:169.254.169.254 5f00::1 4000::1",
            ),
        ];
        for (reach, addresses) in cases {
            for address in addresses.split_whitespace() {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }
}
