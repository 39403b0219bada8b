//! Reads a range of ports.

use std::str::FromStr;

use crate::config::PortRange;

impl FromStr for PortRange {
    type Err = String;

    /// Two ports with a dash between them, such as `61000-65535`, none of which needs
    /// a privilege.
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text
            .split_once('-')
            .ok_or("two ports with a dash between them are wanted, such as 61000-65535")?;
        let port = |text: &str| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|port| *port >= 1024)
                .ok_or_else(|| format!("`{text}` is no port from 1024 to 65535"))
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!("{first} is greater than {last}"));
        }
        Ok(Self { first, last })
    }
}
