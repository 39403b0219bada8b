//! The kernel accepts every program of the object.

use proxy_agent::maps::{MapSizes, ProgramName, load};

const SIZES: MapSizes = MapSizes {
    frontends: 64,
    backends: 64,
    slots: 64,
    flows: 1024,
    node_addresses: 16,
};

/// The verifier's own limit is a million instructions walked; what it walks is
/// what loading costs at every start of the agent.
#[test]
fn every_program_passes_the_verifier() {
    let mut loaded = load(SIZES, None).expect("the object loads");
    for name in ProgramName::ALL {
        let info = loaded
            .program(name)
            .and_then(|program| {
                program
                    .info()
                    .map_err(|source| proxy_agent::maps::MapError::Program {
                        name: name.as_str(),
                        source,
                    })
            })
            .expect("a loaded program has an information record");
        let verified = info.verified_instruction_count().unwrap_or_default();
        let size = info.size_translated().unwrap_or_default() / 8;
        println!(
            "{:<20} {size:>6} instructions, {verified:>7} verified",
            name.as_str(),
        );
        assert!(
            verified < 500_000,
            "{} is close to the limit",
            name.as_str()
        );
    }
}
