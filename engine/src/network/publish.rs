//! Published ports: how a user writes one, and the nftables rules that make it work.
//!
//! All rules of a root are in one table of its own, which is replaced as a whole and atomically; nobody else's rules
//! are touched.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::address::Subnet;

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads to a port of an instance: `[ADDRESS:]HOST_PORT:PORT[/tcp|/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; all of its addresses when 0.0.0.0.
    pub address: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The instance's port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl FromStr for PublishedPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; write [ADDRESS:]HOST_PORT:PORT[/tcp|/udp], as in 8080:80");
        let (rest, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some((_, other)) => return Err(wrong(&format!("no protocol {other:?}"))),
        };
        let mut parts = rest.rsplitn(3, ':');
        let port = parts.next().unwrap_or_default();
        let host_port = parts.next().ok_or_else(|| wrong("no host port"))?;
        let number = |s: &str| match s.parse() {
            Ok(0) | Err(_) => Err(wrong(&format!("{s:?} is not a port from 1 to 65535"))),
            Ok(n) => Ok(n),
        };
        let address = parts.next().map_or(Ok(Ipv4Addr::UNSPECIFIED), |a| {
            a.parse().map_err(|_| wrong(&format!("{a:?} is not an IPv4 address")))
        })?;
        Ok(Self { address, host_port: number(host_port)?, port: number(port)?, protocol })
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}:{}->{}/{protocol}", self.address, self.host_port, self.port)
    }
}

/// The whole table, as input for `nft -f -`: what leaves the subnet is masqueraded, published ports are led in.
pub(super) fn ruleset(bridge: &str, subnet: Subnet, ports: &[(Ipv4Addr, PublishedPort)]) -> String {
    let mut text = format!("add table ip {bridge}\nflush table ip {bridge}\ntable ip {bridge} {{\n");
    // Output hooks want the priority as a number (nft 1.0.6).
    for hook in ["prerouting", "output"] {
        let _ = writeln!(text, "  chain {hook} {{\n    type nat hook {hook} priority -100;");
        for (instance, port) in ports {
            let destination = match port.address {
                Ipv4Addr::UNSPECIFIED => "fib daddr type local".to_owned(),
                address => format!("ip daddr {address}"),
            };
            let protocol = if port.protocol == Protocol::Tcp { "tcp" } else { "udp" };
            let _ = writeln!(
                text,
                "    {destination} {protocol} dport {} dnat to {instance}:{}",
                port.host_port, port.port
            );
        }
        text.push_str("  }\n");
    }
    // Beyond the way out: a connection from the host's loopback, and one from an instance to a published port of
    // itself or its neighbour, would be answered to the wrong address.
    let _ = write!(
        text,
        "  chain postrouting {{\n    type nat hook postrouting priority 100;\n    \
         ip saddr {subnet} oifname != \"{bridge}\" masquerade\n    \
         ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade\n    \
         ip saddr {subnet} ip daddr {subnet} ct status dnat masquerade\n  }}\n}}\n"
    );
    text
}

/// Input for `nft -f -` that removes the table, whether it is there or not.
pub(super) fn no_rules(bridge: &str) -> String {
    format!("add table ip {bridge}\ndelete table ip {bridge}\n")
}

/// Hands rules to `nft`, which applies all of them or none.
pub(super) fn apply(rules: &str) -> Result<(), String> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run nft ({e}); install the package nftables or use `--network none`"))?;
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(rules.as_bytes()));
    let output = nft.wait_with_output().map_err(|e| format!("cannot wait for nft: {e}"))?;
    if output.status.success() && written.is_ok() {
        return Ok(());
    }
    Err(format!("nft refused the rules: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_as_docker_writes_them() {
        let port: PublishedPort = "8080:80".parse().unwrap();
        assert_eq!(port.to_string(), "0.0.0.0:8080->80/tcp");
        let port: PublishedPort = "127.0.0.1:53:5353/udp".parse().unwrap();
        assert_eq!(port.to_string(), "127.0.0.1:53->5353/udp");
    }

    #[test]
    fn refuses_what_is_not_a_port_and_says_how_to_write_one() {
        for text in
            ["", "80", "0:80", "80:0", "65536:80", "x:80", "host:80:80", "80:80/sctp", "1:2:3:4", "-1:80"]
        {
            let error = text.parse::<PublishedPort>().unwrap_err();
            assert!(error.contains("as in 8080:80"), "{text}: {error}");
        }
    }

    #[test]
    fn the_table_leads_each_port_in_from_outside_and_from_the_host() {
        let ports = [
            (Ipv4Addr::new(10, 213, 0, 2), "8080:80".parse().unwrap()),
            (Ipv4Addr::new(10, 213, 0, 3), "127.0.0.1:53:53/udp".parse().unwrap()),
        ];
        let rules = ruleset("carve0", "10.213.0.0/24".parse().unwrap(), &ports);
        assert_eq!(rules.matches("fib daddr type local tcp dport 8080 dnat to 10.213.0.2:80").count(), 2);
        assert_eq!(rules.matches("ip daddr 127.0.0.1 udp dport 53 dnat to 10.213.0.3:53").count(), 2);
    }
}
