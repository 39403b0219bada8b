//! Packets in fragments.

use super::{Fragment, Network, Packet, Transport};

impl Packet {
    /// The same in fragments, each with `size` bytes of what follows the IP header, which
    /// is a multiple of 8.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        let bytes = self.transport_bytes();
        let parts = bytes.chunks(size).enumerate();
        let fragment = |(number, part): (usize, &[u8])| {
            let start = number * size;
            Self {
                network: Network {
                    dont_fragment: false,
                    fragment: Some(Fragment {
                        offset: u16::try_from(start / 8).expect("a packet's length"),
                        more: start + part.len() < bytes.len(),
                    }),
                    ..self.network.clone()
                },
                transport: Transport::Other(self.protocol()),
                payload: part.to_vec(),
                ..self.clone()
            }
        };
        parts.map(fragment).collect()
    }
}
