//! Names for people: no program reads them.

/// Value of `SERVICE_NAMES`: what the Service port of an id is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ServiceName {
    /// How many of the bytes are the name's.
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

impl ServiceName {
    /// Three names of at most 63 bytes each (RFC 1123 labels), and what is between them.
    pub const MAX_LEN: usize = 63 + 1 + 63 + 1 + 63;

    /// A name from its text, of which no more is kept than there is room for.
    pub fn new(text: &str) -> Self {
        let text = Self::fitting(text);
        let mut bytes = [0; Self::MAX_LEN];
        bytes
            .iter_mut()
            .zip(text.bytes())
            .for_each(|(to, from)| *to = from);
        Self {
            len: u8::try_from(text.len()).unwrap_or(u8::MAX),
            bytes,
        }
    }

    /// As much of a text as there is room for.
    pub fn fitting(text: &str) -> &str {
        let end = text.floor_char_boundary(Self::MAX_LEN);
        text.get(..end).unwrap_or_default()
    }

    /// The text; empty where it is no agent's work.
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len));
        bytes
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_full_length_is_kept() {
        let label = "x".repeat(63);
        let text = format!("{label}/{label}:{label}");
        assert_eq!(ServiceName::new(&text).text(), text);
    }

    #[test]
    fn what_is_longer_is_cut_off_between_characters() {
        let text = format!("{}ü", "x".repeat(ServiceName::MAX_LEN - 1));
        assert_eq!(ServiceName::new(&text).text(), &text[..190]);
        assert_eq!(ServiceName::fitting(&text), &text[..190]);
    }
}
