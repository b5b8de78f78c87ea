//! Hardware addresses as people write them: `02:00:00:00:00:17`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The hardware address of a network card (EUI-48).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddress(pub [u8; 6]);

/// Not the text of an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hardware address; write six pairs of hexadecimal digits, as in 02:00:00:00:00:01")]
pub struct MacAddressError(String);

impl MacAddress {
    /// Whether it names several cards, which no card of its own can have.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MacAddressError(text.to_owned());
        let mut address = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut address {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            // `from_str_radix` would take a sign.
            let digits = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| digits).ok_or_else(bad)?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(address))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_people_write() {
        let address = MacAddress([0x02, 0, 0xab, 0xcd, 0xef, 0x17]);
        assert_eq!(address.to_string(), "02:00:ab:cd:ef:17");
        assert_eq!("02:00:AB:cd:EF:17".parse(), Ok(address));
        assert_eq!(serde_json::to_string(&address).unwrap(), r#""02:00:ab:cd:ef:17""#);
        assert_eq!(serde_json::from_str::<MacAddress>(r#""02:00:ab:cd:ef:17""#).unwrap(), address);
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02:00:00:00:00:+1"] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacAddressError(text.to_owned())), "{text}");
        }
        assert!(serde_json::from_str::<MacAddress>("\"x\"").is_err());
    }

    #[test]
    fn knows_group_addresses() {
        assert!("01:00:5e:00:00:01".parse::<MacAddress>().unwrap().is_group());
        assert!(!"02:00:00:00:00:01".parse::<MacAddress>().unwrap().is_group());
    }
}
