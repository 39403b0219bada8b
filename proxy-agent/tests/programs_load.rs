//! The kernel accepts every program of the object.

use aya::programs::{ProgramError, ProgramInfo};
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
        let program = loaded.program(name).expect("it is in the object");
        check(name.as_str(), program.info());
    }
    let program = loaded.xdp().expect("it is in the object");
    program.load().expect("the kernel takes it");
    check("xdp_outside", program.info());
}

fn check(name: &str, info: Result<ProgramInfo, ProgramError>) {
    let info = info.expect("a loaded program has an information record");
    let verified = info.verified_instruction_count().unwrap_or_default();
    let size = info.size_translated().unwrap_or_default() / 8;
    println!("{name:<20} {size:>6} instructions, {verified:>7} verified");
    assert!(verified < 500_000, "{name} is close to the limit");
}
