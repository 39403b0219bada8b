//! Fields of outer headers that both IP versions compute alike.

/// The class of service without the bits for congestion: the outer header does not take
/// part in its notification (RFC 6040, section 4.3, compatibility mode).
pub(crate) const CLASS: u8 = 0xfc;

/// The length field of the outer header, from the inner one's. 0 where there is no room
/// for it: then the packet will be cut into segments, which have fields of their own.
#[inline(always)]
pub(crate) fn outer_length(inner: u16, more: usize) -> u32 {
    let inner = usize::from(u16::from_be(inner));
    let length = inner + more;
    if inner == 0 || length > usize::from(u16::MAX) {
        0
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "16 bits")]
        let length = length as u32;
        length
    }
}
